//! The catalogue of all tables: name, contents, purpose, and whether a table can be rebuilt from others. Must not
//! access a store.

use crate::table::Scope;
use crate::tables;

/// Whether the rows of a table are the source of truth or derived from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The source of truth: lost rows can't be recovered.
    Ground,
    /// Derived from ground rows; can be rebuilt from them.
    Derived,
}

/// The description of a table.
#[derive(Debug, Clone, Copy)]
pub struct TableInfo {
    /// The name.
    pub name: &'static str,
    /// The scope, with which its keys begin.
    pub scope: Scope,
    /// The number of the table, which is in every key.
    pub tag: u16,
    /// The type of the keys.
    pub key: &'static str,
    /// The type of the values.
    pub value: &'static str,
    /// Ground or derived.
    pub kind: Kind,
    /// The purpose.
    pub why: &'static str,
}

static GROUPS: &[&[TableInfo]] = &[
    tables::meta::TABLES,
    tables::rooms::TABLES,
    tables::documents::TABLES,
    tables::federation::TABLES,
    tables::accounts::TABLES,
    tables::receipts::TABLES,
    tables::jobs::TABLES,
    tables::media::TABLES,
    tables::webhooks::TABLES,
];

/// All tables.
#[must_use]
pub fn all() -> Vec<TableInfo> {
    GROUPS.concat()
}

/// The scope of the table with a tag.
pub(crate) fn scope_of(tag: u16) -> Option<Scope> {
    let mut tables = GROUPS.iter().flat_map(|group| group.iter());
    tables.find(|table| table.tag == tag).map(|table| table.scope)
}

/// Declares the tables of a file of [`mod@crate::tables`], and lists them in its `TABLES`.
///
/// `NAME: (Key, Parts) => Value, Scope, Kind, tag, "why";` — the id of the scope must be the first part of the key. The
/// scope also places the rows: `Lane(Room)` is a list of a lane whose rows begin with a room id.
#[macro_export]
macro_rules! tables {
    ($($name:ident: $key:ty => $value:ty, $scope:ident $(($by:ident))?, $kind:ident, $tag:literal, $why:literal;)*) => {
        $(
            #[doc = $why]
            pub static $name: $crate::Table<$key, $value> =
                $crate::Table::new(stringify!($name), $crate::Scope::$scope $(($crate::ListedBy::$by))?, $tag);
        )*
        /// The tables of this file.
        pub static TABLES: &[$crate::catalogue::TableInfo] = &[$(
            $crate::catalogue::TableInfo {
                name: stringify!($name),
                scope: $crate::Scope::$scope $(($crate::ListedBy::$by))?,
                tag: $tag,
                key: stringify!($key),
                value: stringify!($value),
                kind: $crate::catalogue::Kind::$kind,
                why: $why,
            }
        ),*];
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ListedBy;

    #[test]
    fn tags_and_names_are_unique() {
        let all = all();
        let tags: BTreeSet<u16> = all.iter().map(|table| table.tag).collect();
        let names: BTreeSet<&str> = all.iter().map(|table| table.name).collect();
        assert_eq!(tags.len(), all.len());
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn every_table_has_a_purpose_and_keys_that_begin_with_its_scope() {
        for table in all() {
            assert!(table.why.len() > 20, "{} has no purpose", table.name);
            let first = table
                .key
                .trim_start_matches('(')
                .split([',', ')'])
                .next()
                .unwrap_or_default();
            match table.scope {
                Scope::Global => {}
                Scope::Room => assert_eq!(first, "OwnedRoomId", "{}", table.name),
                Scope::User => assert_eq!(first, "OwnedUserId", "{}", table.name),
                Scope::Server => assert_eq!(first, "OwnedServerName", "{}", table.name),
                Scope::Lane(by) => {
                    let part = match by {
                        ListedBy::Lane => "Lane",
                        ListedBy::Room => "OwnedRoomId",
                        ListedBy::User => "OwnedUserId",
                        ListedBy::Server => "OwnedServerName",
                        ListedBy::Event => "OwnedEventId",
                        ListedBy::Alias => "OwnedRoomAliasId",
                    };
                    assert_eq!(first, part, "{}", table.name);
                }
            }
        }
    }

    #[test]
    fn each_file_uses_only_its_own_tags() {
        let groups = [
            (0x00, tables::meta::TABLES),
            (0x01, tables::rooms::TABLES),
            (0x02, tables::documents::TABLES),
            (0x03, tables::federation::TABLES),
            (0x04, tables::accounts::TABLES),
            (0x05, tables::receipts::TABLES),
            (0x06, tables::jobs::TABLES),
            (0x07, tables::media::TABLES),
            (0x08, tables::webhooks::TABLES),
        ];
        for (group, tables) in groups {
            assert!(tables.iter().all(|table| table.tag >> 8 == group));
        }
    }
}
