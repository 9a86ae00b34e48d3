//! `weft-load`: a measured load on a server of this protocol, and the same load on other servers of Yjs documents and of
//! Matrix, from raw clients in one process. One file a scenario; each gives [`report::Figure`]s and asserts no time.
//!
//! Talks the protocol from outside, as everything in this crate; what it knows of a server beside that is its process
//! number, to read processor time and memory from the system.

pub mod cli;
pub mod edit;
pub mod events;
pub mod federation_in;
pub mod growth;
pub mod history;
pub mod http;
pub mod join;
pub mod local;
pub mod machine;
pub mod many_clients;
pub mod open;
pub mod peers;
pub mod process;
pub mod report;
pub mod restart;
pub mod results;
pub mod seen;
pub mod socket;
pub mod sync;
pub mod target;
pub mod typing;

/// A line about how far it has come, on standard error.
pub(crate) fn progress(text: &str) {
    eprintln!("    {text}");
}
