//! A received event with a checked form and unchecked signatures.
//!
//! This is step 1 of the checks on receipt (Matrix specification, server-server API, "Checks performed on receipt of a
//! PDU"); `verify` is steps 2 and 3. Must not use any other event.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName,
    RoomId, UserId,
    canonical_json::redact,
    signatures::{self, reference_hash, required_server_signatures_to_verify_event, verify_event},
};
use weft_wire::limits;

use crate::{BuildError, Pdu, RoomVersion, Signer, Verified, VerifyKeys, parse_canonical};

/// Why an event is dropped, as if it had never been received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropReason {
    /// The event exceeds the size limit.
    #[error("the event has {bytes} bytes, the limit is {max}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Not canonical JSON.
    #[error("not canonical JSON: {0}")]
    Json(String),
    /// A field has the wrong form.
    #[error("`{field}`: {problem}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The signatures that the room version requires are missing or invalid.
    #[error("signatures: {0}")]
    Signatures(String),
}

impl DropReason {
    fn field(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Field {
            field,
            problem: problem.into(),
        }
    }
}

/// An event with a valid form and a computed id. Its fields must not be trusted yet.
#[derive(Clone, Debug)]
pub struct Unchecked {
    object: CanonicalJsonObject,
    pdu: Pdu,
    version: RoomVersion,
}

impl Unchecked {
    /// Parses an event in the federation format.
    ///
    /// # Errors
    /// Its form is not that of an event of this room version; it must be dropped.
    pub fn parse(json: &str, version: &RoomVersion) -> Result<Self, DropReason> {
        check_size(json.len(), limits::MAX_EVENT_TEXT_BYTES)?;
        let object = parse_canonical(json).map_err(|error| DropReason::Json(error.to_string()))?;
        Self::from_object(object, version)
    }

    pub(crate) fn from_object(mut object: CanonicalJsonObject, version: &RoomVersion) -> Result<Self, DropReason> {
        let json = to_json(&object)?;
        check_size(json.len(), limits::MAX_EVENT_BYTES)?;
        check_form(&object, version)?;
        // `unsigned` is set by the server that stores the event: nobody signs it, and it changes no hash.
        let json = if object.remove("unsigned").is_some() {
            to_json(&object)?
        } else {
            json
        };
        let hash = reference_hash(&object, version.rules()).map_err(|error| DropReason::Json(error.to_string()))?;
        let event_id =
            EventId::new_v2_or_v3(&hash).map_err(|error| DropReason::field("event_id", error.to_string()))?;
        let pdu = Pdu::from_canonical(json, event_id, version, false).map_err(DropReason::Json)?;
        Ok(Self {
            object,
            pdu,
            version: version.clone(),
        })
    }

    /// The computed id. An `event_id` in the event itself is ignored.
    #[must_use]
    pub fn event_id(&self) -> &EventId {
        self.pdu.event_id()
    }

    /// Its canonical JSON, without `unsigned`.
    #[must_use]
    pub fn json(&self) -> &str {
        self.pdu.json()
    }

    /// The room that it claims.
    #[must_use]
    pub fn room_id(&self) -> &RoomId {
        self.pdu.room_id()
    }

    /// The sender that it claims.
    #[must_use]
    pub fn sender(&self) -> &UserId {
        self.pdu.sender()
    }

