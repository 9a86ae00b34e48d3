//! The project's own checks: what neither the compiler nor clippy can know about this repository.
//!
//! `cargo xtask check` runs all of them, `cargo xtask check imports words` some, `cargo xtask list` names them.
//! Every check is a pure function from a [`tree::Tree`] to findings, so that it is tested on small made-up trees.
//! A check never changes a file.

mod error_codes;
mod fault_tables;
mod findings;
mod headers;
mod imports;
mod length;
mod lockfile;
mod purity;
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

/// A check: its name on the command line, what it is for, and the function.
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
        purpose: "every source file says at its top what it is for; no file has a name that says nothing",
        run: headers::check,
    },
    Check {
        name: "length",
        purpose: "no source file is longer than a reader can hold",
        run: length::check,
    },
    Check {
        name: "purity",
        purpose: "pure crates see no clock, no randomness and no I/O",
        run: purity::check,
    },
    Check {
        name: "worker-network",
        purpose: "a room's worker has no client of other servers",
        run: worker_network::check,
    },
    Check {
        name: "words",
        purpose: "no file names a package registry's host or a path of one machine",
        run: words::check,
    },
    Check {
        name: "lockfile",
        purpose: "Cargo.lock holds none of the banned crates",
        run: lockfile::check,
    },
    Check {
        name: "fault-tables",
        purpose: "the tables of hostile inputs and field faults have a row for each number, and the tests that they name exist",
        run: fault_tables::check,
    },
    Check {
        name: "error-codes",
        purpose: "every status and error code that the server answers stands in the specification, and no other",
        run: error_codes::check,
    },
    Check {
        name: "spec-links",
        purpose: "paths that documents name exist; every test vector is used",
        run: spec_links::check,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing sensible is left to do when standard error is closed.
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
            bail!("there is no check named {name}; `cargo xtask list` names them");
        }
    }
    let root = tree::root()?;
    let tree = Tree::from_git(&root).context("cannot read the tree")?;
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
        writeln!(out, "xtask: {} files, nothing to complain about", tree.files().count())?;
    } else {
        writeln!(out, "xtask: {found} findings")?;
    }
    Ok(found == 0)
}
