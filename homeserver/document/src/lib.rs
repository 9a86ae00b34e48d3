//! An open document: the acknowledged text, what of it is sealed and what is pending, its snapshots, and what readers see
//! of it.
//!
//! A room's worker owns the [`OpenText`]; its rows go into the batch of the worker's turn. Must not decide about rights or
//! about which updates are part of the text, and must not run a CRDT engine.

mod open_text;
mod published;
pub mod seal;
mod stored_text;

pub use open_text::{
    AdmittedUpdate, CopiedPast, EditUpdate, Examined, FoldJob, Folded, GrowingText, OpenText, Origin, PointOfText,
    Replacement, ReservedNumbers, RunId, VectorsAfter,
};
pub use published::{Published, Readable};
pub use stored_text::{stored_text, stored_vector};