    /// The time that it claims.
    #[must_use]
    pub fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.pdu.origin_server_ts()
    }

    /// The event type.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.pdu.kind()
    }

    /// The events that it claims to reference.
    #[must_use]
    pub fn prev_events(&self) -> &[OwnedEventId] {
        self.pdu.prev_events()
    }

    /// The auth events that it claims.
    #[must_use]
    pub fn auth_events(&self) -> &[OwnedEventId] {
        self.pdu.auth_events()
    }

    /// The keys that `verify` needs, by server: the keys with which the servers that must have signed did sign, at most
    /// [`limits::MAX_SIGNING_KEYS_PER_SERVER`] each. A server whose required signature is missing has no keys in the
    /// map: `verify` will refuse the event.
    #[must_use]
    pub fn needed_keys(&self) -> BTreeMap<OwnedServerName, BTreeSet<String>> {
        let required = required_server_signatures_to_verify_event(&self.object, &self.version.rules().signatures)
            .unwrap_or_default();
        let signatures = self.object.get("signatures").and_then(CanonicalJsonValue::as_object);
        required
            .into_iter()
            .map(|server| {
                let signed = signatures
                    .and_then(|all| all.get(server.as_str()))
                    .and_then(CanonicalJsonValue::as_object);
                let ids = signed
                    .into_iter()
                    .flat_map(|signed| signed.keys())
                    .filter(|id| id.starts_with("ed25519:"))
                    .take(limits::MAX_SIGNING_KEYS_PER_SERVER)
                    .cloned()
                    .collect();
                (server, ids)
            })
            .collect()
    }

    /// Checks the signatures of all servers that the room version requires, with keys that were valid at the event's
    /// time, and the content hash. If the hash does not match, the result is the redacted event.
    ///
    /// # Errors
    /// A signature is missing or wrong; the event must be dropped.
    pub fn verify(self, keys: &VerifyKeys) -> Result<Verified, DropReason> {
        let rules = self.version.rules();
        let usable = keys.at(self.origin_server_ts(), rules.enforce_key_validity);
        let verified =
            verify_event(&usable, &self.object, rules).map_err(|error| DropReason::Signatures(error.to_string()))?;
        match verified {
            signatures::Verified::All => Ok(self.into_verified()),
            signatures::Verified::Signatures => self.into_redacted(),
        }
    }

    /// The event with our signature added, still unchecked. A restricted join that names one of our users must be
    /// signed by us before it can be verified. Whether the user may authorise it is checked afterwards; until then the
    /// event must not be sent to anyone.
    ///
    /// # Errors
    /// The event would exceed the size limit with one more signature.
    pub fn cosigned(mut self, signer: &Signer) -> Result<Self, BuildError> {
        signer.sign_event(&mut self.object, &self.version)?;
        Self::from_object(self.object, &self.version).map_err(BuildError::Refused)
    }

    /// Without a check: for events that this server has just signed.
    pub(crate) fn into_verified(self) -> Verified {
        Verified::new(Arc::new(self.pdu), false)
    }

    fn into_redacted(self) -> Result<Verified, DropReason> {
        let redacted = redact(self.object, &self.version.rules().redaction, None)
            .map_err(|error| DropReason::Json(error.to_string()))?;
        let event_id = self.pdu.event_id().to_owned();
        let pdu = Pdu::from_canonical(to_json(&redacted)?, event_id, &self.version, false).map_err(DropReason::Json)?;
        Ok(Verified::new(Arc::new(pdu), true))
    }
}

fn check_size(bytes: usize, max: usize) -> Result<(), DropReason> {
    if bytes > max {
        Err(DropReason::TooLarge { bytes, max })
    } else {
        Ok(())
    }
}

fn to_json(object: &CanonicalJsonObject) -> Result<String, DropReason> {
    serde_json::to_string(object).map_err(|error| DropReason::Json(error.to_string()))
}

/// Checks the event format of the room version. ruma's `check_pdu_format` is not used: its limit is one byte too low,
/// and it does not check hashes, signatures and the form of ids.
fn check_form(object: &CanonicalJsonObject, version: &RoomVersion) -> Result<(), DropReason> {
    let kind = name(object, "type", version)?;
    let is_create = kind == "m.room.create";
    UserId::parse(string(object, "sender")?).map_err(|error| DropReason::field("sender", error.to_string()))?;
    check_room_id(object, version, is_create)?;
    if object.contains_key("state_key") {
        name(object, "state_key", version)?;
    }
    for field in ["content", "hashes", "signatures"] {
        self::object(object, field)?;
    }
    check_integer(object, "depth")?;
    check_integer(object, "origin_server_ts")?;
    let prev_events = event_ids(object, "prev_events", limits::MAX_PREV_EVENTS)?;
    if prev_events == 0 && !is_create {
        return Err(DropReason::field(
            "prev_events",
            "only a create event has no prev_events",
        ));
    }
    // Whether they are the right ones is decided by the authorisation rules: an event that cites the create event in
    // version 12 is rejected by them and keeps its position in the graph.
    event_ids(object, "auth_events", limits::MAX_AUTH_EVENTS)?;
    check_hash(object)?;
    check_signatures(object)
}

fn string<'a>(object: &'a CanonicalJsonObject, field: &'static str) -> Result<&'a str, DropReason> {
    let value = object.get(field).and_then(CanonicalJsonValue::as_str);
    let value = value.ok_or_else(|| DropReason::field(field, "not a string"))?;
    if value.len() > limits::MAX_EVENT_FIELD_BYTES {
        return Err(DropReason::field(field, format!("too long ({} bytes)", value.len())));
    }
    Ok(value)
}

