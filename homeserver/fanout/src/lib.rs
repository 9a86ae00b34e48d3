//! Committed changes, on their way to whoever waits: live sockets, `/sync`, the federation sender; and what is never
//! stored: cursors, typing and presence.
//!
//! Nothing here blocks a commit, and no change of a document is dropped silently: a subscriber whose queue is full is
//! told so and brings its reader up to date by a diff. This crate must not decide rights or write to rooms.

pub mod awareness;
mod edit_frame;
pub mod ephemeral;
mod hub;
pub mod ports;
pub mod presence;
mod subscription;

pub use awareness::{Awareness, Joined};
pub use edit_frame::EditFrame;
pub use ephemeral::{Ephemeral, Receipt, ReceiptError};
pub use hub::{Fanout, Wake};
pub use ports::{EduSink, Member, MembershipView};
pub use presence::Presence;
pub use subscription::{Change, RoomSubscription};
