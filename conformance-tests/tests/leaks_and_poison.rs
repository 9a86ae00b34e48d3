//! Removed servers and users receive nothing more, redacted content is not sent, and a poisoned room does not affect
//! others: real servers and a malicious one (T48 to T68). Must not share servers between tests.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

#[path = "leaks_and_poison/clocks.rs"]
mod clocks;
#[path = "leaks_and_poison/devices.rs"]
mod devices;
#[path = "leaks_and_poison/leaving.rs"]
mod leaving;
#[path = "leaks_and_poison/poison.rs"]
mod poison;
#[path = "leaks_and_poison/redacted.rs"]
mod redacted;
#[path = "leaks_and_poison/rejected.rs"]
mod rejected;
#[path = "leaks_and_poison/snapshot.rs"]
mod snapshot;
#[path = "lies/stage.rs"]
#[allow(dead_code, reason = "the stage serves another file of tests as well")]
mod stage;
