//! Search in titles, texts, comments and chat of documents: an index on disk, the task that keeps it up to date, and queries.
//!
//! The index is derived: it can be deleted at any time and is built again. Must not decide who may see a result: queries name
//! the documents, and the caller checks each hit.

mod documents;
mod error;
mod follow;
mod index;
mod passages;
mod query;
mod searches;
mod snippet;
mod words;

pub use error::SearchError;
pub use follow::Indexer;
pub use index::{REBUILD_MARK, SearchIndex};
pub use query::{Hit, Part, Query};
pub use searches::{SearchRefused, Searches, visible_message};
pub use snippet::{Snippet, snippet};
pub use words::{Phrase, phrases};
