//! Checks a key response: its signatures, its keys and their validity.
//!
//! Pure: takes bytes and times, returns keys or an error. Must not fetch anything.

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
    /// A current key: valid until this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<MilliSecondsSinceUnixEpoch>,
    /// An old key: valid for signatures made before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<MilliSecondsSinceUnixEpoch>,
}

/// What is known of another server's keys: its newest response, and keys of earlier responses that it no longer
/// lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredKeys {
    /// The server.
    pub server: OwnedServerName,
    /// When the newest response was fetched.
    pub fetched: MilliSecondsSinceUnixEpoch,
    /// By key id.
    pub keys: BTreeMap<String, StoredKey>,
    /// The newest response as its server signed it; a notary passes it on.
    pub signed: CanonicalJsonObject,
    /// Earlier responses with keys that no later one lists, newest first: notaries are mostly queried for these keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<CanonicalJsonObject>,
}

/// Why a key response is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedKeysError {
    /// Not a JSON object, or not canonical.
    #[error("not a key response: {0}")]
    Form(String),
    /// The keys belong to another server than the requested one.
    #[error("the keys belong to {0}")]
    OtherServer(String),
    /// A key is not an ed25519 key, or its private half is public knowledge.
    #[error("key {id}: {problem}")]
    Key {
        /// The key id.
        id: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Not signed with one of the server's own current keys.
    #[error("not signed with one of the server's own keys: {0}")]
    NotSelfSigned(String),
    /// Not signed by the notary that sent it.
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
    /// Checks a response that should contain the keys of `server`.
    ///
    /// # Errors
    /// When it is not signed by that server with a key in the response, or a key in it is unusable.
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

    /// As [`StoredKeys::check`], for a response from a notary, which must have signed it too.
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

    /// Adds the keys of an earlier response: keys that are no longer listed keep their validity.
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

    /// Whether each of these keys is known and valid at that time.
    #[must_use]
    pub fn cover<'a>(&self, ids: impl IntoIterator<Item = &'a String>, at: MilliSecondsSinceUnixEpoch) -> bool {
        ids.into_iter().all(|id| {
            self.keys
                .get(id)
                .is_some_and(|key| key.expired.is_some() || key.valid_until.is_some_and(|until| at <= until))
        })
    }

    /// Whether the newest response is still valid at that time.
    #[must_use]
    pub fn valid_at(&self, at: MilliSecondsSinceUnixEpoch) -> bool {
        self.keys
            .values()
            .any(|key| key.valid_until.is_some_and(|until| at <= until))
    }

    /// The keys in the form that events and requests are checked with.
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

/// The ids of all keys in a checked response.
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

/// Keys of other algorithms are ignored.
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
        return Err(wrong(id, "its private half is public knowledge"));
    }
    Ok(key)
}

/// Checks that `signer` itself signed: `verify_json` looks for a signature of every server in the map, and reports
/// none as missing if the object has no signatures of that server.
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
