//! Delivers committed changes to subscribers: WebSockets, `/sync`, the federation sender. Also handles ephemeral
//! data, which is never stored in the graph: awareness, typing, receipts and presence.
//!
//! Nothing here blocks a commit, and no change of a document is dropped silently: a subscriber whose queue is full
//! gets `Lagged` and brings its reader up to date with a diff. This crate must not decide permissions or write to
//! rooms.

pub mod awareness;
mod edit_frame;
pub mod ephemeral;
mod hub;
pub mod ports;
pub mod presence;
mod subscription;
pub mod unread;

pub use awareness::{Awareness, Joined};
pub use edit_frame::EditFrame;
pub use ephemeral::{Ephemeral, Receipt, ReceiptError};
pub use hub::{Fanout, Wake};
pub use ports::{EduSink, Member, MembershipView};
pub use presence::Presence;
pub use subscription::{Change, RoomSubscription};
pub use unread::Unread;
