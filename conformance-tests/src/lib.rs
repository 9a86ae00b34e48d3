//! Black-box tests for any server of this protocol: real processes, TLS on loopback, stock editors.
//!
//! Must not depend on a server's code: it uses HTTP and WebSocket, reads exit codes, and kills processes.

pub mod assistant;
pub mod attacks;
pub mod authority;
pub mod client;
pub mod editors;
pub mod event_stream;
pub mod external;
pub mod lines;
pub mod link;
pub mod live;
pub mod malicious;
pub mod matrix;
pub mod namespaces;
pub mod python;
pub mod receiver;
pub mod seaweed;
pub mod server;
pub mod soak;
pub mod synapse;
pub mod world;
