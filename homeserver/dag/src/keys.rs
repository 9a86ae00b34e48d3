//! Public keys of other servers and the time for which each is valid.
//!
//! A key is checked once, when it is received, so that verifying an event is one plain ed25519 check. Must not fetch or
//! cache anything.

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName,
    serde::Base64,
    signatures::{PublicKeyMap, PublicKeySet},
};

/// The time until which a key's signatures are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyValidity {
    /// A current key, published as valid until then. The caller caps the published time at seven days from now (Matrix
    /// specification, "Retrieving server keys").
    ValidUntil(MilliSecondsSinceUnixEpoch),
    /// A key of `old_verify_keys`: valid for events until then, and for none since. Never valid for requests.
    ExpiredAt(MilliSecondsSinceUnixEpoch),
}

/// One public key of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyKey {
    public: [u8; 32],
    validity: KeyValidity,
}

/// The bytes are not a usable key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key does not have 32 bytes.
    #[error("a public key has 32 bytes, this one has {0}")]
    Length(usize),
    /// Not a point of the curve, or not its canonical encoding.
    #[error("not a canonical encoding of a curve point")]
    NotAPoint,
    /// A point of small order, for which one signature is valid for many messages.
    #[error("the key is weak (small order)")]
    Weak,
}

impl VerifyKey {
    /// Checks the bytes as `verify_strict` would, once for all later uses.
    ///
    /// # Errors
    /// They are not 32 bytes, not a canonical curve point, or a point of small order (T43).
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

    /// The bytes of the key.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The time until which it is valid.
    #[must_use]
    pub fn validity(&self) -> KeyValidity {
        self.validity
    }

    /// Whether the key is valid for an event of that time. `enforce`: whether the room version limits current keys, too.
    #[must_use]
    pub fn covers(&self, event_ts: MilliSecondsSinceUnixEpoch, enforce: bool) -> bool {
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

    /// Adds a key. It replaces an earlier one with the same id.
    pub fn insert(&mut self, server: OwnedServerName, key_id: String, key: VerifyKey) {
        self.servers.entry(server).or_default().insert(key_id, key);
    }

    /// Adds all keys of `other`.
    pub fn extend(&mut self, other: Self) {
        for (server, keys) in other.servers {
            self.servers.entry(server).or_default().extend(keys);
        }
    }

    /// One key, if it is present.
    #[must_use]
    pub fn get(&self, server: &ServerName, key_id: &str) -> Option<&VerifyKey> {
        self.servers.get(server)?.get(key_id)
    }

    /// All keys, by server and key id.
    pub fn iter(&self) -> impl Iterator<Item = (&ServerName, &str, &VerifyKey)> {
        let servers = self.servers.iter();
        servers.flat_map(|(server, keys)| keys.iter().map(move |(id, key)| (&**server, id.as_str(), key)))
    }

    /// The keys of these servers alone: checking an event prepares all keys that it is given.
    #[must_use]
    pub fn only<'a>(&self, servers: impl IntoIterator<Item = &'a OwnedServerName>) -> Self {
        let servers = servers.into_iter();
        let found = servers.filter_map(|server| Some((server.clone(), self.servers.get(server)?.clone())));
        Self {
            servers: found.collect(),
        }
    }

    /// The keys that are valid for an event of that time, in ruma's form. A server without a valid key stays in the
    /// map: a missing server is another error in ruma than a signature that can't be checked.
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

    /// The keys that are valid for signing requests now: current keys within their time.
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
