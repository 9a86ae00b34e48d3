//! What deciding about other servers' events needs of a room, and what comes out of it.
//!
//! The room's worker is the one that has all this; tests have it in memory. Must not know how a commit is written.

use std::sync::Arc;

use async_trait::async_trait;
use ruma::{EventId, OwnedEventId, RoomId};
use weft_dag::{Authorized, ChainCover, Pdu, RoomVersion, StateMap, StateView};
use weft_store::tables::rooms::event_flags;

use crate::Unavailable;

/// An event that the room has.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The event; knows whether it was rejected.
    pub(crate) pdu: Arc<Pdu>,
    /// Only known as part of a state or an auth chain: what it follows isn't here.
    pub(crate) outlier: bool,
    /// An update that came redacted, so that its text is not known.
    pub(crate) pruned: bool,
}

impl Known {
    /// An event with its `event_flags`.
    pub(crate) fn new(pdu: Arc<Pdu>, flags: u8) -> Self {
        Self {
            pdu,
            outlier: flags & event_flags::OUTLIER != 0,
            pruned: flags & event_flags::PRUNED != 0,
        }
    }
}

/// An event that was decided about, for the commit.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    /// The event with the verdict of the rules.
    pub(crate) authorized: Authorized,
    /// The state before it. For an outlier: of what it cites.
    pub(crate) before: StateMap,
    /// Only part of a state or an auth chain: no place in the log, no end of the graph, no change of the current state.
    pub(crate) outlier: bool,
    /// We are the first to have it (a join through us): the room's other servers are to be told.
    pub(crate) relay: bool,
    /// Rows of the staging table that are done with it.
    pub(crate) staged: Vec<u64>,
}

/// One room. What was appended counts at once, also before it is committed.
#[async_trait]
pub(crate) trait Graph: Send + Sync {
    /// The room.
    fn room_id(&self) -> &RoomId;
    /// Its version.
    fn version(&self) -> &RoomVersion;
    /// The state of now.
    fn current(&self) -> &StateView;
    /// The accepted events that nothing follows.
    fn extremities(&self) -> Vec<OwnedEventId>;
    /// The chain index of its state events.
    fn cover(&self) -> &ChainCover;
    /// An event.
    async fn event(&self, id: &EventId) -> Result<Option<Known>, Unavailable>;
    /// The state after an event; None where the event is unknown or an outlier.
    async fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, Unavailable>;
    /// Takes a decided event in.
    async fn append(&mut self, incoming: Incoming) -> Result<(), Unavailable>;
}
