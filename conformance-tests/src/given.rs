//! Servers that somebody else runs: the tests can be put to any server of this protocol by URL.
//!
//! `WEFT_SERVERS` lists base URLs (`https://a.example,https://b.example`), in the order in which tests use them; they
//! must federate with one another and let anybody register. `WEFT_CA` names a PEM file to trust beside the system's.

use std::{path::PathBuf, sync::OnceLock};

/// The servers to test, where they are given.
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

/// The certificate authority of the given servers.
#[must_use]
pub fn authority() -> Option<PathBuf> {
    std::env::var_os("WEFT_CA").map(PathBuf::from)
}

/// Whether a test that stops, kills or configures servers can't be put to those that are given; says so.
#[must_use]
pub fn cannot_be_put_to_given_servers(test: &str) -> bool {
    let given = urls().is_some();
    if given {
        eprintln!("{test}: not run, it needs servers of its own");
    }
    given
}
