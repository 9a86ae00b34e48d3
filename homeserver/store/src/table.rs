//! A typed table: its name, the layout of its keys, and the types of its keys and values. Must not know the meaning of
//! a row.

use std::marker::PhantomData;

use bytes::Bytes;

use crate::key::{AsKey, AsPrefix, Key, KeyWriter, Layout};
use crate::query::Query;
use crate::value::Value;

/// The first part of a table's keys, and with it the lane of a row. Rows of one scope id are adjacent, across tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Of the whole deployment: the table is one range, in no lane.
    Global,
    /// The first part is a room id.
    Room,
    /// The first part is a user id.
    User,
    /// The first part is a server name.
    Server,
    /// A list of a lane: each lane has one range of the table, which its owner reads as a whole.
    Lane(ListedBy),
}

/// How the lane of a row in a list of a lane is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListedBy {
    /// The first part of the key is the lane.
    Lane,
    /// The first part is a room id.
    Room,
    /// The first part is a user id.
    User,
    /// The first part is a server name.
    Server,
    /// The first part is an event id.
    Event,
    /// The first part is a room alias.
    Alias,
}

impl ListedBy {
    /// The tag with which the first part is placed ([`crate::lane::Placed::TAG`]); `None` if it is the lane.
    pub(crate) const fn placed_as(self) -> Option<u8> {
        match self {
            Self::Lane => None,
            Self::Room => Some(b'r'),
            Self::User => Some(b'u'),
            Self::Server => Some(b's'),
            Self::Event => Some(b'e'),
            Self::Alias => Some(b'a'),
        }
    }
}

impl Scope {
    /// The first byte of the keys.
    #[must_use]
    pub const fn tag(self) -> u8 {
        match self {
            Self::Global => b'g',
            Self::Lane(ListedBy::Lane) => b'l',
            // The bytes of earlier versions, in which these tables were one range of the store.
            Self::Lane(_) => b'g',
            Self::Room => b'r',
            Self::Server => b's',
            Self::User => b'u',
        }
    }

    /// Whether a key begins with the table and not with a scope id.
    pub(crate) const fn is_list(self) -> bool {
        self.tag() == Self::Global.tag()
    }
}

/// A table. All tables are in [`mod@crate::tables`], declared with [`crate::tables!`].
pub struct Table<K, V> {
    name: &'static str,
    layout: Layout,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> std::fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("name", &self.name)
            .field("layout", &self.layout)
            .finish()
    }
}

impl<K: Key, V: Value> Table<K, V> {
    /// Describes a table. `tag` must never be reused: it is in every key.
    #[must_use]
    pub const fn new(name: &'static str, scope: Scope, tag: u16) -> Self {
        Self {
            name,
            layout: Layout { scope, tag },
            types: PhantomData,
        }
    }

    /// The name, for errors and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The layout of its keys.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// A query for all rows whose key begins with these parts; `&()` for a whole global table.
    pub fn under(&'static self, prefix: &impl AsPrefix<K>) -> Query<K, V> {
        Query::new(self, prefix)
    }

    /// The physical bytes of a key.
    pub fn physical(&self, key: &impl AsKey<K>) -> Bytes {
        // A complete key has at least one part unless the table is a global single row, so it always has a scope.
        self.physical_prefix(key).unwrap_or_default()
    }

    /// The physical bytes with which the keys with these parts begin; `None` if the table needs a scope and none is
    /// given.
    pub(crate) fn physical_prefix(&self, prefix: &impl AsPrefix<K>) -> Option<Bytes> {
        let mut writer = KeyWriter::new(self.layout);
        prefix.write_prefix(&mut writer);
        writer.finish()
    }
}
