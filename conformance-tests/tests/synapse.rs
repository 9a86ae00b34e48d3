//! Between this server and a stock Synapse, in rooms of each version that new ones have, begun on either side: ways in and
//! out, moderation, time away and forks of the state, people, keys; and documents that people on Synapse edit.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

#[path = "synapse/documents.rs"]
mod documents;
#[path = "synapse/doors.rs"]
mod doors;
#[path = "synapse/forks.rs"]
mod forks;
#[path = "synapse/gaps.rs"]
mod gaps;
#[path = "synapse/keys.rs"]
mod keys;
#[path = "synapse/moderation.rs"]
mod moderation;
#[path = "synapse/pair.rs"]
mod pair;
#[path = "synapse/people.rs"]
mod people;
