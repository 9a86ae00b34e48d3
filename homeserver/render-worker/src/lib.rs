//! A render worker: a process that renders and edits one document after the other with a CRDT engine, in a sandbox
//! (`spec/docs/rendering.md`). The only crate of the server with an engine.
//!
//! A document is hostile input: the engine may panic, corrupt its memory, or use any amount of memory and time. The process
//! must therefore have nothing but its two pipes, and must not keep anything between two requests.

mod convert;
mod engine;
mod sandbox;
mod session;

pub use convert::main as convert;
pub use session::main;
