//! The write path: one worker task per active room, the only writer of that room.
//!
//! The input is a command (create, send, edit, events of other servers). The output is one atomic batch for the store
//! and a [`weft_room_api::RoomChange`] for the bus. Reads need no worker: they are in [`weft_room_read::Reader`].
//! This crate must not know a URL, a socket or a CRDT engine, and must not assume that the store is local or
//! synchronous.

pub mod access;
mod active_room;
pub mod adopt;
mod background;
mod compose;
pub mod create;
pub mod directory;
mod dispute;
pub mod edit;
mod fetch;
mod fold;
mod forward_extremities;
mod history;
mod indexes;
mod jobs;
mod joining;
mod links;
mod mailbox;
pub mod membership_templates;
mod merge;
pub mod out_of_band;
mod pace;
mod pending_commit;
mod pruned;
mod reconcile;
mod recovery;
mod registry;
mod relations;
mod resend;
mod room_tasks;
mod rooms;
pub mod router;
mod sealing;
pub mod send;
mod send_edit;
mod send_of_text;
pub mod staging;
mod witness;
mod work_out;
mod worker;

pub use edit::OpenDocument;
pub use history::ComingHistory;
pub use indexes::build_indexes;
pub use joining::Joining;
pub use links::{AddedGuest, END_GUESTS};
pub use out_of_band::{InvitationBounds, OutOfBandMembership};
pub use pace::EditRates;
pub use rooms::{RoomConfig, Rooms};
