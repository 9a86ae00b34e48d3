//! Tests of the client-server API through its router, with real rooms and accounts and the memory engine.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

#[path = "client/aggregations.rs"]
mod aggregations;
#[path = "client/bounds.rs"]
mod bounds;
#[path = "client/broken_disk.rs"]
mod broken_disk;
#[path = "client/documents_chat.rs"]
mod documents_chat;
#[path = "client/elsewhere.rs"]
mod elsewhere;
#[path = "client/gaps.rs"]
mod gaps;
#[path = "client/guessing.rs"]
mod guessing;
#[path = "client/ignored.rs"]
mod ignored;
#[path = "client/peer.rs"]
mod peer;
#[path = "client/people.rs"]
mod people;
#[path = "client/receipts.rs"]
mod receipts;
#[path = "client/redactions.rs"]
mod redactions;
#[path = "client/rooms.rs"]
mod rooms;
#[path = "client/sessions.rs"]
mod sessions;
#[path = "client/strangers.rs"]
mod strangers;
#[path = "client/sync.rs"]
mod sync;
#[path = "client/sync_everything.rs"]
mod sync_everything;
#[path = "client/sync_lanes.rs"]
mod sync_lanes;
#[path = "client/sync_state.rs"]
mod sync_state;
#[path = "client/unread.rs"]
mod unread;
#[path = "client/world.rs"]
mod world;
