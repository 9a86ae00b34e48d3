//! A typed table: its name, where its rows lie, and the types of its keys and values.

use std::marker::PhantomData;

use bytes::Bytes;

use crate::key::{AsKey, AsPrefix, Key, KeyWriter, Layout};
use crate::query::Query;
use crate::value::Value;

/// What the keys of a table begin with. Rows of one scope id lie together, across tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Nothing: the table is one range.
    Global,
    /// A room id is the first part.
    Room,
    /// A user id is the first part.
    User,
    /// A server name is the first part.
    Server,
}

impl Scope {
    /// The first byte of the keys.
    #[must_use]
    pub const fn tag(self) -> u8 {
        match self {
            Self::Global => b'g',
            Self::Room => b'r',
            Self::Server => b's',
            Self::User => b'u',
        }
    }
}

/// A table. All of them stand in [`mod@crate::tables`], made by [`crate::tables!`].
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
    /// Describes a table. `tag` must be its own for ever: it is in every key.
    #[must_use]
    pub const fn new(name: &'static str, scope: Scope, tag: u16) -> Self {
        Self {
            name,
            layout: Layout { scope, tag },
            types: PhantomData,
        }
    }

    /// Its name, for errors and people.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Where its rows lie.
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
        // A whole key has at least one part unless the table is a global single row, so there is always a scope.
        self.physical_prefix(key).unwrap_or_default()
    }

    /// The physical bytes that the keys with these parts begin with; None where a scope is needed and not named.
    pub(crate) fn physical_prefix(&self, prefix: &impl AsPrefix<K>) -> Option<Bytes> {
        let mut writer = KeyWriter::new(self.layout);
        prefix.write_prefix(&mut writer);
        writer.finish()
    }
}
