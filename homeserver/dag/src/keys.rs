//! Other servers' public keys, and when each of them may be believed.
//!
//! A key is checked once, when it comes in, so that verifying an event is one plain ed25519 check. Must
//! not fetch or cache anything.

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName,
    serde::Base64,
    signatures::{PublicKeyMap, PublicKeySet},
};

/// Until when a key's signatures count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyValidity {
    /// A current key, published as valid until then. What the publisher says is to be capped by the caller
    /// at seven days from now (Matrix specification, "Retrieving server keys").
    ValidUntil(MilliSecondsSinceUnixEpoch),
    /// A key of `old_verify_keys`: it signed events until then, and nothing since. Never good for requests.
    ExpiredAt(MilliSecondsSinceUnixEpoch),
}

/// One public key of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyKey {
    public: [u8; 32],
    validity: KeyValidity,
}

/// The bytes are no key that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A public key has 32 bytes.
    #[error("a public key has 32 bytes, this one {0}")]
    Length(usize),
    /// No point of the curve, or not in its only proper encoding.
    #[error("not a proper encoding of a curve point")]
    NotAPoint,
    /// A point of small order, under which one signature fits many messages.
    #[error("the key is weak")]
    Weak,
}

impl VerifyKey {
    /// Checks the bytes as `verify_strict` would, once for all later uses.
    ///
    /// # Errors
    /// When they aren't 32, no canonical curve point, or a point of small order (T43).
    pub fn new(public: &[u8], validity: KeyValidity) -> Result<Self, KeyError> {
        let bytes: [u8; 32] = public.try_into().map_err(|_| KeyError::Length(public.len()))?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::NotAPoint)?;
        if key.to_edwards().compress().to_bytes() != bytes {
            return Err(KeyError::NotAPoint);
        }
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        Ok(Self {
            public: bytes,
            validity,
        })
    }

    /// The key's bytes.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Until when it counts.
    #[must_use]
    pub fn validity(&self) -> KeyValidity {
        self.validity
    }

    /// Whether the key may have signed an event of that time.
    fn covers(&self, event_ts: MilliSecondsSinceUnixEpoch, enforce: bool) -> bool {
        match self.validity {
            KeyValidity::ValidUntil(until) => !enforce || event_ts <= until,
            KeyValidity::ExpiredAt(expired) => event_ts <= expired,
        }
    }
}

/// Keys of several servers, by server and key id (`ed25519:...`).
#[derive(Clone, Debug, Default)]
pub struct VerifyKeys {
    servers: BTreeMap<OwnedServerName, BTreeMap<String, VerifyKey>>,
}

impl VerifyKeys {
    /// No keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key. Of two with one id the later counts.
    pub fn insert(&mut self, server: OwnedServerName, key_id: String, key: VerifyKey) {
        self.servers.entry(server).or_default().insert(key_id, key);
    }

    /// Adds all keys of `other`.
    pub fn extend(&mut self, other: Self) {
        for (server, keys) in other.servers {
            self.servers.entry(server).or_default().extend(keys);
        }
    }

    /// One key, if it is here.
    #[must_use]
    pub fn get(&self, server: &ServerName, key_id: &str) -> Option<&VerifyKey> {
        self.servers.get(server)?.get(key_id)
    }

    /// The keys that may have signed an event of that time, in ruma's form. A server without any is still in
    /// the map: its absence would be another error than a signature that nobody can check.
    pub(crate) fn at(&self, event_ts: MilliSecondsSinceUnixEpoch, enforce_validity: bool) -> PublicKeyMap {
        self.servers
            .iter()
            .map(|(server, keys)| {
                let covering: PublicKeySet = keys
                    .iter()
                    .filter(|(_, key)| key.covers(event_ts, enforce_validity))
                    .map(|(id, key)| (id.clone(), Base64::new(key.public.to_vec())))
                    .collect();
                (server.to_string(), covering)
            })
            .collect()
    }

    /// The keys that may sign requests now: current ones, within their time.
    #[must_use]
    pub fn for_requests(&self, now: MilliSecondsSinceUnixEpoch) -> PublicKeyMap {
        self.servers
            .iter()
            .map(|(server, keys)| {
                let current: PublicKeySet = keys
                    .iter()
                    .filter(|(_, key)| matches!(key.validity, KeyValidity::ValidUntil(until) if now <= until))
                    .map(|(id, key)| (id.clone(), Base64::new(key.public.to_vec())))
                    .collect();
                (server.to_string(), current)
            })
            .collect()
    }
}
