//! createRoom: the state events of a new room, and their order.

use std::sync::Arc;

use ruma::{OwnedRoomId, RoomId, RoomVersionId, UserId};
use serde_json::{Map, Value, json};
use weft_dag::{Draft, EventMap, Pdu, Placement, RoomVersion, StateView, Verdict};
use weft_room_api::{CreateRefusal, CreateRoom, NewRoom, Preset, RoomCommand, RoomError};
use weft_store::tables::rooms::PUBLIC_ROOMS;
use weft_wire::{document::DocumentContent, event_types, limits::MAX_INITIAL_STATE_EVENTS};

use crate::{
    Rooms,
    active_room::{ActiveRoom, room_type},
    compose::{ProtoEvent, canonical, refused},
    directory::claim_alias,
    mailbox::Reply,
    pending_commit::PendingCommit,
    worker::Worker,
};

/// Where the room id follows from the create event, two equal rooms that a user creates in the same millisecond would
/// be one room. The second one has this field in its content, with a number that differs.
const NONCE: &str = "dev.weft.twin";

/// Events of a new room that are signed before the task yields: some milliseconds.
const EVENTS_AT_ONCE: usize = 16;

impl Rooms {
    /// Creates a room; all its first events are one commit.
    ///
    /// # Errors
    /// When an option can't be used, or the store fails.
    pub async fn create(&self, creator: &UserId, request: CreateRoom) -> Result<OwnedRoomId, RoomError> {
        let id = request.version.clone().unwrap_or(RoomVersionId::V12);
        let version = RoomVersion::new(&id).map_err(|_| RoomError::UnsupportedVersion(id.to_string()))?;
        if request.initial_state.len() > MAX_INITIAL_STATE_EVENTS {
            let reason = format!("at most {MAX_INITIAL_STATE_EVENTS} events");
            return Err(invalid("initial_state", &reason));
        }
        if let Some(alias) = &request.alias {
            if alias.server_name() != self.shared.identity.server_name() {
                return Err(invalid("room_alias_name", "the alias does not belong to this server"));
            }
            if self.reader().alias(alias).await?.is_some() {
                return Err(CreateRefusal::AliasTaken(alias.clone()).into());
            }
        }
        let create = self.sign_create(creator, &version, &request)?;
        let room = create.room_id().to_owned();
        let plan = NewRoom {
            create,
            version,
            request,
            creator: creator.to_owned(),
        };
        self.call::<()>(&room, RoomCommand::Create(Box::new(plan))).await?;
        Ok(room)
    }

    /// The room id to use; `None` if it follows from the create event.
    fn room_id_of(&self, version: &RoomVersion, request: &CreateRoom) -> Result<Option<OwnedRoomId>, RoomError> {
        let ours = self.shared.identity.server_name();
        match &request.room_id {
            Some(_) if version.room_id_is_create_hash() => Err(invalid(
                "room_id",
                "in this room version the id follows from the create event",
            )),
            Some(id) if id.server_name() != Some(ours) => {
                Err(invalid("room_id", "the id does not belong to this server"))
            }
            Some(id) => Ok(Some(id.clone())),
            None => Ok((!version.room_id_is_create_hash()).then(|| RoomId::new_v1(ours))),
        }
    }

    fn sign_create(
        &self,
        creator: &UserId,
        version: &RoomVersion,
        request: &CreateRoom,
    ) -> Result<Arc<Pdu>, RoomError> {
        let failed = |cause: RoomError| refused_event("m.room.create", cause);
        let now = self.shared.clock.now();
        let mut content = create_content(creator, version, request);
        content.remove(NONCE);
        if version.room_id_is_create_hash()
            && let Some(number) = self.shared.nonce(now)
        {
            content.insert(NONCE.to_owned(), number.into());
        }
        let content = canonical(content).map_err(failed)?;
        let room_id = self.room_id_of(version, request)?;
        let draft = Draft {
            sender: creator.to_owned(),
            kind: "m.room.create".to_owned(),
            state_key: Some(String::new()),
            content,
            redacts: None,
            room_id,
        };
        let placement = Placement {
            prev_events: Vec::new(),
            auth_events: Vec::new(),
            depth: Placement::depth_after([]),
            origin_server_ts: now,
        };
        let signed = draft.sign(version, placement, &self.shared.identity.signer());
        let verified = signed.map_err(|error| failed(refused(error)))?.into_verified();
        let authorized = verified.authorize(version, &EventMap::default(), &StateView::empty(version.clone()), None);
        match authorized.map(weft_dag::Authorized::into_parts) {
            Ok((pdu, Verdict::Accepted)) => Ok(pdu),
            Ok((_, Verdict::Rejected { reason } | Verdict::SoftFailed { reason })) => {
                Err(failed(RoomError::Forbidden { reason: reason.why }))
            }
            Err(missing) => Err(failed(RoomError::Forbidden {
                reason: missing.to_string(),
            })),
        }
    }
}

