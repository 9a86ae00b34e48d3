//! The write path: one worker task per active room, the only writer of that room.
//!
//! The input is a command (create, send, edit, events of other servers). The output is one atomic batch for the store
//! and a [`RoomChange`] for the bus. Reads need no worker: they are in [`Reader`].
//! This crate must not know a URL, a socket or a CRDT engine, and must not assume that the store is local or
//! synchronous.

pub mod access;
mod active_room;
pub mod adopt;
mod background;
mod change_bus;
pub mod command;
mod compose;
pub mod create;
pub mod directory;
mod dispute;
mod document;
pub mod edit;
pub mod errors;
mod event_forms;
mod fetch;
mod fold;
mod history;
mod indexes;
mod ingest;
mod jobs;
mod joining;
mod mailbox;
mod membership_chain;
pub mod membership_templates;
pub mod out_of_band;
mod peer_selection;
mod pending_commit;
pub mod ports;
mod pruned;
mod published;
pub mod reader;
mod reconcile;
mod recovery;
mod registry;
mod relations;
mod resend;
pub mod room_change;
mod room_tasks;
mod rooms;
pub mod router;
mod seal;
mod sealing;
pub mod send;
pub mod staging;
mod stored_text;
mod tally;
#[cfg(feature = "testing")]
pub mod testing;
mod witness;
mod work_out;
mod worker;

pub use access::Access;
pub use adopt::JoinedRoom;
pub use change_bus::{ChangeBus, Changes, Delivery, Interest, LocalBus, Missed};
pub use command::{RoomCommand, RoomHint, RoomReply, RoutedCommand};
pub use create::{CreateRoom, InitialState, Preset};
pub use edit::{CurrentText, Edit, EditOutcome, OpenDocument, Partly, RefusedContent};
pub use errors::{
    AdoptRefusal, ContentRefusal, CreateRefusal, DirectoryRefusal, EditRefusal, EventRefusal, LimitExceeded,
    MembershipRefusal, OutOfBandRefusal, Outcome, RoomError, Unavailable,
};
pub use history::ComingHistory;
pub use indexes::build_indexes;
pub use joining::Joining;
pub use membership_templates::{JoinAnswer, Template, TemplateKind};
pub use out_of_band::{InvitationBounds, OutOfBandMembership};
pub use ports::{Identity, PeerError, Peers, Ports, StateIds};
pub use reader::{
    Direction, Page, Place, Reader, RoomMembership, Since, StoredEvent, TimelineEvent, Types, UnsignedData,
};
pub use room_change::{CommittedEvent, ConnectionId, Incarnation, LiveEdit, RoomChange};
pub use rooms::{RoomConfig, Rooms};
pub use router::RoomRouter;
pub use send::{NewEvent, StateCondition, UnsentEvent};
pub use weft_clock::{Clock, SystemClock};
