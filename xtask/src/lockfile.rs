//! Checks Cargo.lock for forbidden crates. `deny.toml` has the same rules for cargo-deny; this check must not need
//! external tools.

use std::collections::BTreeMap;

use crate::findings::Finding;
use crate::tree::Tree;

/// Forbidden crates, with the reason.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "one crypto provider: ring"),
    ("aws-lc-sys", "one crypto provider: ring"),
    (
        "openssl-sys",
        "TLS is rustls, so that the binary needs no system library",
    ),
    ("native-tls", "TLS is rustls"),
];

/// Crates of which only one version is allowed, with the reason.
const SINGLE: &[(&str, &str)] = &[
    ("ed25519-dalek", "two versions of the signature check could disagree"),
    ("rustls", "one TLS stack"),
    ("ruma-common", "two copies of the protocol's types are incompatible"),
];

/// See the module.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    const PATH: &str = "Cargo.lock";
    let Some(text) = tree.text(PATH) else {
        return vec![Finding::file(
            PATH,
            "is missing; it must be committed so that all builds are the same",
        )];
    };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in text
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
    {
        *counts.entry(name).or_default() += 1;
    }
    let banned = BANNED
        .iter()
        .filter(|(name, _)| counts.contains_key(name))
        .map(|(name, reason)| Finding::file(PATH, format!("contains {name}: {reason}")));
    let doubled = SINGLE
        .iter()
        .filter(|(name, _)| counts.get(name).is_some_and(|count| *count > 1))
        .map(|(name, reason)| Finding::file(PATH, format!("contains {name} more than once: {reason}")));
    banned.chain(doubled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_and_duplicate_crates_are_found() {
        let text = "[[package]]\nname = \"openssl-sys\"\nversion = \"1\"\n[[package]]\nname = \"ed25519-dalek\"\n\
                    [[package]]\nname = \"ed25519-dalek\"\n[[package]]\nname = \"rand\"\n[[package]]\nname = \"rand\"\n";
        assert_eq!(check(&Tree::of(&[("Cargo.lock", text)])).len(), 2);
    }

    #[test]
    fn a_missing_lock_file_is_a_finding() {
        assert_eq!(check(&Tree::default()).len(), 1);
    }
}
