//! This server and a stock Synapse, in rooms of each current version, created on either side: joining and leaving,
//! moderation, downtime and forks of the state, profiles, keys, and documents that users of Synapse edit. Must not
//! patch Synapse.
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
#[path = "synapse/files.rs"]
mod files;
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
