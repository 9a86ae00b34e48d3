//! Malicious events in documents, in every order of arrival: two contents for one clock, one client id with owners on
//! two branches, edits from before a ban, soft-failed updates that are referenced later. All honest servers get the
//! same state, text and set of rejected events, and so does a server that joins afterwards and computes all of it from
//! the events.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic reports a failure"
)]

#[path = "orders/lies.rs"]
mod lies;
#[path = "orders/many_events.rs"]
mod many_events;
#[path = "orders/scenario.rs"]
mod scenario;
