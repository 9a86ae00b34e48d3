//! Secrets and signatures as in the Standard Webhooks specification 1.0.0: HMAC-SHA256 over id, time and body. Must not store or
//! log a secret.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What secrets begin with.
const PREFIX: &str = "whsec_";
/// Bytes of a key: the specification has 24 to 64.
const KEY_BYTES: usize = 32;

/// A new random secret, in the form of the specification.
#[must_use]
pub(crate) fn new_secret() -> String {
    let mut key = [0_u8; KEY_BYTES];
    rand::fill(&mut key);
    format!("{PREFIX}{}", STANDARD.encode(key))
}

/// The header `webhook-signature`: a signature for each of the secrets, which [`new_secret`] made. `at` is the time of the
/// attempt in seconds since 1970.
#[must_use]
pub(crate) fn signatures(secrets: &[&str], id: &str, at: u64, body: &[u8]) -> String {
    let signatures = secrets.iter().filter_map(|secret| {
        let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(format!("{id}.{at}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A case of `spec/vectors/webhooks`, of which two are from the specification and its reference libraries.
    #[derive(serde::Deserialize)]
    struct Vector {
        secrets: Vec<String>,
        id: String,
        at: u64,
        body: String,
        expect: String,
    }

    #[test]
    fn the_vectors_hold() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/webhooks");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let vector: Vector = serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
            let secrets: Vec<&str> = vector.secrets.iter().map(String::as_str).collect();
            let signed = signatures(&secrets, &vector.id, vector.at, vector.body.as_bytes());
            assert_eq!(signed, vector.expect);
            count += 1;
        }
        assert!(count >= 4);
    }

    #[test]
    fn the_example_of_the_specification_holds() {
        let signed = signatures(
            &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_new_secret_has_the_form_of_the_specification() {
        let secret = new_secret();
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        assert!((24..=64).contains(&key.len()));
        assert_ne!(secret, new_secret());
    }
}
