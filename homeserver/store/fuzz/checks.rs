//! Properties of rows read from a damaged disk, for any bytes: the fuzz target of `conformance-tests/fuzz` and the
//! replay of its corpus (`corpus/`, next to this file) call the same check. Must only be part of the crate in tests and
//! fuzzing.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic fails the check")]

use bytes::Bytes;

use crate::{
    Table,
    key::{AsKey, Key},
    tables::{accounts, documents, federation, jobs, media, meta, receipts, rooms, webhooks},
    value::Value,
};

/// A key has one byte form; a decoded value is encoded and decoded as the same value.
fn row<K: Key + AsKey<K>, V: Value>(table: &'static Table<K, V>, bytes: &Bytes) {
    if let Ok(key) = K::decode(table.layout(), bytes) {
        assert_eq!(table.physical(&key), bytes, "a key of {}", table.name());
    }
    if let Ok(value) = V::decode(bytes.clone()) {
        let written = value.encode().unwrap();
        let again = V::decode(written.clone()).unwrap();
        assert_eq!(again.encode().unwrap(), written, "a value of {}", table.name());
    }
}

macro_rules! every {
    ($bytes:ident; $($group:ident: $($table:ident)+;)+) => {{
        $($(row(&$group::$table, $bytes);)+)+
        [$($(stringify!($table)),+),+]
    }};
}

fn every_table(bytes: &Bytes) -> impl AsRef<[&'static str]> {
    every!(bytes;
        meta: SCHEMA SERVER_NAME UNBUILT_INDEXES LANES LANE;
        rooms: ROOMS EVENTS EVENT_ROOM TIMELINE TIMELINE_WITHOUT_UPDATES CURRENT_GROUP MEMBERS ROOM_SERVERS LOCAL_MEMBERS STREAM EXTREMITIES STATE_GROUPS EVENT_GROUP
            CURRENT_STATE CHAIN STAGING STAGED_ROOMS INCOMPLETE_ROOMS MEMBERSHIP ALIASES ROOM_ALIASES PUBLIC_ROOMS
            TRANSACTIONS EVENT_TXN REDACTED_BY BACKFILL_POSITIONS EARLY_REDACTIONS PRUNED_UPDATES
            RELATIONS SENT_REQUESTS MISSING_EVENTS NOTHING_MISSING OUT_OF_BAND OUT_OF_BAND_STATE OUT_OF_BAND_SERVERS
            FETCHED_HISTORY FETCHED_EVENTS FETCHED_FOLLOWERS FETCHED_READY WANTED_EVENTS;
        documents: JOURNAL JOURNALED_ROOMS SNAPSHOT SNAPSHOT_TAIL SNAPSHOT_PARTS CLAIMS CLIENT_OWNERS VECTORS
            EVENT_VECTOR CURRENT_VECTOR DOC_SEQ CHECKPOINTS VERSIONS VERSION_OF VERSIONS_FROM
            UNFINISHED_SNAPSHOTS DISPUTED_ROOMS DOCUMENTS_OF DOCUMENTS DOCUMENT_CHANGES EDIT_REQUESTS EDIT_REQUEST_TIMES
            LINKS GUESTS;
        federation: OUTBOX OUTBOX_STATE REMOTE_KEYS OUTBOX_SERVERS;
        accounts: USERS DEVICES ACCESS_TOKENS REFRESH_TOKENS PROFILES ACCOUNT_DATA FILTERS ACCOUNT_DATA_STREAM
            ACCOUNT_DATA_USAGE;
        jobs: JOBS DUE_JOBS;
        media: MEDIA MEDIA_OF_USER MEDIA_USAGE MEDIA_TOTAL MEDIA_IDS MEDIA_THUMBNAILS REMOTE_MEDIA;
        webhooks: WEBHOOKS WEBHOOK_PROGRESS;
        receipts: RECEIPTS RECEIPT_STREAM RECEIPT_THREADS;
    )
}

/// Decodes the bytes as a key and as a value of every table.
pub fn rows(data: &[u8]) {
    every_table(&Bytes::copy_from_slice(data));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{every_table, rows};

    #[test]
    fn every_table_is_checked() {
        let checked: BTreeSet<&str> = every_table(&bytes::Bytes::new()).as_ref().iter().copied().collect();
        let all: BTreeSet<&str> = crate::catalogue::all().iter().map(|table| table.name).collect();
        assert_eq!(checked, all);
    }

    #[test]
    fn every_corpus_entry_passes_its_check() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/rows");
        let inputs: Vec<_> = std::fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
        assert!(!inputs.is_empty(), "{folder} is empty");
        inputs
            .iter()
            .for_each(|input| rows(&std::fs::read(input.path()).unwrap()));
    }
}
