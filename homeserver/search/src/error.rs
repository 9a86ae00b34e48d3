//! Why a search failed. Must not contain text of a document.

/// A failure of the index.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The index can't be read or written.
    #[error("the search index failed: {0}")]
    Index(#[from] tantivy::TantivyError),
    /// Its folder can't be used.
    #[error("the folder of the search index can't be used: {0}")]
    Folder(#[from] std::io::Error),
    /// A task of the index ended.
    #[error("a task of the search index ended")]
    Ended,
}