/// An event type or a state key. All servers reject more than 256 characters. Up to version 10 they do not agree on 256
/// bytes: an event with more bytes is rejected there and not dropped ([`crate::authorize`]), so that the graph after it
/// has no gap.
fn name<'a>(
    object: &'a CanonicalJsonObject,
    field: &'static str,
    version: &RoomVersion,
) -> Result<&'a str, DropReason> {
    if version.drops_long_names() {
        return string(object, field);
    }
    let value = object.get(field).and_then(CanonicalJsonValue::as_str);
    let value = value.ok_or_else(|| DropReason::field(field, "not a string"))?;
    let characters = value.chars().count();
    if characters > limits::MAX_EVENT_FIELD_BYTES {
        return Err(DropReason::field(field, format!("too long ({characters} characters)")));
    }
    Ok(value)
}

fn object<'a>(from: &'a CanonicalJsonObject, field: &'static str) -> Result<&'a CanonicalJsonObject, DropReason> {
    from.get(field)
        .and_then(CanonicalJsonValue::as_object)
        .ok_or_else(|| DropReason::field(field, "not an object"))
}

fn check_room_id(object: &CanonicalJsonObject, version: &RoomVersion, is_create: bool) -> Result<(), DropReason> {
    if version.room_id_is_create_hash() {
        if is_create {
            // If it has one, the authorisation rules reject it: that is a decision about the event and not about its
            // form.
            return if object.contains_key("room_id") {
                string(object, "room_id").map(|_| ())
            } else {
                Ok(())
            };
        }
        let room_id = string(object, "room_id")?;
        return match room_id.strip_prefix('!') {
            Some(hash) if is_reference_hash(hash) => Ok(()),
            _ => Err(DropReason::field("room_id", "not the hash of a create event")),
        };
    }
    let room_id = string(object, "room_id")?;
    RoomId::parse(room_id).map_err(|error| DropReason::field("room_id", error.to_string()))?;
    Ok(())
}

fn check_integer(object: &CanonicalJsonObject, field: &'static str) -> Result<(), DropReason> {
    match object.get(field).and_then(CanonicalJsonValue::as_integer) {
        Some(value) if i64::from(value) >= 0 => Ok(()),
        _ => Err(DropReason::field(field, "not an integer from 0 to 2^53-1")),
    }
}

/// Checks a list of event ids and returns its length.
fn event_ids(object: &CanonicalJsonObject, field: &'static str, max: usize) -> Result<usize, DropReason> {
    let ids = object.get(field).and_then(CanonicalJsonValue::as_array);
    let ids = ids.ok_or_else(|| DropReason::field(field, "not an array"))?;
    if ids.len() > max {
        return Err(DropReason::field(
            field,
            format!("{} entries, the limit is {max}", ids.len()),
        ));
    }
    let well_formed = |id: &CanonicalJsonValue| {
        id.as_str()
            .and_then(|id| id.strip_prefix('$'))
            .is_some_and(is_reference_hash)
    };
    if ids.iter().all(well_formed) {
        Ok(ids.len())
    } else {
        Err(DropReason::field(field, "not all entries are event ids"))
    }
}

/// SHA-256 in base64 as in room versions since 4: 43 characters, URL-safe, no padding.
fn is_reference_hash(text: &str) -> bool {
    text.len() == 43
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// A content hash that is not 32 bytes in standard base64 is a wrong form, not a mismatch.
fn check_hash(object: &CanonicalJsonObject) -> Result<(), DropReason> {
    let hash = self::object(object, "hashes")?
        .get("sha256")
        .and_then(CanonicalJsonValue::as_str);
    let hash = hash.ok_or_else(|| DropReason::field("hashes", "no sha256"))?;
    let decoded = ruma::serde::Base64::<ruma::serde::base64::Standard>::parse(hash);
    match decoded {
        Ok(bytes) if bytes.as_bytes().len() == 32 => Ok(()),
        _ => Err(DropReason::field("hashes", "sha256 is not 32 bytes in base64")),
    }
}

fn check_signatures(object: &CanonicalJsonObject) -> Result<(), DropReason> {
    for (server, keys) in self::object(object, "signatures")? {
        let keys = keys
            .as_object()
            .ok_or_else(|| DropReason::field("signatures", format!("{server}: not an object")))?;
        if keys.values().any(|signature| signature.as_str().is_none()) {
            return Err(DropReason::field("signatures", format!("{server}: not a string")));
        }
    }
    Ok(())
}
