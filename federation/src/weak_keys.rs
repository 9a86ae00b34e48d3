//! Keys whose private half is public knowledge: never used and never accepted (T46).
//!
//! Must not become a policy on key quality: points of small order and wrong encodings are rejected by
//! `weft_dag::VerifyKey`.

use std::{collections::BTreeSet, sync::LazyLock};

use weft_dag::Signer;

/// Seeds that are printed in specifications and test suites, in base64.
const PUBLISHED_SEEDS: [&str; 4] = [
    // Matrix specification, appendix "Cryptographic test vectors".
    "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1",
    // RFC 8032, section 7.1, tests 1 to 3.
    "nWGxne/9WmC6hEr0kuwsxEhkJOFRUKgQ26uqbFC2w2A",
    "TM0Imwj/lrl83fUyNNf+9ua6ANmLp3skwzMrUrD1yqg",
    "xaqNFQcQzeu3l3oVbzGpqBQzuZ0cajSiLySgCpqA9Go",
];

static WEAK: LazyLock<BTreeSet<[u8; 32]>> = LazyLock::new(|| {
    let published = PUBLISHED_SEEDS.iter().filter_map(|seed| {
        ruma::serde::Base64::<ruma::serde::base64::Standard>::parse(seed)
            .ok()?
            .as_bytes()
            .try_into()
            .ok()
    });
    // A generator without entropy returns one byte 32 times.
    let constant = (0..=u8::MAX).map(|byte| [byte; 32]);
    published
        .chain(constant)
        .filter_map(|seed: [u8; 32]| public_of(&seed))
        .collect()
});

fn public_of(seed: &[u8; 32]) -> Option<[u8; 32]> {
    let name = ruma::OwnedServerName::try_from("weak.invalid").ok()?;
    Signer::from_seed(name, seed, "weak")
        .ok()
        .map(|signer| signer.public_key())
}

/// Whether the private half of this key is public knowledge.
pub(crate) fn is_weak(public: &[u8; 32]) -> bool {
    WEAK.contains(public)
}

#[cfg(test)]
mod tests {
    use super::{WEAK, is_weak, public_of};

    #[test]
    fn keys_from_specifications_and_broken_generators_are_weak() {
        assert_eq!(WEAK.len(), 4 + 256);
        assert!(is_weak(&public_of(&[0; 32]).unwrap()));
        // The public key of the Matrix specification's test vector, as printed there.
        let printed =
            ruma::serde::Base64::<ruma::serde::base64::Standard>::parse("XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI")
                .unwrap();
        assert!(is_weak(printed.as_bytes().try_into().unwrap()));
    }
}
