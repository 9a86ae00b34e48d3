//! What a webhook belongs to, and its key in the tables. Must not decide about rights.

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use weft_store::{Lane, Store};

/// A document, or a user: then all documents that the user has joined.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A document.
    Document(OwnedRoomId),
    /// A user of this server.
    User(OwnedUserId),
}

impl Owner {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Document(room) => room.as_str(),
            Self::User(user) => user.as_str(),
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.starts_with('@') {
            return UserId::parse(text).ok().map(Self::User);
        }
        RoomId::parse(text).ok().map(Self::Document)
    }

    pub(crate) fn lane(&self, store: &Store) -> Lane {
        match self {
            Self::Document(room) => store.lane_of(&**room),
            Self::User(user) => store.lane_of(&**user),
        }
    }
}

/// Which webhook.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) owner: Owner,
    pub(crate) id: String,
}

impl Key {
    /// The key of its rows.
    pub(crate) fn row<'a>(&'a self, store: &Store) -> (Lane, &'a str, &'a str) {
        (self.owner.lane(store), self.owner.as_str(), &self.id)
    }
}
