//! What a server or a person that was put out must not hear any more, what was taken back must not be told, and what one
//! poisoned room must not stop: real servers beside one that lies on purpose (T48 to T68).
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
