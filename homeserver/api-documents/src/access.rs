//! The record of reads (user, document, kind of content), as a port. Must not record what was read, and must not delay a request.

use ruma::{RoomId, UserId};

/// What a user read of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// The whole text, or what a state vector lacks of it.
    Content,
    /// The rendered text, also an earlier one, with or without its authors, or the difference of two.
    Rendered,
    /// The signed log.
    Audit,
}

impl Read {
    /// Its name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Rendered => "rendered",
            Self::Audit => "audit",
        }
    }
}

/// A log of reads.
pub trait AccessLog: Send + Sync + 'static {
    /// Records that a user was sent something of a document.
    fn note(&self, user: &UserId, document: &RoomId, read: Read);
}

/// A log that keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAccessLog;

impl AccessLog for NoAccessLog {
    fn note(&self, _: &UserId, _: &RoomId, _: Read) {}
}
