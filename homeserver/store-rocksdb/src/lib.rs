//! The embedded engine: RocksDB with the engine interface of `weft-store`.
//!
//! The only crate that names RocksDB. Must not know any table, and must not block a thread that runs async tasks.

mod acknowledged;
mod commit;
mod descriptors;
mod engine;
mod framing;
mod logs;
mod open;
mod options;
mod overlay;
mod read;

pub use engine::RocksEngine;
pub use open::{OpenReport, RocksOpenError};
pub use options::RocksOptions;
