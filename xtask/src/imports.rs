//! Checks which crate depends on which. Dependencies point one way; a new edge is a decision, and must be made by editing
//! the table here together with ARCHITECTURE.md. Only shipped code counts: tests may depend on any crate.

use crate::findings::Finding;
use crate::tree::Tree;

/// Directory of a crate, its name, and the crates of this project on which it may depend.
const EDGES: &[(&str, &str, &[&str])] = &[
    ("spec/crdt", "weft-crdt", &[]),
    ("spec/wire", "weft-wire", &["weft-crdt"]),
    ("homeserver/dag", "weft-dag", &["weft-wire", "weft-crdt"]),
    (
        "homeserver/convergence",
        "weft-convergence",
        &["weft-wire", "weft-crdt", "weft-dag"],
    ),
    (
        "spec/verify",
        "weft-verify",
        &["weft-wire", "weft-crdt", "weft-dag", "weft-convergence"],
    ),
    (
        "homeserver/store",
        "weft-store",
        &["weft-wire", "weft-crdt", "weft-dag"],
    ),
    ("homeserver/store-rocksdb", "weft-store-rocksdb", &["weft-store"]),
    (
        "homeserver/room-api",
        "weft-room-api",
        &[
            "weft-wire",
            "weft-crdt",
            "weft-dag",
            "weft-store",
            "weft-budget",
            "weft-clock",
        ],
    ),
    (
        "homeserver/room-read",
        "weft-room-read",
        &[
            "weft-wire",
            "weft-crdt",
            "weft-dag",
            "weft-convergence",
            "weft-store",
            "weft-room-api",
        ],
    ),
    (
        "homeserver/document",
        "weft-document",
        &[
            "weft-wire",
            "weft-crdt",
            "weft-dag",
            "weft-convergence",
            "weft-store",
            "weft-room-api",
            "weft-room-read",
        ],
    ),
    (
        "homeserver/ingest",
        "weft-ingest",
        &[
            "weft-wire",
            "weft-dag",
            "weft-convergence",
            "weft-store",
            "weft-room-api",
            "weft-room-read",
        ],
    ),
    (
        "homeserver/room",
        "weft-room",
        &[
            "weft-wire",
            "weft-crdt",
            "weft-dag",
            "weft-convergence",
            "weft-store",
            "weft-budget",
            "weft-clock",
            "weft-jobs",
            "weft-room-api",
            "weft-room-read",
            "weft-document",
            "weft-ingest",
        ],
    ),
    (
        "homeserver/fanout",
        "weft-fanout",
        &[
            "weft-wire",
            "weft-crdt",
            "weft-dag",
            "weft-store",
            "weft-room-read",
            "weft-room-api",
        ],
    ),
    ("homeserver/clock", "weft-clock", &[]),
    ("homeserver/jobs", "weft-jobs", &["weft-store", "weft-clock"]),
    ("homeserver/budget", "weft-budget", &[]),
    (
        "homeserver/telemetry",
        "weft-telemetry",
        &[
            "weft-wire",
            "weft-dag",
            "weft-store",
            "weft-federation",
            "weft-room-api",
        ],
    ),
    (
        "homeserver/accounts",
        "weft-accounts",
        &["weft-wire", "weft-store", "weft-budget", "weft-clock"],
    ),
    (
        "homeserver/media",
        "weft-media",
        &["weft-wire", "weft-store", "weft-budget", "weft-clock", "weft-jobs"],
    ),
    (
        "homeserver/webhooks",
        "weft-webhooks",
        &[
            "weft-wire",
            "weft-dag",
            "weft-store",
            "weft-clock",
            "weft-jobs",
            "weft-accounts",
            "weft-federation",
            "weft-room-api",
            "weft-room-read",
        ],
    ),
    ("homeserver/render", "weft-render", &["weft-wire"]),
    (
        "homeserver/render-worker",
        "weft-render-worker",
        &["weft-wire", "weft-crdt", "weft-render"],
    ),
    (
        "homeserver/search",
        "weft-search",
        &[
            "weft-wire",
            "weft-render",
            "weft-dag",
            "weft-store",
            "weft-room-read",
            "weft-room-api",
            "weft-room",
        ],
    ),
    (
        "federation",
        "weft-federation",
        &["weft-wire", "weft-dag", "weft-budget", "weft-clock"],
    ),
    (
        "homeserver/http",
        "weft-http",
        &[
            "weft-wire",
            "weft-render",
            "weft-dag",
            "weft-store",
            "weft-fanout",
            "weft-accounts",
            "weft-media",
            "weft-webhooks",
            "weft-federation",
            "weft-budget",
            "weft-room-read",
            "weft-room-api",
        ],
    ),
    (
        "homeserver/api-client",
        "weft-api-client",
        &[
            "weft-wire",
            "weft-dag",
            "weft-store",
            "weft-fanout",
            "weft-accounts",
            "weft-media",
            "weft-federation",
            "weft-budget",
            "weft-http",
            "weft-room-read",
            "weft-room-api",
            "weft-room",
            "weft-search",
        ],
    ),
    (
        "homeserver/api-server",
        "weft-api-server",
        &[
            "weft-wire",
            "weft-budget",
            "weft-dag",
            "weft-accounts",
            "weft-media",
            "weft-federation",
            "weft-http",
            "weft-room-read",
            "weft-room-api",
            "weft-room",
        ],
    ),
    (
        "homeserver/api-documents",
        "weft-api-documents",
        &[
            "weft-wire",
            "weft-render",
            "weft-search",
            "weft-crdt",
            "weft-fanout",
            "weft-dag",
            "weft-accounts",
            "weft-media",
            "weft-webhooks",
            "weft-budget",
            "weft-http",
            "weft-room-read",
            "weft-room-api",
            "weft-room",
            "weft-render",
        ],
    ),
    (
        "homeserver/live",
        "weft-live",
        &[
            "weft-wire",
            "weft-crdt",
            "weft-fanout",
            "weft-accounts",
            "weft-budget",
            "weft-http",
            "weft-room-read",
            "weft-room-api",
            "weft-room",
        ],
    ),
    (
        "homeserver/gateway",
        "weft-gateway",
        &[
            "weft-http",
            "weft-api-client",
            "weft-api-server",
            "weft-api-documents",
            "weft-live",
            "weft-store",
        ],
    ),
    (
        "homeserver/app",
        "weft",
        &[
            "weft-wire",
            "weft-crdt",
            "weft-dag",
            "weft-verify",
            "weft-mcp",
            "weft-store",
            "weft-store-rocksdb",
            "weft-fanout",
            "weft-accounts",
            "weft-media",
            "weft-webhooks",
            "weft-jobs",
            "weft-render",
            "weft-render-worker",
            "weft-search",
            "weft-gateway",
            "weft-federation",
            "weft-budget",
            "weft-telemetry",
            "weft-room-read",
            "weft-room-api",
            "weft-room",
        ],
    ),
    ("client-sdk/mcp", "weft-mcp", &[]),
    ("client-sdk/rust", "weft-sdk", &["weft-wire", "weft-crdt"]),
    (
        "conformance-tests",
        "weft-conformance-tests",
        &["weft-wire", "weft-crdt"],
    ),
    (
        "tools/load",
        "weft-load",
        &["weft-wire", "weft-crdt", "weft-conformance-tests"],
    ),
    // Only tests depend on it.
    (
        "homeserver/testkit",
        "weft-testkit",
        &[
            "weft-wire",
            "weft-dag",
            "weft-store",
            "weft-clock",
            "weft-fanout",
            "weft-accounts",
            "weft-room-read",
            "weft-room-api",
            "weft-room",
        ],
    ),
    ("tools/demo", "weft-demo", &[]),
    ("xtask", "xtask", &[]),
];

