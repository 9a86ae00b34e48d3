//! Registration by shared secret, as Synapse's operators' scripts do it (`/_synapse/admin/v1/register`).
//!
//! The caller proves that it knows the secret by an HMAC over a nonce of ours and the new account. HMAC-SHA1 because
//! that is what those scripts send; SHA-1's collisions do not weaken HMAC.

use std::{collections::HashMap, sync::Mutex};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// How long a nonce is good for, milliseconds. Synapse: 60 s.
const NONCE_MS: u64 = 60_000;
/// Nonces that may be out at the same time; the oldest is forgotten for a new one.
const MAX_NONCES: usize = 1_000;

/// The secret and the nonces that are out.
pub struct SharedSecret {
    secret: String,
    nonces: Mutex<HashMap<String, u64>>,
}

/// What the caller claims to be allowed to register.
#[derive(Clone)]
pub struct Claim<'a> {
    /// The nonce that it was given.
    pub nonce: &'a str,
    /// Local part.
    pub username: &'a str,
    /// The password as given.
    pub password: &'a str,
    /// An administrator.
    pub admin: bool,
    /// Synapse's `user_type`, where given.
    pub user_type: Option<&'a str>,
    /// Hex of the HMAC.
    pub mac: &'a str,
}

/// Why a claim is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Never given out, used, or too old.
    #[error("the nonce is not known or too old")]
    Nonce,
    /// Made with another secret or over another account.
    #[error("the MAC is wrong")]
    Mac,
}

impl SharedSecret {
    /// None where the secret is empty: then the endpoint does not exist.
    #[must_use]
    pub fn new(secret: String) -> Option<Self> {
        (!secret.is_empty()).then(|| Self {
            secret,
            nonces: Mutex::default(),
        })
    }

    /// A nonce for one claim.
    pub fn nonce(&self, now_ms: u64) -> String {
        let mut bytes = [0_u8; 32];
        rand::fill(&mut bytes);
        let nonce = URL_SAFE_NO_PAD.encode(bytes);
        let mut nonces = self.nonces.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        nonces.retain(|_, given| now_ms.saturating_sub(*given) <= NONCE_MS);
        if nonces.len() >= MAX_NONCES {
            let oldest = nonces
                .iter()
                .min_by_key(|(_, given)| **given)
                .map(|(nonce, _)| nonce.clone());
            oldest.and_then(|oldest| nonces.remove(&oldest));
        }
        nonces.insert(nonce.clone(), now_ms);
        nonce
    }

    /// Checks a claim and uses up its nonce, whether or not the MAC is right.
    ///
    /// # Errors
    /// When the nonce or the MAC is not right.
    pub fn check(&self, claim: &Claim<'_>, now_ms: u64) -> Result<(), ClaimError> {
        let given = self
            .nonces
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(claim.nonce);
        if given.is_none_or(|given| now_ms.saturating_sub(given) > NONCE_MS) {
            return Err(ClaimError::Nonce);
        }
        let mac = unhex(claim.mac).ok_or(ClaimError::Mac)?;
        self.mac(claim).verify_slice(&mac).map_err(|_| ClaimError::Mac)
    }

    fn mac(&self, claim: &Claim<'_>) -> Hmac<Sha1> {
        let mut mac = Hmac::<Sha1>::new_from_slice(self.secret.as_bytes()).expect("HMAC takes keys of every length");
        let admin = if claim.admin { "admin" } else { "notadmin" };
        let fields = [
            Some(claim.nonce),
            Some(claim.username),
            Some(claim.password),
            Some(admin),
            claim.user_type,
        ];
        for (place, field) in fields.into_iter().flatten().enumerate() {
            if place > 0 {
                mac.update(&[0]);
            }
            mac.update(field.as_bytes());
        }
        mac
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let (pairs, []) = digits.as_deref()?.as_chunks::<2>() else {
        return None;
    };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_mac_is_synapses() {
        // Computed with Python: hmac.new(b"s3cret", b"n\0alice\0pw\0notadmin", hashlib.sha1).hexdigest()
        let secret = SharedSecret::new("s3cret".to_owned()).unwrap();
        let claim = Claim {
            nonce: "n",
            username: "alice",
            password: "pw",
            admin: false,
            user_type: None,
            mac: "",
        };
        assert_eq!(
            hex(&secret.mac(&claim).finalize().into_bytes()),
            "b2c1f5e85e44adbf8d417f02ffd0f861567d0f25"
        );
    }

    #[test]
    fn a_nonce_is_good_once_and_for_a_minute() {
        let secret = SharedSecret::new("s3cret".to_owned()).unwrap();
        let nonce = secret.nonce(0);
        let mut claim = Claim {
            nonce: &nonce,
            username: "alice",
            password: "pw",
            admin: true,
            user_type: None,
            mac: "",
        };
        let mac = hex(&secret.mac(&claim).finalize().into_bytes());
        claim.mac = &mac;
        assert_eq!(secret.check(&claim, 1), Ok(()));
        assert_eq!(secret.check(&claim, 2), Err(ClaimError::Nonce));

        let late = secret.nonce(0);
        let claim = Claim {
            nonce: &late,
            mac: &mac,
            ..claim
        };
        assert_eq!(secret.check(&claim, NONCE_MS + 1), Err(ClaimError::Nonce));
    }

    #[test]
    fn another_account_than_the_macs_is_refused() {
        let secret = SharedSecret::new("s3cret".to_owned()).unwrap();
        let nonce = secret.nonce(0);
        let claim = Claim {
            nonce: &nonce,
            username: "alice",
            password: "pw",
            admin: false,
            user_type: None,
            mac: "",
        };
        let mac = hex(&secret.mac(&claim).finalize().into_bytes());
        let claim = Claim {
            admin: true,
            mac: &mac,
            ..claim
        };
        assert_eq!(secret.check(&claim, 1), Err(ClaimError::Mac));
        assert!(SharedSecret::new(String::new()).is_none());
    }
}
