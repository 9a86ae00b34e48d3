//! The services of one or several servers in this process, for tests: a store in memory, rooms, accounts and fan-out, and
//! requests between servers with the faults that a test needs.
//!
//! A test adds the API that it calls, or the order of deliveries. Must not be a dependency of shipped code.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test")]

mod editor;
mod events;
mod gate;
mod network;
mod peers;
mod person;
mod ports;
mod rooms;
mod server;
mod world_peers;

pub use editor::{Editor, content_of, text_of, update_content, update_content_from};
pub use events::{check, check_json, joined_room, new_event, sign_template, user, verify};
pub use gate::{Gate, GatedEngine};
pub use network::MemoryNetwork;
pub use peers::{Conduct, Link, LinkedPeers, Request, refused, unreachable};
pub use person::Person;
pub use ports::{NoEdus, RoomMembers};
pub use rooms::RoomsSetup;
pub use server::{ServerSetup, TestServer};
pub use world_peers::{WorldPeers, joined_world};
