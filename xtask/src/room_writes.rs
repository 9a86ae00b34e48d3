//! The rows of a room are written by the room's worker. A commit elsewhere needs a fence on the rows that it was decided
//! by, because the worker and other processes write at the same time; the files that have one are listed here.

use crate::findings::Finding;
use crate::source::{is_test_file, lines_without_tests, without_comment};
use crate::tree::Tree;

/// The crates that could write rows of rooms. The store itself does not know what a row is.
const CRATES: &str = "homeserver/";
const STORE: &str = "homeserver/store";

/// The worker commits its own batches.
const WORKER: &str = "homeserver/room/src/worker.rs";

/// Files that commit rows of rooms outside of the worker, each with a fence.
const FENCED: &[&str] = &[
    // Staging: on the mark of the room and on each new row.
    "homeserver/room/src/staging.rs",
    // Aliases, the room directory, forgotten rooms: on the row that changes.
    "homeserver/room/src/directory.rs",
    // Share links: on the link.
    "homeserver/room/src/links.rs",
    // Memberships of rooms that this server is not in: on the user's row.
    "homeserver/room/src/out_of_band.rs",
    // The indexes of an older store, before any worker starts: on the forward extremities.
    "homeserver/room/src/indexes/build.rs",
    // Fetched events of a history, which only its job writes: on the row with their totals.
    "homeserver/room/src/history/fetched.rs",
    // Receipts: on the receipt.
    "homeserver/fanout/src/ephemeral/receipts.rs",
];

/// The modules of the tables whose rows belong to a room.
const TABLES: &[&str] = &["rooms::", "documents::", "receipts::"];

/// See the module.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        let is_source = path.starts_with(CRATES) && path.contains("/src/") && path.ends_with(".rs");
        if !is_source || path.starts_with(STORE) || path == WORKER || is_test_file(path) {
            continue;
        }
        let lines: Vec<_> = lines_without_tests(text)
            .into_iter()
            .map(|(number, line)| (number, without_comment(line)))
            .collect();
        let has = |part: &str| lines.iter().any(|(_, line)| line.contains(part));
        let commit = lines.iter().find(|(_, line)| is_store_commit(line));
        let Some((number, _)) = commit.filter(|_| has("tables::") && TABLES.iter().any(|table| has(table))) else {
            continue;
        };
        let why = if !FENCED.contains(&path) {
            "commits rows of rooms outside of the room's worker: make it a command, or add a fence and list the file in \
             xtask/src/room_writes.rs"
        } else if !has(".require(") {
            "commits rows of rooms outside of the room's worker, and has no fence"
        } else {
            continue;
        };
        findings.push(Finding::line(path, *number, why.to_owned()));
    }
    findings
}

/// A commit of the store, and not the one of a room's turn (`self.commit`).
fn is_store_commit(line: &str) -> bool {
    line.contains(".commit(") && !line.contains("self.commit(")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "use weft_store::tables::rooms::ROOMS;\nfn f() { store.commit(batch) }\n";
    const WITH_FENCE: &str =
        "use weft_store::tables::rooms::ROOMS;\nfn f() { batch.require(&ROOMS); store.commit(batch) }\n";

    fn found(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn only_the_worker_and_listed_files_commit_rows_of_rooms() {
        assert_eq!(found(WORKER, COMMIT), 0);
        assert_eq!(found("homeserver/room/src/history.rs", COMMIT), 1);
        assert_eq!(
            found("homeserver/room/src/history.rs", WITH_FENCE),
            1,
            "it is not listed"
        );
        assert_eq!(found("homeserver/app/src/adapters/new.rs", COMMIT), 1);
        assert_eq!(found("homeserver/room/src/directory.rs", WITH_FENCE), 0);
        assert_eq!(
            found("homeserver/room/src/directory.rs", COMMIT),
            1,
            "the fence is missing"
        );
    }

    #[test]
    fn rows_of_other_owners_and_reads_are_not_the_concern() {
        let of_server = "use weft_store::tables::federation::OUTBOX;\nfn f() { store.commit(batch) }\n";
        assert_eq!(found("homeserver/app/src/adapters/outbox.rs", of_server), 0);
        let reads = "use weft_store::tables::rooms::ROOMS;\nfn f() { store.get(&ROOMS) }\n";
        assert_eq!(found("homeserver/room-read/src/lib.rs", reads), 0);
        assert_eq!(found("homeserver/room/tests/room/crash.rs", COMMIT), 0);
    }
}
