//! What the decision about other servers' events needs of a room, and its result.
//!
//! The room's worker implements this; tests have an implementation in memory. Must not depend on how a commit is
//! written.

use std::sync::Arc;

use async_trait::async_trait;
use ruma::{EventId, OwnedEventId, RoomId};
use weft_dag::{Authorized, ChainCover, Pdu, RoomVersion, StateMap, StateView, event_flags};
use weft_room_api::Unavailable;

/// An event that the room has.
#[derive(Debug, Clone)]
pub struct Known {
    /// The event, with whether it was rejected.
    pub pdu: Arc<Pdu>,
    /// Only known as part of a state or an auth chain: its `prev_events` are not here.
    pub outlier: bool,
    /// An update that was received redacted, so that its content is not known.
    pub pruned: bool,
}

impl Known {
    /// An event with its `event_flags`.
    pub fn new(pdu: Arc<Pdu>, flags: u8) -> Self {
        Self {
            pdu,
            outlier: flags & event_flags::OUTLIER != 0,
            pruned: flags & event_flags::PRUNED != 0,
        }
    }
}

/// A decided event, for the commit.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The event with the verdict of the authorisation rules.
    pub authorized: Authorized,
    /// The state before it. For an outlier: the state of its auth events.
    pub before: StateMap,
    /// Only part of a state or an auth chain: no stream ordering, no forward extremity, no change of the current state.
    pub outlier: bool,
    /// This server is the first to have it (a join through it): it must be sent to the room's other servers.
    pub relay: bool,
    /// Rows of the staging table that are deleted with it.
    pub staged: Vec<u64>,
}

/// One room. An appended event has effect at once, also before its commit.
#[async_trait]
pub trait Graph: Send + Sync {
    /// The room.
    fn room_id(&self) -> &RoomId;
    /// Its version.
    fn version(&self) -> &RoomVersion;
    /// The current state.
    fn current(&self) -> &StateView;
    /// The forward extremities.
    fn extremities(&self) -> Vec<OwnedEventId>;
    /// The chain index of its state events.
    fn cover(&self) -> &ChainCover;
    /// Announces events that are decided about next, so that what they need can be read at the same time.
    async fn read_ahead(&mut self, _events: &[Arc<Pdu>]) -> Result<(), Unavailable> {
        Ok(())
    }
    /// Announces events that are read next.
    async fn read_events(&self, _ids: &[OwnedEventId]) -> Result<(), Unavailable> {
        Ok(())
    }
    /// An event.
    async fn event(&self, id: &EventId) -> Result<Option<Known>, Unavailable>;
    /// The state after an event; `None` if the event is unknown or an outlier.
    async fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, Unavailable>;
    /// Appends a decided event.
    async fn append(&mut self, incoming: Incoming) -> Result<(), Unavailable>;
}