/// External crates that only some crates may use: crate, users, reason.
const RESERVED: &[(&str, &[&str], &str)] = &[
    ("rocksdb", &["weft-store-rocksdb"], "only one crate uses the engine"),
    (
        "yrs",
        &[
            "weft-render-worker",
            "weft-sdk",
            "weft-conformance-tests",
            "weft-load",
            "weft-testkit",
        ],
        "hostile updates break a CRDT engine; the server's process must not run one",
    ),
    (
        "axum",
        &[
            "weft-http",
            "weft-api-client",
            "weft-api-server",
            "weft-api-documents",
            "weft-live",
            "weft-gateway",
            "weft",
            "weft-conformance-tests",
        ],
        "only the gateway's crates serve HTTP, and the malicious server of the tests",
    ),
    (
        "axum-server",
        &["weft", "weft-conformance-tests"],
        "only the program opens ports, and the malicious server of the tests",
    ),
    (
        "reqwest",
        &[
            "weft-federation",
            "weft-webhooks",
            "weft-mcp",
            "weft",
            "weft-demo",
            "weft-conformance-tests",
            "weft-load",
        ],
        "of the server only federation and webhooks are HTTP clients",
    ),
    (
        "rcgen",
        &["weft-demo", "weft-conformance-tests"],
        "certificates are generated only for the demo and the tests",
    ),
];

/// Pure crates. They must not depend on I/O, time or a runtime.
const PURE: &[&str] = &["weft-crdt", "weft-wire", "weft-dag"];
const IMPURE: &[&str] = &[
    "tokio",
    "tokio-util",
    "async-trait",
    "rand",
    "reqwest",
    "axum",
    "futures-util",
    "tempfile",
];

/// See the module.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        let Some(folder) = path.strip_suffix("/Cargo.toml") else {
            continue;
        };
        // Fuzz targets are separate workspaces.
        if folder.ends_with("/fuzz") {
            continue;
        }
        findings.extend(check_manifest(path, folder, text));
    }
    findings
}

