//! Registration with a shared secret, in the form of Synapse's admin scripts (`/_synapse/admin/v1/register`).
//!
//! The caller proves knowledge of the secret by an HMAC over a nonce of this server and the new account. It is HMAC-SHA1
//! because those scripts send it; SHA-1's collisions do not weaken HMAC. Must not create accounts.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha1::Sha1;
use sha2::Sha256;

/// Lifetime of a nonce in milliseconds. Synapse: 60 s.
const NONCE_MS: u64 = 60_000;
/// Length in bytes of a nonce's expiry and of its random part; an HMAC-SHA256 over both follows.
const NONCE_BYTES: (usize, usize) = (8, 16);

/// The secret, and the key of the nonces. Nonces are not stored: each contains its expiry and a MAC, so that requests
/// for many nonces do not displace those of other clients.
pub struct SharedSecret {
    secret: String,
    /// Random per process: nonces are invalid after a restart.
    nonce_key: [u8; 32],
    /// Nonces of accepted claims, until they expire. Only holders of the secret can add to them.
    used: Mutex<HashMap<String, u64>>,
}

/// A request to register an account, with its MAC.
#[derive(Clone)]
pub struct Claim<'a> {
    /// The nonce that was issued to the caller.
    pub nonce: &'a str,
    /// Local part.
    pub username: &'a str,
    /// The password, unchanged.
    pub password: &'a str,
    /// The account gets the admin flag.
    pub admin: bool,
    /// Synapse's `user_type`, if present.
    pub user_type: Option<&'a str>,
    /// The HMAC in hexadecimal.
    pub mac: &'a str,
}

/// The reason why a claim is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Never issued, already used, or expired.
    #[error("the nonce is unknown or has expired")]
    Nonce,
    /// Computed with another secret or over another account.
    #[error("the MAC is wrong")]
    Mac,
}

impl SharedSecret {
    /// `None` if the secret is empty: then the endpoint does not exist.
    #[must_use]
    pub fn new(secret: String) -> Option<Self> {
        let mut nonce_key = [0; 32];
        rand::fill(&mut nonce_key);
        (!secret.is_empty()).then(|| Self {
            secret,
            nonce_key,
            used: Mutex::default(),
        })
    }

    /// Issues a nonce for one claim.
    pub fn nonce(&self, now_ms: u64) -> String {
        let mut nonce = now_ms.saturating_add(NONCE_MS).to_be_bytes().to_vec();
        let mut random = [0_u8; NONCE_BYTES.1];
        rand::fill(&mut random);
        nonce.extend(random);
        let mac = self.nonce_mac(&nonce).finalize().into_bytes();
        nonce.extend(mac);
        URL_SAFE_NO_PAD.encode(nonce)
    }

    /// Expiry of a nonce. `None`: this process did not issue it.
    fn expiry(&self, nonce: &str) -> Option<u64> {
        let bytes = URL_SAFE_NO_PAD.decode(nonce).ok()?;
        let (signed, mac) = bytes.split_at_checked(NONCE_BYTES.0 + NONCE_BYTES.1)?;
        self.nonce_mac(signed).verify_slice(mac).ok()?;
        Some(u64::from_be_bytes(*signed.first_chunk()?))
    }

    fn nonce_mac(&self, signed: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.nonce_key).expect("HMAC accepts keys of every length");
        mac.update(signed);
        mac
    }

    /// Checks a claim. An accepted claim consumes its nonce.
    ///
    /// # Errors
    /// If the nonce or the MAC is wrong.
    pub fn check(&self, claim: &Claim<'_>, now_ms: u64) -> Result<(), ClaimError> {
        let expires = self.expiry(claim.nonce).filter(|expires| *expires >= now_ms);
        let expires = expires.ok_or(ClaimError::Nonce)?;
        let mac = hex::decode(claim.mac).map_err(|_| ClaimError::Mac)?;
        self.mac(claim).verify_slice(&mac).map_err(|_| ClaimError::Mac)?;
        let mut used = self.used.lock();
        used.retain(|_, expires| *expires >= now_ms);
        match used.insert(claim.nonce.to_owned(), expires) {
            None => Ok(()),
            Some(_) => Err(ClaimError::Nonce),
        }
    }

    fn mac(&self, claim: &Claim<'_>) -> Hmac<Sha1> {
        let mut mac = Hmac::<Sha1>::new_from_slice(self.secret.as_bytes()).expect("HMAC accepts keys of every length");
        let admin = if claim.admin { "admin" } else { "notadmin" };
        let fields = [
            Some(claim.nonce),
            Some(claim.username),
            Some(claim.password),
            Some(admin),
            claim.user_type,
        ];
        for (index, field) in fields.into_iter().flatten().enumerate() {
            if index > 0 {
                mac.update(&[0]);
            }
            mac.update(field.as_bytes());
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_equals_that_of_synapse() {
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
            hex::encode(secret.mac(&claim).finalize().into_bytes()),
            "b2c1f5e85e44adbf8d417f02ffd0f861567d0f25"
        );
    }

    #[test]
    fn a_nonce_is_valid_once_and_for_a_minute() {
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
        let mac = hex::encode(secret.mac(&claim).finalize().into_bytes());
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
    fn requests_for_many_nonces_do_not_invalidate_others() {
        let secret = SharedSecret::new("s3cret".to_owned()).unwrap();
        let nonce = secret.nonce(0);
        for _ in 0..10_000 {
            secret.nonce(0);
        }
        let mut claim = Claim {
            nonce: &nonce,
            username: "alice",
            password: "pw",
            admin: false,
            user_type: None,
            mac: "",
        };
        let mac = hex::encode(secret.mac(&claim).finalize().into_bytes());
        claim.mac = "00";
        assert_eq!(secret.check(&claim, 1), Err(ClaimError::Mac));
        claim.mac = &mac;
        assert_eq!(
            secret.check(&claim, 1),
            Ok(()),
            "a wrong claim of another client does not consume the nonce"
        );
    }

    #[test]
    fn a_nonce_that_was_not_issued_is_refused() {
        let (secret, other) = (
            SharedSecret::new("s3cret".to_owned()).unwrap(),
            SharedSecret::new("s3cret".to_owned()).unwrap(),
        );
        let nonce = secret.nonce(0);
        let mut bytes = URL_SAFE_NO_PAD.decode(&nonce).unwrap();
        bytes[6] ^= 1;
        let longer = URL_SAFE_NO_PAD.encode(&bytes);
        for made_up in ["", "n", &nonce[..20], &other.nonce(0), &longer, &format!("{nonce}AA")] {
            let mut claim = Claim {
                nonce: made_up,
                username: "alice",
                password: "pw",
                admin: false,
                user_type: None,
                mac: "",
            };
            let mac = hex::encode(secret.mac(&claim).finalize().into_bytes());
            claim.mac = &mac;
            assert_eq!(secret.check(&claim, 1), Err(ClaimError::Nonce), "{made_up}");
        }
    }

    #[test]
    fn a_mac_for_another_account_is_refused() {
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
        let mac = hex::encode(secret.mac(&claim).finalize().into_bytes());
        let claim = Claim {
            admin: true,
            mac: &mac,
            ..claim
        };
        assert_eq!(secret.check(&claim, 1), Err(ClaimError::Mac));
        assert!(SharedSecret::new(String::new()).is_none());
    }
}
