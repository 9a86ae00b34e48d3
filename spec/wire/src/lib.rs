//! The names, shapes and limits on which two servers, or a client and a server, must agree.
//!
//! Contains event types and contents, the EDUs for awareness and presence, the frames of the live socket, the bodies of the
//! document API, roles, error codes and all limits on external input. The specification is in `spec/docs`, the vectors are in
//! `spec/vectors`. This crate must not do I/O, read a clock or depend on storage.

pub mod anchor;
pub mod archive;
pub mod audit;
pub mod awareness;
pub mod document;
pub mod errcode;
pub mod event_types;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../fuzz/checks.rs"]
pub mod fuzz_checks;
pub mod limits;
pub mod live;
pub mod lock;
pub mod mxc;
pub mod presence;
pub mod purpose;
pub mod resolution;
pub mod rest;
pub mod role;
pub mod schema;
pub mod snapshot;
pub mod suggestion;
pub mod trace_context;
pub mod update;
pub mod witness;

pub use role::Role;