fn invalid(field: &'static str, reason: &str) -> RoomError {
    CreateRefusal::Invalid {
        field: field.into(),
        reason: reason.to_owned(),
    }
    .into()
}

/// The error for a first event that is not allowed. Failures of the store are passed on: they say nothing about it.
fn refused_event(kind: &str, cause: RoomError) -> RoomError {
    match cause {
        RoomError::Unavailable(_) | RoomError::LimitExceeded(_) => cause,
        cause => CreateRefusal::Event {
            kind: kind.to_owned(),
            cause: Box::new(cause),
        }
        .into(),
    }
}

fn create_content(creator: &UserId, version: &RoomVersion, request: &CreateRoom) -> Map<String, Value> {
    let mut content = request.creation_content.clone();
    // Two servers that apply different rules to one room diverge: the caller must not set the version here.
    content.insert("room_version".to_owned(), version.id().as_str().into());
    content.remove("creator");
    if !version.rules().authorization.use_room_create_sender {
        content.insert("creator".to_owned(), creator.as_str().into());
    }
    if request.document.is_some() {
        content.insert("type".to_owned(), event_types::DOCUMENT_ROOM.into());
    }
    let trusted = request.preset == Some(Preset::TrustedPrivateChat) && version.creators_are_above_all();
    if trusted && !request.invite.is_empty() {
        let mut all: Vec<Value> = content
            .get("additional_creators")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        for user in &request.invite {
            let user = Value::from(user.as_str());
            if !all.contains(&user) {
                all.push(user);
            }
        }
        content.insert("additional_creators".to_owned(), all.into());
    }
    content
}

/// A state event of a new room.
struct First {
    kind: String,
    state_key: String,
    content: Map<String, Value>,
}

