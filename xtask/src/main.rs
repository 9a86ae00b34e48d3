//! The project's own checks: rules of this repository that the compiler and clippy do not cover.
//!
//! `cargo xtask check` runs all checks, `cargo xtask check imports words` some, and `cargo xtask list` lists them.
//! Every check is a pure function from a [`tree::Tree`] to findings, so that it can be tested on small example trees.
//! A check must not change a file.

mod error_codes;
mod fault_tables;
mod findings;
mod headers;
mod imports;
mod length;
mod lockfile;
mod log_events;
mod purity;
mod room_writes;
mod source;
mod spec_links;
mod tree;
mod words;
mod worker_network;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use findings::Finding;
use tree::Tree;

/// A check: its name on the command line, its purpose and its function.
struct Check {
    name: &'static str,
    purpose: &'static str,
    run: fn(&Tree) -> Vec<Finding>,
}

const CHECKS: &[Check] = &[
    Check {
        name: "imports",
        purpose: "crates depend on one another and on outside crates only as ARCHITECTURE.md says",
        run: imports::check,
    },
    Check {
        name: "headers",
        purpose: "every source file starts with its purpose; no file has a meaningless name",
        run: headers::check,
    },
    Check {
        name: "length",
        purpose: "no source file is longer than the limit",
        run: length::check,
    },
    Check {
        name: "purity",
        purpose: "pure crates use no clock, no randomness and no I/O",
        run: purity::check,
    },
    Check {
        name: "worker-network",
        purpose: "a room's worker has no client of other servers",
        run: worker_network::check,
    },
    Check {
        name: "room-writes",
        purpose: "rows of rooms are written by the room's worker, or with a fence",
        run: room_writes::check,
    },
    Check {
        name: "log-events",
        purpose: "warnings and errors have stable names, which docs/LOG-EVENTS.md lists",
        run: log_events::check,
    },
    Check {
        name: "words",
        purpose: "no file has hosts of package registries, paths of one machine, private words or excluded phrases",
        run: words::check,
    },
    Check {
        name: "lockfile",
        purpose: "Cargo.lock has none of the banned crates",
        run: lockfile::check,
    },
    Check {
        name: "fault-tables",
        purpose: "the tables of hostile inputs and field faults have a row for each number, and the listed tests exist",
        run: fault_tables::check,
    },
    Check {
        name: "error-codes",
        purpose: "the specification lists exactly the statuses and error codes that the server responds with",
        run: error_codes::check,
    },
    Check {
        name: "spec-links",
        purpose: "paths in documents exist; every test vector is used",
        run: spec_links::check,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // If standard error is closed, the error can't be reported.
            let _ = writeln!(std::io::stderr(), "xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<bool> {
    match arguments.split_first() {
        Some((command, names)) if command == "check" => check(names),
        Some((command, [])) if command == "list" => list().map(|()| true),
        _ => bail!("usage: cargo xtask check [NAME...] | cargo xtask list"),
    }
}

fn list() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for check in CHECKS {
        writeln!(out, "{:<12} {}", check.name, check.purpose)?;
    }
    Ok(())
}

fn check(names: &[String]) -> anyhow::Result<bool> {
    for name in names {
        if !CHECKS.iter().any(|check| check.name == name) {
            bail!("Unknown check {name}. `cargo xtask list` lists the checks.");
        }
    }
    let root = tree::root()?;
    let tree = Tree::from_git(&root).context("reading the tree")?;
    let mut out = std::io::stdout().lock();
    let mut found = 0;
    for check in CHECKS
        .iter()
        .filter(|check| names.is_empty() || names.iter().any(|name| name == check.name))
    {
        let findings = (check.run)(&tree);
        for finding in &findings {
            writeln!(out, "{}: {finding}", check.name)?;
        }
        found += findings.len();
    }
    if found == 0 {
        writeln!(out, "xtask: {} files, no findings", tree.files().count())?;
    } else {
        writeln!(out, "xtask: {found} findings")?;
    }
    Ok(found == 0)
}
