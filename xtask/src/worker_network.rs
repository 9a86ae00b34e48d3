//! A room's worker has no client of other servers: only the files of the background tasks may use one. A slow server
//! must not delay an edit, and a worker can't wait for a client that it can't reach.

use crate::findings::Finding;
use crate::purity::names;
use crate::source::{is_test_file, lines_without_tests, without_comment};
use crate::tree::Tree;

/// The crate of the workers.
const ROOM: &str = "homeserver/room/src/";

/// Files that may use the client: the wiring and the background tasks.
const ALLOWED: &[&str] = &[
    "lib.rs",
    "rooms.rs",
    "background.rs",
    "fetch.rs",
    "history.rs",
    "history/request.rs",
    "jobs/handlers.rs",
    "pruned.rs",
];

/// Names of the client and of the types that hold it.
const CLIENT: &[&str] = &[
    "Peers",
    "peers",
    "PeerError",
    "Tasks",
    "Outward",
    "outward",
    "EventFetcher",
];

/// Code that only the worker's own files have.
const WORKER: &str = "impl Worker";

/// Files with functions that run in the tasks of their callers: they may pass the client on, and also implement
/// commands of the worker.
const CALLER_SIDE: &[&str] = &["membership_templates.rs"];
/// The name under which these files pass the client on.
const PASSED_ON: &str = "outward";

/// See the module.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        let Some(file) = path.strip_prefix(ROOM).filter(|file| file.ends_with(".rs")) else {
            continue;
        };
        if is_test_file(path) {
            continue;
        }
        let allowed = ALLOWED.contains(&file);
        for (number, line) in lines_without_tests(text) {
            let code = without_comment(line);
            if allowed && code.contains(WORKER) {
                let why = "a file that uses the client of other servers must not implement a command of the worker";
                findings.push(Finding::line(path, number, why.to_owned()));
            }
            let is_named = |name: &&&str| names(code, name) && !(**name == PASSED_ON && CALLER_SIDE.contains(&file));
            if let Some(name) = CLIENT.iter().find(is_named).filter(|_| !allowed) {
                let why = format!("`{name}`: a room's worker has no client of other servers; see background.rs");
                findings.push(Finding::line(path, number, why));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn a_worker_must_not_use_the_client_of_other_servers() {
        let uses = "use crate::Peers;\n";
        assert_eq!(found("homeserver/room/src/merge/new.rs", uses), 1);
        assert_eq!(
            found("homeserver/room/src/worker.rs", "let a = shared.peers.events();\n"),
            1
        );
        assert_eq!(found("homeserver/ingest/src/gaps.rs", uses), 0);
        assert_eq!(found("homeserver/room/tests/net.rs", uses), 0);
        assert_eq!(
            found(
                "homeserver/room/src/worker.rs",
                "// the peers of a room\nlet tally = 1;\n"
            ),
            0
        );
    }

    #[test]
    fn a_background_task_must_not_implement_a_command_of_the_worker() {
        assert_eq!(found("homeserver/room/src/history.rs", "impl Worker {\n}\n"), 1);
        assert_eq!(found("homeserver/room/src/history/merge.rs", "impl Worker {\n}\n"), 0);
    }

    #[test]
    fn only_the_caller_side_passes_the_client_on() {
        let passes_on = "fetch::fetch_for(&self.outward(), event)\n";
        assert_eq!(found("homeserver/room/src/membership_templates.rs", passes_on), 0);
        assert_eq!(found("homeserver/room/src/staging.rs", passes_on), 1);
    }
}
