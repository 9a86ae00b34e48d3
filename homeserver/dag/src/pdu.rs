//! An event as the rest of the server uses it: parsed once, immutable, shared as `Arc<Pdu>`.
//!
//! Must not hold anything that servers add to an event afterwards (`unsigned`).

use std::sync::Arc;

use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UInt, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{RoomVersion, StateKey};

/// One event of a room. Its JSON is canonical, signed, in the federation format and without `unsigned`.
#[derive(Clone, Debug)]
pub struct Pdu {
    event_id: OwnedEventId,
    room_id: OwnedRoomId,
    names_room: bool,
    sender: OwnedUserId,
    kind: String,
    event_type: TimelineEventType,
    state_key: Option<String>,
    content: Box<RawValue>,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    depth: u64,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    redacts: Option<OwnedEventId>,
    rejected: bool,
    json: String,
}

/// The JSON of a stored event is not an event: the store is damaged.
#[derive(Debug, thiserror::Error)]
#[error("stored event {event_id} can't be read: {problem}")]
pub struct TrustedJsonError {
    /// The event.
    pub event_id: OwnedEventId,
    /// What is wrong with it.
    pub problem: String,
}

/// The fields of an event that decisions depend on.
#[derive(Deserialize)]
struct Fields {
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    #[serde(rename = "type")]
    kind: String,
    state_key: Option<String>,
    content: Box<RawValue>,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    depth: UInt,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    redacts: Option<serde_json::Value>,
}

impl Pdu {
    /// Reads a stored event, which was checked before it was stored. `rejected` is the decision of that time.
    ///
    /// # Errors
    /// The text is not an event: the store is damaged.
    pub fn from_trusted_json(
        json: &str,
        event_id: OwnedEventId,
        version: &RoomVersion,
        rejected: bool,
    ) -> Result<Self, TrustedJsonError> {
        Self::from_canonical(json.to_owned(), event_id.clone(), version, rejected)
            .map_err(|problem| TrustedJsonError { event_id, problem })
    }

    /// The only way from text to fields. `json` is canonical.
    pub(crate) fn from_canonical(
        json: String,
        event_id: OwnedEventId,
        version: &RoomVersion,
        rejected: bool,
    ) -> Result<Self, String> {
        let fields: Fields = serde_json::from_str(&json).map_err(|error| error.to_string())?;
        let names_room = fields.room_id.is_some();
        let redacts = redacts(&fields, version);
        let room_id = match fields.room_id {
            Some(room_id) => room_id,
            None if version.room_id_is_create_hash() && fields.kind == "m.room.create" => {
                RoomId::new_v2(event_id.localpart()).map_err(|error| error.to_string())?
            }
            None => return Err("missing `room_id`".to_owned()),
        };
        Ok(Self {
            event_id,
            room_id,
            names_room,
            sender: fields.sender,
            event_type: TimelineEventType::from(fields.kind.as_str()),
            kind: fields.kind,
            state_key: fields.state_key,
            content: fields.content,
            origin_server_ts: fields.origin_server_ts,
            depth: fields.depth.into(),
            prev_events: fields.prev_events,
            auth_events: fields.auth_events,
            redacts,
            rejected,
            json,
        })
    }

    /// The id: the hash of the event, computed here and never read from the event.
    #[must_use]
    pub fn event_id(&self) -> &EventId {
        &self.event_id
    }

    /// The room. For a create event of version 12 it is the event's own hash.
    #[must_use]
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    /// The sender.
    #[must_use]
    pub fn sender(&self) -> &UserId {
        &self.sender
    }

    /// The event type, as written.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The state key, if this is a state event.
    #[must_use]
    pub fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    /// Type and state key, if this is a state event.
    #[must_use]
    pub fn state_entry(&self) -> Option<StateKey> {
        Some((self.kind.clone(), self.state_key.clone()?))
    }

    /// The content, as JSON text.
    #[must_use]
    pub fn content(&self) -> &RawValue {
        &self.content
    }

    /// The content as a type of the caller.
    ///
    /// # Errors
    /// The content does not have that form: senders choose their contents.
    pub fn content_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.content.get())
    }

    /// The membership of an `m.room.member` event; `None` if its content has none.
    #[must_use]
    pub fn membership(&self) -> Option<MembershipState> {
        #[derive(Deserialize)]
        struct Content {
            membership: MembershipState,
        }
        self.content_as::<Content>().ok().map(|content| content.membership)
    }

    /// A text field of the content; `None` if it is absent, empty or not a string. A state event with an empty value
    /// (`{}` or an empty `name`) is equivalent to a missing one.
    #[must_use]
    pub fn content_text(&self, field: &str) -> Option<String> {
        let content: serde_json::Map<String, serde_json::Value> = self.content_as().ok()?;
        let text = content.get(field)?.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The time at which the sender's server claims to have made it, in milliseconds since the Unix epoch. Never
    /// trusted for order.
    #[must_use]
    pub fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    /// The depth that the sender's server gave it. Never trusted, neither for order nor for a size.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.depth
    }

    /// The events that it references, as written (at most 20, with possible duplicates).
    #[must_use]
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.prev_events
    }

    /// The auth events, as written (at most 10).
    #[must_use]
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.auth_events
    }

    /// The event that this one redacts, from the position that the room version prescribes.
    #[must_use]
    pub fn redacts(&self) -> Option<&EventId> {
        self.redacts.as_deref()
    }

    /// Whether the authorisation rules rejected it on receipt.
    #[must_use]
    pub fn rejected(&self) -> bool {
        self.rejected
    }

    /// Canonical JSON in the federation format, with hashes and signatures.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The same event, marked as rejected.
    pub(crate) fn into_rejected(mut self: Arc<Self>) -> Arc<Self> {
        Arc::make_mut(&mut self).rejected = true;
        self
    }
}

/// The position of `redacts` depends on the room version (top level until 10, in the content since 11).
fn redacts(fields: &Fields, version: &RoomVersion) -> Option<OwnedEventId> {
    #[derive(Deserialize)]
    struct InContent {
        redacts: Option<OwnedEventId>,
    }
    if fields.kind != "m.room.redaction" {
        return None;
    }
    if version.rules().redaction.content_field_redacts {
        serde_json::from_str::<InContent>(fields.content.get()).ok()?.redacts
    } else {
        fields.redacts.as_ref()?.as_str().and_then(|id| EventId::parse(id).ok())
    }
}

impl ruma::state_res::Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        self.names_room.then_some(&*self.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.event_type
    }

    fn content(&self) -> &RawValue {
        &self.content
    }

    fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.auth_events.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}
