//! Yjs v1 updates as data: parse, admit, state vector, diff, cut, merge, split, compact.
//!
//! An update is a list of blocks `(client, clock, length, content bytes)` and a set of deleted ranges. This crate works
//! on that list and never builds the document: no CRDT engine, no unsafe code, no recursion. Every function is total:
//! any byte string gives a value or an error, in time and memory linear in its length (plus sorting of unsorted input).
//! Must not do I/O, use clocks or randomness, or know which users may write.
//!
//! The rules are in `spec/docs/updates.md` and `spec/docs/admission.md`, the test vectors in `spec/vectors/crdt`.

mod admission;
mod block;
mod builder;
mod compact;
mod content;
mod cut;
mod delete_set;
mod diff;
mod document;
mod entries;
mod id;
mod json;
pub mod lib0;
pub mod limits;
mod live;
mod merge;
mod nesting;
mod order;
mod parse;
mod split;
mod state_hash;
mod state_vector;
mod update;
mod value;

pub use admission::{Admission, Known, Refusal, admit, admit_bytes, admit_within};
pub use block::{BlockView, Kind, Parent};
pub use compact::compact;
pub use cut::cut;
pub use delete_set::DeleteSet;
pub use diff::diff;
pub use document::{ApplyError, Document};
pub use entries::{WithoutEntries, without_entries};
pub use id::{ClientId, Id};
pub use limits::Bounds;
pub use live::{LiveUpdate, Refused, Taken, take_live};
pub use merge::{MergeError, merge};
pub use parse::{Malformed, ParseError};
pub use split::{SplitError, split};
pub use state_hash::StateHash;
pub use state_vector::StateVector;
pub use update::Update;
