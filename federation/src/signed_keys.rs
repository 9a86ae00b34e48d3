//! The answer of a key server, checked: who signed it, which keys are in it, until when they count.
//!
//! Pure: gets bytes and times, gives keys or a reason. Must not fetch anything.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName,
    serde::{Base64, base64::Standard},
    signatures::{PublicKeyMap, verify_json},
};
use serde::{Deserialize, Serialize};
use weft_dag::{KeyValidity, VerifyKey, VerifyKeys};
use weft_wire::limits;

use crate::{validity::clamp, weak_keys::is_weak};

/// One key of another server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredKey {
    /// 32 bytes in unpadded base64.
    pub public: String,
    /// Signs now, and is believed until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<MilliSecondsSinceUnixEpoch>,
    /// Signed until then and no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<MilliSecondsSinceUnixEpoch>,
}

/// What is known of another server's keys: its newest answer, and keys of earlier answers that it no longer names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredKeys {
    /// The server.
    pub server: OwnedServerName,
    /// When the newest answer was fetched.
    pub fetched: MilliSecondsSinceUnixEpoch,
    /// By key id.
    pub keys: BTreeMap<String, StoredKey>,
    /// The newest answer as its server signed it: a notary hands it on.
    pub signed: CanonicalJsonObject,
    /// Earlier answers that name keys which no later one names, newest first: a notary is asked for those above all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<CanonicalJsonObject>,
}

/// Why a key answer is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedKeysError {
    /// No JSON object, or not canonical.
    #[error("not a key answer: {0}")]
    Form(String),
    /// Keys of another server than was asked for.
    #[error("the keys are those of {0}")]
    OtherServer(String),
    /// A key is no ed25519 key, or one that everybody knows.
    #[error("key {id}: {problem}")]
    Key {
        /// Its id.
        id: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Not signed with one of its own current keys.
    #[error("not signed with a key of its own: {0}")]
    NotSelfSigned(String),
    /// Not signed by the notary that handed it over.
    #[error("not signed by the notary {0}")]
    NotNotarySigned(OwnedServerName),
}

#[derive(Deserialize)]
struct Answer {
    server_name: String,
    valid_until_ts: MilliSecondsSinceUnixEpoch,
    verify_keys: BTreeMap<String, PublishedKey>,
    #[serde(default)]
    old_verify_keys: BTreeMap<String, PublishedKey>,
}

#[derive(Deserialize)]
struct PublishedKey {
    key: String,
    expired_ts: Option<MilliSecondsSinceUnixEpoch>,
}

impl StoredKeys {
    /// Checks an answer that is said to hold the keys of `server`.
    ///
    /// # Errors
    /// When it isn't signed by that server with a key that it names itself, or a key in it can't be used.
    pub fn check(
        server: &ServerName,
        object: CanonicalJsonObject,
        fetched: MilliSecondsSinceUnixEpoch,
    ) -> Result<Self, SignedKeysError> {
        let value = serde_json::to_value(&object).map_err(|error| SignedKeysError::Form(error.to_string()))?;
        let answer: Answer = serde_json::from_value(value).map_err(|error| SignedKeysError::Form(error.to_string()))?;
        if answer.server_name != server.as_str() {
            return Err(SignedKeysError::OtherServer(answer.server_name));
        }
        if answer.verify_keys.len() + answer.old_verify_keys.len() > limits::MAX_KEYS_PER_SERVER {
            return Err(SignedKeysError::Form("too many keys".to_owned()));
        }
        let valid_until = clamp(answer.valid_until_ts, fetched);
        let mut keys = BTreeMap::new();
        for (id, old) in answer.old_verify_keys.iter().filter(|(id, _)| is_ed25519(id)) {
            let expired = old
                .expired_ts
                .ok_or_else(|| wrong(id, "an old key has no expired_ts"))?;
            check_key(id, &old.key, KeyValidity::ExpiredAt(expired))?;
            keys.insert(
                id.clone(),
                StoredKey {
                    public: old.key.clone(),
                    valid_until: None,
                    expired: Some(expired),
                },
            );
        }
        let mut own = BTreeMap::new();
        for (id, key) in answer.verify_keys.iter().filter(|(id, _)| is_ed25519(id)) {
            let checked = check_key(id, &key.key, KeyValidity::ValidUntil(valid_until))?;
            if keys.contains_key(id) {
                return Err(wrong(id, "the key is both current and old"));
            }
            keys.insert(
                id.clone(),
                StoredKey {
                    public: key.key.clone(),
                    valid_until: Some(valid_until),
                    expired: None,
                },
            );
            own.insert(id.clone(), Base64::new(checked.public().to_vec()));
        }
        let map = PublicKeyMap::from([(server.to_string(), own)]);
        check_signed(&object, server, &map).map_err(SignedKeysError::NotSelfSigned)?;
        Ok(Self {
            server: server.to_owned(),
            fetched,
            keys,
            signed: object,
            earlier: Vec::new(),
        })
    }

