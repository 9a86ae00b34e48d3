//! External servers: the tests can run against any server of this protocol, given by URL.
//!
//! `WEFT_SERVERS` lists base URLs (`https://a.example,https://b.example`), in the order in which tests use them. They
//! must federate with one another and have open registration. `WEFT_CA` names a PEM file to trust in addition to the
//! system's certificates. Must not start or stop a server.

use std::{path::PathBuf, sync::OnceLock};

/// The base URLs of `WEFT_SERVERS`, if it is set.
#[must_use]
pub fn urls() -> Option<&'static [String]> {
    static URLS: OnceLock<Option<Vec<String>>> = OnceLock::new();
    URLS.get_or_init(|| {
        let listed = std::env::var("WEFT_SERVERS").ok()?;
        let urls = listed.split(',').map(|url| url.trim().trim_end_matches('/').to_owned());
        Some(urls.filter(|url| !url.is_empty()).collect())
    })
    .as_deref()
}

/// The path in `WEFT_CA`: the certificate authority of the external servers.
#[must_use]
pub fn authority() -> Option<PathBuf> {
    std::env::var_os("WEFT_CA").map(PathBuf::from)
}

/// Whether the test must be skipped because it stops, kills or configures servers and external servers are in use.
/// Prints a line if so.
#[must_use]
pub fn needs_own_servers(test: &str) -> bool {
    let external = urls().is_some();
    if external {
        eprintln!("{test}: skipped, it needs servers of its own");
    }
    external
}
