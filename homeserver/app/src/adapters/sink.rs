//! Passes committed changes on to fanout (local clients) and to the federation sender (other servers). Must not block.

use std::sync::Arc;

use weft_fanout::Fanout;
use weft_federation::outbox::Sender;
use weft_room::{CommitSink, Committed};

/// Passes each change to both.
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
