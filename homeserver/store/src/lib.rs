//! The interface of key-value engines, the typed tables over it, and the positions of the commit stream.
//!
//! All data that Weft stores goes through [`Store`]. Must not assume that the engine is local or synchronous, must not
//! know which engine it is, and must not decide anything about rooms or users: it stores rows.

mod batch;
pub mod binary;
pub mod catalogue;
pub mod contract;
pub mod engine;
mod errors;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../fuzz/checks.rs"]
pub mod fuzz_checks;
pub mod key;
pub mod lane;
#[cfg(any(test, feature = "testing"))]
pub mod latency;
pub mod memory;
mod owned;
mod place;
mod positions;
mod query;
mod request;
mod schema;
mod store;
mod stream;
mod table;
pub mod tables;
pub mod value;
mod writer;

pub use batch::Batch;
pub use engine::{Engine, KeyRange, WriteBatch};
pub use errors::{CommitError, OpenError, ReadError};
pub use lane::{Lane, Lanes, MAX_LANES, Placed};
pub use positions::{LanePositions, Positions, Reserved, VisiblePositions};
pub use query::{LimitedQuery, Query};
pub use schema::SCHEMA_VERSION;
pub use store::{OpenOptions, Store};
pub use stream::RowStream;
pub use table::{ListedBy, Scope, Table};

// The macros `json_value!` and `tables!` name these in other crates.
#[doc(hidden)]
pub use bytes;
#[doc(hidden)]
pub use serde_json;
