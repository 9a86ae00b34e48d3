//! What all APIs of the homeserver need of HTTP: authentication, budgets of connections and bytes, rate limits, errors as
//! status and Matrix error code, and the services that two APIs share.
//!
//! Must not contain an endpoint, write to a room's tables, run a CRDT engine, or log tokens, keys or document text.

pub mod authentication;
pub mod client_address;
pub mod conditional;
pub mod cors;
pub mod errors;
pub mod files;
mod guests;
pub mod ignored;
pub mod membership_lock;
pub mod openapi;
pub mod path;
pub mod public_rooms;
pub mod ratelimit;
pub mod ruma_json;
pub mod text_reads;
pub mod traffic;