fn check_manifest(path: &str, folder: &str, text: &str) -> Vec<Finding> {
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::file(path, format!("cannot be parsed: {error}"))],
    };
    let Some((_, name, allowed)) = EDGES.iter().find(|(place, _, _)| *place == folder) else {
        return vec![Finding::file(
            path,
            "is a crate that is not in the table in xtask/src/imports.rs",
        )];
    };
    let mut findings = Vec::new();
    if manifest
        .get("package")
        .and_then(|package| package.get("name")?.as_str())
        != Some(name)
    {
        findings.push(Finding::file(
            path,
            format!("the crate in this directory must be called {name}"),
        ));
    }
    if manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace")?.as_bool())
        != Some(true)
    {
        findings.push(Finding::file(path, "does not inherit the lints of the workspace"));
    }
    for (dependency, ships, inherits) in dependencies(&manifest) {
        if !inherits {
            findings.push(Finding::file(
                path,
                format!("{dependency}: versions must be only in the root Cargo.toml"),
            ));
        }
        if ships {
            findings.extend(forbidden(name, allowed, &dependency).map(|message| Finding::file(path, message)));
        }
    }
    findings
}

/// The reason why a crate must not depend on another one. `None`: it may.
fn forbidden(name: &str, allowed: &[&str], dependency: &str) -> Option<String> {
    let own = EDGES.iter().any(|(_, known, _)| *known == dependency);
    if own && !allowed.contains(&dependency) {
        return Some(format!("{name} must not depend on {dependency}"));
    }
    if PURE.contains(&name) && IMPURE.contains(&dependency) {
        return Some(format!("{name} is pure and must not depend on {dependency}"));
    }
    RESERVED
        .iter()
        .find(|(reserved, holders, _)| *reserved == dependency && !holders.contains(&name))
        .map(|(_, _, reason)| format!("{name} must not depend on {dependency}: {reason}"))
}

/// Every dependency: name of the crate, whether it ships (is not only for tests), whether its version is inherited.
fn dependencies(manifest: &toml::Table) -> Vec<(String, bool, bool)> {
    let mut tables: Vec<&toml::Table> = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    let kinds = [
        ("dependencies", true),
        ("build-dependencies", true),
        ("dev-dependencies", false),
    ];
    let mut found = Vec::new();
    for table in tables {
        for (kind, ships) in kinds {
            for (key, value) in table.get(kind).and_then(toml::Value::as_table).into_iter().flatten() {
                let name = value.get("package").and_then(toml::Value::as_str).unwrap_or(key);
                // A crate of this project that is given by its path has no version.
                let inherits = value.get("workspace").and_then(toml::Value::as_bool) == Some(true)
                    || (value.get("path").is_some() && value.get("version").is_none());
                found.push((name.to_owned(), ships, inherits));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, name: &str, dependencies: &str) -> Vec<String> {
        let manifest = format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{dependencies}");
        check(&Tree::of(&[(path, &manifest)]))
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn an_allowed_edge_passes() {
        let found = messages(
            "homeserver/dag/Cargo.toml",
            "weft-dag",
            "[dependencies]\nweft-wire.workspace = true\n",
        );
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn a_forbidden_edge_is_found() {
        let found = messages(
            "homeserver/dag/Cargo.toml",
            "weft-dag",
            "[dependencies]\nweft-store.workspace = true\n",
        );
        assert_eq!(found, ["weft-dag must not depend on weft-store"]);
    }

    #[test]
    fn renamed_and_platform_dependencies_are_checked() {
        let renamed = "[dependencies]\nengine = { package = \"rocksdb\", workspace = true }\n";
        assert_eq!(messages("homeserver/room/Cargo.toml", "weft-room", renamed).len(), 1);
        let platform = "[target.'cfg(unix)'.dependencies]\nyrs = { workspace = true }\n";
        assert_eq!(messages("homeserver/room/Cargo.toml", "weft-room", platform).len(), 1);
    }

    #[test]
    fn tests_may_depend_on_any_crate_and_inherit_versions() {
        let fine = "[dev-dependencies]\nyrs.workspace = true\nweft-store.workspace = true\n";
        assert_eq!(
            messages("spec/crdt/Cargo.toml", "weft-crdt", fine),
            Vec::<String>::new()
        );
        let itself = "[dev-dependencies]\nweft-crdt = { path = \".\", features = [\"testing\"] }\n";
        assert_eq!(
            messages("spec/crdt/Cargo.toml", "weft-crdt", itself),
            Vec::<String>::new()
        );
        let own_version = "[dev-dependencies]\nyrs = \"0.28\"\n";
        assert_eq!(messages("spec/crdt/Cargo.toml", "weft-crdt", own_version).len(), 1);
    }

    #[test]
    fn a_pure_crate_must_not_depend_on_a_runtime() {
        let found = messages(
            "spec/wire/Cargo.toml",
            "weft-wire",
            "[dependencies]\ntokio.workspace = true\n",
        );
        assert_eq!(found, ["weft-wire is pure and must not depend on tokio"]);
    }

    #[test]
    fn an_unknown_crate_and_missing_lints_are_found() {
        let tree = Tree::of(&[
            (
                "homeserver/surprise/Cargo.toml",
                "[package]\nname = \"weft-surprise\"\n",
            ),
            ("xtask/Cargo.toml", "[package]\nname = \"xtask\"\n"),
        ]);
        assert_eq!(check(&tree).len(), 2);
    }
}
