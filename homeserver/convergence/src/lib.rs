//! Which updates are part of a document's text: pure functions of the events of a room, so that the texts of all servers
//! converge.
//!
//! [`admission`] checks an update against its causal past, [`rivals`] decides between two claims to the same clocks, and
//! [`rebuild`] computes the whole text from the events. [`skeleton`] and [`sequence`] do that event by event, in constant
//! memory for each, while no clock is claimed twice. The rules are specified in `spec/docs/admission.md`. Must not
//! read a store, a clock or a random number, and must not depend on the order in which events arrived.

pub mod admission;
mod conflicts;
pub mod rebuild;
pub mod rivals;
pub mod sequence;
pub mod skeleton;
