//! Committed changes, to everybody who passes them on: fanout for those here, the sender for other servers.

use std::sync::Arc;

use weft_fanout::Fanout;
use weft_federation::outbox::Sender;
use weft_room::{CommitSink, Committed};

/// Both at once.
pub(crate) struct ChangeFanout {
    pub(crate) fanout: Fanout,
    pub(crate) sender: Sender,
}

impl CommitSink for ChangeFanout {
    fn committed(&self, change: Arc<Committed>) {
        self.sender.wake(&change.destinations);
        self.fanout.committed(change);
    }
}
