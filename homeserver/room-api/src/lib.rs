//! The seam of the rooms: commands, replies, errors and changes as data, and the ports that rooms need.
//!
//! A room may be served by another process, so nothing here is a lock, a channel or a reference. Must not contain a rule
//! of rooms: `weft-room` has them.

mod change_bus;
mod command;
mod create;
mod edit;
mod edit_request;
mod errors;
mod event;
mod event_forms;
mod membership;
mod ports;
mod room_change;
mod router;
#[cfg(feature = "testing")]
pub mod testing;

pub use change_bus::{ChangeBus, Changes, Delivery, Interest, LocalBus, Missed};
pub use command::{RoomCommand, RoomHint, RoomReply, RoutedCommand, UnsignedEvent};
pub use create::{CreateRoom, InitialState, NewRoom, Preset};
pub use edit::{CurrentText, Edit, EditOutcome, EditToSend, Fill, Partly, RefusedContent};
pub use edit_request::{RequestKey, RequestOutcome, RequestedEdit};
pub use errors::{
    AdoptRefusal, ContentRefusal, CreateRefusal, DirectoryRefusal, EDITS_PER_DOCUMENT, EDITS_PER_USER, EditRefusal,
    EventRefusal, LimitExceeded, MembershipRefusal, OutOfBandRefusal, Outcome, RefusedEdit, RoomError, Unavailable,
};
pub use event::{EventOfText, NewEvent, StateCondition, UnsentEvent};
pub use membership::{Accepted, JoinAnswer, JoinedRoom, Lacks, SignedMembership, Template, TemplateKind};
pub use ports::{Identity, PeerError, Peers, Ports, StateIds};
pub use room_change::{CommittedEvent, ConnectionId, Incarnation, LiveEdit, RoomChange};
pub use router::RoomRouter;
pub use weft_clock::{Clock, SystemClock};
