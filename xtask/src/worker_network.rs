//! A room's worker has no client of other servers: only the files of the tasks beside it may name one.
//! A slow server must not delay an edit, and what is not reachable can't be waited for.

use crate::findings::Finding;
use crate::purity::names;
use crate::source::{is_test_file, lines_without_tests, without_comment};
use crate::tree::Tree;

/// The crate of the workers.
const ROOM: &str = "homeserver/room/src/";

/// Files that may name the client: its definition, the wiring, and the tasks beside the workers.
const MAY: &[&str] = &[
    "lib.rs",
    "ports.rs",
    "testing.rs",
    "rooms.rs",
    "background.rs",
    "fetch.rs",
    "fetch/gaps.rs",
    "history.rs",
    "pruned.rs",
];

/// What names the client.
const CLIENT: &[&str] = &["Peers", "peers", "PeerError", "Tasks", "Outward", "outward"];

/// What only a worker has.
const WORKER: &str = "impl Worker";

/// Files of the door, whose functions run in the tasks of their callers: they may hand the client on, and implement
/// commands of the worker beside that.
const DOOR: &[&str] = &["adopt.rs", "membership_templates.rs"];
/// The name under which the door hands it on.
const HANDED_ON: &str = "outward";

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
        let may = MAY.contains(&file);
        for (number, line) in lines_without_tests(text) {
            let code = without_comment(line);
            if may && code.contains(WORKER) {
                let why = "a file that names the client of other servers implements no command of the worker";
                findings.push(Finding::line(path, number, why.to_owned()));
            }
            let is_named = |name: &&&str| names(code, name) && !(**name == HANDED_ON && DOOR.contains(&file));
            if let Some(name) = CLIENT.iter().find(is_named).filter(|_| !may) {
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
    fn a_worker_may_not_name_the_client_of_other_servers() {
        let uses = "use crate::Peers;\n";
        assert_eq!(found("homeserver/room/src/ingest/new.rs", uses), 1);
        assert_eq!(
            found("homeserver/room/src/worker.rs", "let a = shared.peers.events();\n"),
            1
        );
        assert_eq!(found("homeserver/room/src/fetch/gaps.rs", uses), 0);
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
    fn a_task_beside_the_workers_implements_no_command() {
        assert_eq!(found("homeserver/room/src/history.rs", "impl Worker {\n}\n"), 1);
        assert_eq!(found("homeserver/room/src/history/merge.rs", "impl Worker {\n}\n"), 0);
    }

    #[test]
    fn only_the_door_hands_the_client_on() {
        let hands_on = "fetch::bring_for(&self.outward(), event)\n";
        assert_eq!(found("homeserver/room/src/adopt.rs", hands_on), 0);
        assert_eq!(found("homeserver/room/src/staging.rs", hands_on), 1);
    }
}
