//! What two servers, or a client and a server, must agree on: names, shapes, limits.
//!
//! Event types and contents, the EDUs of cursors and presence, the frames of the live socket, the bodies of the document API, roles,
//! error codes and every limit on what comes from outside. The prose is in `spec/docs`, the vectors in `spec/vectors`.
//! This crate must not do I/O, read a clock or know how anything is stored.

pub mod awareness;
pub mod document;
pub mod errcode;
pub mod event_types;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../fuzz/checks.rs"]
pub mod fuzz_checks;
pub mod limits;
pub mod live;
pub mod presence;
pub mod rest;
pub mod role;
pub mod snapshot;
pub mod update;
pub mod witness;

pub use role::Role;
