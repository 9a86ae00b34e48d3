//! The keys of the servers: those of the file, or pinned ones. Must not believe a key of the file that differs from a pinned
//! one.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, UInt};
use weft_dag::{KeyValidity, VerifyKey, VerifyKeys};
use weft_wire::{
    audit::{AuditKey, AuditKeys},
    limits::MAX_AUDIT_KEYS,
};

/// Why a file of pinned keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It has another form.
    #[error("not a JSON object of servers and their keys: {0}")]
    Form(#[from] serde_json::Error),
    /// A key in it is unusable.
    #[error("{0}")]
    Key(String),
}

/// Reads pinned keys: the `keys` of an audit file as one JSON object. A key without a time is valid at any time.
///
/// # Errors
/// It is not such an object, or a key is not usable.
pub fn pinned_keys(json: &[u8]) -> Result<VerifyKeys, KeysError> {
    let keys: AuditKeys = serde_json::from_slice(json)?;
    let mut pinned = VerifyKeys::new();
    for (server, id, key) in flat(&keys) {
        let key = read(server, id, key).map_err(KeysError::Key)?;
        pinned.insert(server.clone(), id.clone(), key);
    }
    Ok(pinned)
}

fn flat(keys: &AuditKeys) -> impl Iterator<Item = (&OwnedServerName, &String, &AuditKey)> {
    keys.iter()
        .flat_map(|(server, keys)| keys.iter().map(move |(id, key)| (server, id, key)))
}

fn read(server: &OwnedServerName, id: &str, key: &AuditKey) -> Result<VerifyKey, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("key {id} of {server}: {why}");
    if !id.starts_with("ed25519:") {
        return Err(wrong(&"not an ed25519 key"));
    }
    let bytes = STANDARD_NO_PAD.decode(&key.key).map_err(|error| wrong(&error))?;
    let validity = match (key.expired, key.valid_until) {
        (Some(expired), _) => KeyValidity::ExpiredAt(expired),
        (None, Some(until)) => KeyValidity::ValidUntil(until),
        (None, None) => KeyValidity::ValidUntil(MilliSecondsSinceUnixEpoch(UInt::MAX)),
    };
    VerifyKey::new(&bytes, validity).map_err(|error| wrong(&error))
}

/// The keys with which events are checked.
#[derive(Debug)]
pub(crate) struct Keys {
    pinned: Option<VerifyKeys>,
    of_file: VerifyKeys,
    stated: BTreeMap<(OwnedServerName, String), AuditKey>,
}

impl Keys {
    pub(crate) fn new(pinned: Option<VerifyKeys>) -> Self {
        Self {
            pinned,
            of_file: VerifyKeys::new(),
            stated: BTreeMap::new(),
        }
    }

    /// Takes keys of the file.
    pub(crate) fn take(&mut self, keys: &AuditKeys) -> Result<(), String> {
        for (server, id, key) in flat(keys) {
            let read = read(server, id, key)?;
            let pinned = self.pinned.as_ref().and_then(|pinned| pinned.get(server, id));
            if pinned.is_some_and(|pinned| pinned.public() != read.public()) {
                return Err(format!("key {id} of {server} differs from the pinned one"));
            }
            let place = (server.clone(), id.clone());
            if self.stated.get(&place).is_some_and(|stated| stated != key) {
                return Err(format!("key {id} of {server} is given twice, with different values"));
            }
            self.stated.insert(place, key.clone());
            if self.stated.len() > MAX_AUDIT_KEYS {
                return Err(format!("more than {MAX_AUDIT_KEYS} keys"));
            }
            self.of_file.insert(server.clone(), id.clone(), read);
        }
        Ok(())
    }

    /// The keys that count.
    pub(crate) fn usable(&self) -> &VerifyKeys {
        self.pinned.as_ref().unwrap_or(&self.of_file)
    }

    /// The keys that count, for people: server, key id, key.
    pub(crate) fn listed(&self) -> Vec<(OwnedServerName, String, String)> {
        let keys = self.usable().iter();
        keys.map(|(server, id, key)| (server.to_owned(), id.to_owned(), STANDARD_NO_PAD.encode(key.public())))
            .collect()
    }
}