fn first(kind: &str, state_key: &str, content: Value) -> First {
    let content = match content {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    First {
        kind: kind.to_owned(),
        state_key: state_key.to_owned(),
        content,
    }
}

/// The events after the create event, in the order of the specification (client-server API, createRoom).
fn first_events(plan: &NewRoom) -> Result<Vec<First>, RoomError> {
    let request = &plan.request;
    let mut join = request.profile.clone();
    join.insert("membership".to_owned(), "join".into());
    let mut events = vec![
        First {
            kind: "m.room.member".to_owned(),
            state_key: plan.creator.to_string(),
            content: join,
        },
        First {
            kind: "m.room.power_levels".to_owned(),
            state_key: String::new(),
            content: power_levels(plan)?,
        },
    ];
    if let Some(alias) = &request.alias {
        events.push(first("m.room.canonical_alias", "", json!({ "alias": alias })));
    }
    let preset = request.preset.unwrap_or(if request.public {
        Preset::PublicChat
    } else {
        Preset::PrivateChat
    });
    let rule = if preset == Preset::PublicChat {
        "public"
    } else {
        "invite"
    };
    let guests = if preset == Preset::PublicChat {
        "forbidden"
    } else {
        "can_join"
    };
    events.push(first("m.room.join_rules", "", json!({ "join_rule": rule })));
    events.push(first(
        "m.room.history_visibility",
        "",
        json!({ "history_visibility": "shared" }),
    ));
    events.push(first("m.room.guest_access", "", json!({ "guest_access": guests })));
    if let Some(kind) = request.document {
        let content = serde_json::to_value(DocumentContent::new(kind));
        events.push(first(
            event_types::DOCUMENT,
            "",
            content.map_err(|error| invalid("kind", &error.to_string()))?,
        ));
    }
    for state in &request.initial_state {
        let Value::Object(content) = state.content.clone() else {
            return Err(invalid("initial_state", "the content of an event must be an object"));
        };
        events.push(First {
            kind: state.kind.clone(),
            state_key: state.state_key.clone(),
            content,
        });
    }
    if let Some(name) = &request.name {
        events.push(first("m.room.name", "", json!({ "name": name })));
    }
    if let Some(topic) = &request.topic {
        let rich = json!({ "m.text": [{ "body": topic }] });
        events.push(first("m.room.topic", "", json!({ "topic": topic, "m.topic": rich })));
    }
    Ok(events)
}

fn power_levels(plan: &NewRoom) -> Result<Map<String, Value>, RoomError> {
    let base = match plan.request.document {
        Some(_) => weft_wire::document::power_levels(),
        None => default_power_levels(&plan.version),
    };
    let Value::Object(mut levels) = base else {
        return Ok(Map::new());
    };
    let above_all = plan.version.creators_are_above_all();
    let mut users = Map::new();
    if !above_all {
        users.insert(plan.creator.to_string(), 100.into());
        if plan.request.preset == Some(Preset::TrustedPrivateChat) {
            users.extend(
                plan.request
                    .invite
                    .iter()
                    .map(|user| (user.to_string(), Value::from(100))),
            );
        }
    }
    levels.insert("users".to_owned(), users.into());
    for (key, value) in plan.request.power_level_content_override.iter().flatten() {
        levels.insert(key.clone(), value.clone());
    }
    let names_creator = levels
        .get("users")
        .and_then(|users| users.get(plan.creator.as_str()))
        .is_some();
    if above_all && names_creator {
        let reason = "in this room version creators have no power level";
        return Err(invalid("power_level_content_override", reason));
    }
    Ok(levels)
}

fn default_power_levels(version: &RoomVersion) -> Value {
    // The power level to upgrade the room must be above the one of administrators (room version 12).
    let tombstone = if version.creators_are_above_all() { 150 } else { 100 };
    json!({
        "users_default": 0,
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": 0,
        "historical": 100,
        "notifications": { "room": 50 },
        "events": {
            "m.room.name": 50,
            "m.room.avatar": 50,
            "m.room.canonical_alias": 50,
            "m.room.power_levels": 100,
            "m.room.history_visibility": 100,
            "m.room.server_acl": 100,
            "m.room.encryption": 100,
            "m.room.tombstone": tombstone
        }
    })
}

impl Worker {
    pub(crate) async fn create(&mut self, plan: NewRoom, commit: &mut PendingCommit, reply: Reply<()>) {
        match self.open().await {
            Ok(None) => {}
            // Another command of this turn may have created it, and is answered when that is on disk.
            Ok(Some(_)) => return reply.send(Err(invalid("room_id", "the room already exists"))),
            Err(error) => return reply.send(Err(error.into())),
        }
        match self.make_room(&plan, commit).await {
            Ok(()) => commit.answer(reply, ()),
            Err(error) => {
                // A partly created room must not be persisted.
                commit.abandon();
                reply.send(Err(error));
            }
        }
    }

    async fn make_room(&mut self, plan: &NewRoom, commit: &mut PendingCommit) -> Result<(), RoomError> {
        let (signer, ours) = (self.signer(), self.ours().to_owned());
        let active = self
            .active
            .insert(ActiveRoom::new(&self.room, plan.version.clone(), is_document(plan)));
        active.append(commit, Arc::clone(&plan.create), &ours)?;
        let mut firsts = first_events(plan)?;
        for user in plan
            .request
            .invite
            .iter()
            .filter(|user| user.server_name() == ours && **user != plan.creator)
        {
            let mut content = json!({ "membership": "invite" });
            if let (true, Some(content)) = (plan.request.is_direct, content.as_object_mut()) {
                content.insert("is_direct".to_owned(), true.into());
            }
            firsts.push(first("m.room.member", user.as_str(), content));
        }
        for (number, one) in firsts.into_iter().enumerate() {
            if number % EVENTS_AT_ONCE == EVENTS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            let First {
                kind,
                state_key,
                content,
            } = one;
            let failed = |cause: RoomError| refused_event(&kind, cause);
            let proto = ProtoEvent {
                sender: plan.creator.clone(),
                kind: kind.clone(),
                state_key: Some(state_key),
                content: canonical(content).map_err(failed)?,
                redacts: None,
            };
            let pdu = active.compose(proto, &signer, commit.now).map_err(failed)?;
            active.append(commit, pdu, &ours)?;
        }
        let bytes = commit.writes.iter().map(|write| write.pdu.json().len()).sum();
        self.shared.charge(&plan.creator, bytes)?;
        active.put_room(&mut commit.batch);
        if let Some(document) = active.document.as_mut() {
            for write in &commit.writes {
                document.place(&mut commit.batch, &active.id, write.pdu.event_id());
            }
        }
        if let Some(alias) = &plan.request.alias {
            claim_alias(&mut commit.batch, alias, &self.room, &plan.creator);
        }
        if plan.request.public {
            commit.batch.put(&PUBLIC_ROOMS, &(&self.room,), &());
        }
        Ok(())
    }
}

/// Also true if the caller set the room type in `creation_content`.
fn is_document(plan: &NewRoom) -> bool {
    room_type(&plan.create).as_deref() == Some(event_types::DOCUMENT_ROOM)
}
