//! The HTTP interface of the homeserver: requests are parsed, authenticated, limited and answered here.
//!
//! Each area is a router over the services that it is given. Decisions about requests are made in `room`, `accounts` and
//! `fanout`; this crate must not write to a room's tables, run a CRDT engine, or log tokens, keys or document text.

pub mod authentication;
pub mod client;
pub mod client_address;
pub mod cors;
pub mod documents;
pub mod errors;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../fuzz/checks.rs"]
pub mod fuzz_checks;
pub mod health;
pub mod live;
pub mod ratelimit;
pub mod ruma_json;
pub mod server;
pub mod text_reads;
pub mod traffic;
pub mod web;
