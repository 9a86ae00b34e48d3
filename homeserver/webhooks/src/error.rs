//! Why something about webhooks is refused or not possible. Must not know status codes.

use weft_accounts::AccountsUnavailable;
use weft_room_api::Unavailable;
use weft_store::{CommitError, ReadError};

/// Why a command about webhooks was not done.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// There is none with this id, or it belongs to another owner.
    #[error("there is no such webhook")]
    NotFound,
    /// The URL can't be used.
    #[error("the URL {0}")]
    Url(&'static str),
    /// No event has this name.
    #[error("there are no events named {0:?}")]
    EventName(String),
    /// A limit on the number of webhooks.
    #[error("{whose} can have at most {limit} webhooks")]
    TooMany {
        /// Whose webhooks are counted.
        whose: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// The user has sent too many tests.
    #[error("too many tests of webhooks")]
    Limited {
        /// Milliseconds until the next one is possible.
        retry_after_ms: u64,
    },
    /// The rows can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The rows can't be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Rooms can't be read.
    #[error(transparent)]
    Rooms(#[from] Unavailable),
    /// Accounts can't be read.
    #[error(transparent)]
    Accounts(#[from] AccountsUnavailable),
}
