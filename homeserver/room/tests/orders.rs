//! Lies about documents, in every order of arrival: two contents for one clock, one client id owned on two branches, edits
//! from before a ban, updates that are held back and cited later. All honest servers end with one state, one text and one
//! list of what is refused, and so does a server that joins afterwards and works all of it out from the events.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

#[path = "orders/lies.rs"]
mod lies;
#[path = "orders/many_events.rs"]
mod many_events;
#[path = "orders/scenario.rs"]
mod scenario;
