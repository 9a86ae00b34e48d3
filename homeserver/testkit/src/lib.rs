//! The services of one server in this process, for tests of the crates above rooms: a store in memory, rooms, accounts
//! and fan-out, without other servers.
//!
//! A test adds the API that it calls. Must not be a dependency of shipped code.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod person;
mod ports;
mod server;

pub use person::Person;
pub use ports::{NoEdus, RoomMembers};
pub use server::{ServerSetup, TestServer};