    /// As [`StoredKeys::check`], for what a notary handed over: it must have signed too.
    ///
    /// # Errors
    /// As [`StoredKeys::check`], and when the notary's signature is missing or wrong.
    pub fn check_notarised(
        server: &ServerName,
        object: CanonicalJsonObject,
        fetched: MilliSecondsSinceUnixEpoch,
        notary: &ServerName,
        notary_keys: &PublicKeyMap,
    ) -> Result<Self, SignedKeysError> {
        check_signed(&object, notary, notary_keys).map_err(|_| SignedKeysError::NotNotarySigned(notary.to_owned()))?;
        Self::check(server, object, fetched)
    }

    /// Adds what an earlier answer knew: keys that are no longer named stay good for what they were good for.
    #[must_use]
    pub fn with_earlier(mut self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        let mut named: BTreeSet<String> = key_ids(&self.signed).cloned().collect();
        for answer in std::iter::once(earlier.signed).chain(earlier.earlier) {
            let has_more = key_ids(&answer).any(|id| !named.contains(id));
            if has_more && self.earlier.len() < limits::MAX_EARLIER_KEY_ANSWERS {
                named.extend(key_ids(&answer).cloned());
                self.earlier.push(answer);
            }
        }
        let room = limits::MAX_KEYS_PER_SERVER.saturating_sub(self.keys.len());
        for (id, key) in earlier.keys.into_iter().take(room) {
            self.keys.entry(id).or_insert(key);
        }
        self
    }

    /// Whether each of these keys is known and believed for that time.
    #[must_use]
    pub fn cover<'a>(&self, ids: impl IntoIterator<Item = &'a String>, at: MilliSecondsSinceUnixEpoch) -> bool {
        ids.into_iter().all(|id| {
            self.keys
                .get(id)
                .is_some_and(|key| key.expired.is_some() || key.valid_until.is_some_and(|until| at <= until))
        })
    }

    /// Whether the newest answer still counts at that time.
    #[must_use]
    pub fn valid_at(&self, at: MilliSecondsSinceUnixEpoch) -> bool {
        self.keys
            .values()
            .any(|key| key.valid_until.is_some_and(|until| at <= until))
    }

    /// In the form that events and requests are checked with.
    #[must_use]
    pub fn verify_keys(&self) -> VerifyKeys {
        let mut all = VerifyKeys::new();
        for (id, key) in &self.keys {
            let validity = match (key.expired, key.valid_until) {
                (Some(expired), _) => KeyValidity::ExpiredAt(expired),
                (None, Some(until)) => KeyValidity::ValidUntil(until),
                (None, None) => continue,
            };
            if let Ok(key) = check_key(id, &key.public, validity) {
                all.insert(self.server.clone(), id.clone(), key);
            }
        }
        all
    }
}

/// The ids of all keys in an answer that was checked.
fn key_ids(answer: &CanonicalJsonObject) -> impl Iterator<Item = &String> {
    let fields = ["verify_keys", "old_verify_keys"];
    fields
        .into_iter()
        .filter_map(|field| answer.get(field).and_then(CanonicalJsonValue::as_object))
        .flat_map(|keys| keys.keys())
}

fn wrong(id: &str, problem: impl Into<String>) -> SignedKeysError {
    SignedKeysError::Key {
        id: id.chars().take(80).collect(),
        problem: problem.into(),
    }
}

/// Keys of other algorithms are of no use and no harm.
fn is_ed25519(id: &str) -> bool {
    id.starts_with("ed25519:")
}

fn check_key(id: &str, public: &str, validity: KeyValidity) -> Result<VerifyKey, SignedKeysError> {
    let version = id.strip_prefix("ed25519:").unwrap_or_default();
    if version.is_empty() || id.len() > limits::MAX_EVENT_FIELD_BYTES {
        return Err(wrong(id, "the key id is empty or too long"));
    }
    let bytes = Base64::<Standard>::parse(public).map_err(|error| wrong(id, error.to_string()))?;
    let key = VerifyKey::new(bytes.as_bytes(), validity).map_err(|error| wrong(id, error.to_string()))?;
    if is_weak(key.public()) {
        return Err(wrong(id, "everybody knows the private half"));
    }
    Ok(key)
}

/// Checks that `signer` itself signed: `verify_json` asks for a signature of every server in the map and finds none
/// missing where the object has no signatures of it.
fn check_signed(object: &CanonicalJsonObject, signer: &ServerName, keys: &PublicKeyMap) -> Result<(), String> {
    let signatures = object.get("signatures").and_then(CanonicalJsonValue::as_object);
    let own = signatures
        .and_then(|all| all.get(signer.as_str()))
        .and_then(CanonicalJsonValue::as_object);
    let own = own.ok_or_else(|| "no signature".to_owned())?;
    let mut alone = object.clone();
    let only = CanonicalJsonObject::from([(signer.to_string(), CanonicalJsonValue::Object(own.clone()))]);
    alone.insert("signatures".to_owned(), only.into());
    verify_json(keys, &alone).map_err(|error| error.to_string())
}
