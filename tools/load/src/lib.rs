//! `weft-load`: a measured load on a server of this protocol, and the same load on other Yjs servers and Matrix
//! servers, from raw clients in one process. Each scenario has one file, returns [`report::Figure`]s and asserts no
//! duration.
//!
//! Uses only the protocol and the servers and clients of the conformance tests. In addition it knows the server's process id, to read processor
//! time and memory from the system.

pub mod audit;
pub mod cli;
pub mod edit;
pub mod edit_rest;
mod etherpad;
pub mod events;
pub mod federation_in;
pub mod growth;
pub mod history;
pub mod hostile;
pub mod http;
pub mod join;
pub mod large;
pub mod local;
pub mod machine;
pub mod many_clients;
pub mod media;
pub mod open;
pub mod peers;
pub mod process;
pub mod report;
pub mod restart;
pub mod results;
pub mod search;
pub mod seen;
pub mod socket;
pub mod sync;
pub mod target;
pub mod typing;
pub mod versions;

/// Prints a line of progress to standard error.
pub(crate) fn progress(text: &str) {
    eprintln!("    {text}");
}
