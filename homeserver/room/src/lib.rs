//! The write path: one worker task per active room, the only writer of that room.
//!
//! What comes in is a command (create, send, edit, events of other servers); what goes out is one atomic batch to the
//! store and a [`Committed`] to the sink. Reads need no worker: they are in [`Reader`].
//! This crate must know no URL, no socket and no CRDT engine, and may not assume that the store is local or synchronous.

pub mod access;
mod admission;
pub mod adopt;
pub mod clock;
pub mod committed;
mod compose;
mod conflicts;
pub mod create;
pub mod directory;
mod dispute;
mod document;
mod drain;
pub mod edit;
mod gaps;
mod history;
mod hollow;
mod hot;
pub mod intake;
mod joining;
mod mailbox;
pub mod membership_templates;
pub mod outside;
pub mod ports;
pub mod reader;
mod recovery;
mod registry;
mod relations;
mod repeat;
mod rivals;
mod room_tasks;
mod rooms;
mod seal;
mod sealing;
pub mod send;
mod stay;
mod tally;
#[cfg(feature = "testing")]
pub mod testing;
mod turn;
mod vouch;
mod whom_to_ask;
mod witness;
mod worker;

pub use access::{Access, AccessError};
pub use adopt::{AdoptError, JoinedRoom};
pub use clock::{Clock, SystemClock};
pub use committed::{Committed, CommittedEvent, LiveEdit, SessionId};
pub use create::{CreateError, CreateRoom, InitialState, Preset};
pub use directory::DirectoryError;
pub use edit::{ContentError, Edit, EditError, EditOutcome, OpenDocument, OpenError, Partly};
pub use history::ComingHistory;
pub use intake::ReceiveError;
pub use joining::Joining;
pub use membership_templates::{AcceptError, JoinAnswer, Template, TemplateError, TemplateKind};
pub use outside::{InvitationBounds, OutsideError, OutsideMembership};
pub use ports::{CommitSink, Identity, PeerError, Peers, Ports, StateIds};
pub use reader::{Beside, Direction, Page, Place, Reader, RoomMembership, Since, StoredEvent, TimelineEvent, Types};
pub use rooms::{RoomConfig, Rooms, Unavailable};
pub use send::{Drafted, NewEvent, SendError};
