//! A room of a malicious server: the known events, the current state, and the forward extremities.
//!
//! Events are not checked: an event has the content that the test gives, cites the auth events that its room version
//! selects, and references the forward extremities. Must not resolve state: a test that forks a room sets `prev_events`
//! itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use axum::http::StatusCode;
use parking_lot::Mutex;
use reqwest::Method;
use ruma::{OwnedUserId, RoomVersionId, events::TimelineEventType, state_res::auth_types_for_event};
use serde_json::{Value, json, value::to_raw_value};

use super::{MaliciousServer, RecordedRequest, event_id, json_reply, now, reply, rules};
use crate::{client::segment, server::Server};

/// See the module.
#[derive(Clone, Debug)]
pub struct Room {
    /// The room id.
    pub id: String,
    /// The room version.
    pub version: RoomVersionId,
    /// Forward extremities: the `prev_events` of the next event.
    pub heads: Vec<String>,
    /// The depth of the next event.
    pub depth: u64,
    /// Event ids by type and state key.
    pub state: BTreeMap<(String, String), String>,
    /// All known events, by id.
    pub events: BTreeMap<String, Value>,
    /// Event ids in order of arrival.
    pub order: Vec<String>,
}

impl Room {
    /// Creates a document of this server with the join rule `public` that anybody may edit; `creator` is one of its
    /// users.
    ///
    /// # Errors
    /// When a content can't be signed.
    pub fn create(malicious: &MaliciousServer, version: &RoomVersionId, creator: &str) -> Result<Self> {
        let mut room = Self {
            id: String::new(),
            version: version.clone(),
            heads: Vec::new(),
            depth: 1,
            state: BTreeMap::new(),
            events: BTreeMap::new(),
            order: Vec::new(),
        };
        let named_by_create = rules(version)?.authorization.room_create_event_id_as_room_id;
        if !named_by_create {
            room.id = format!("!lies{}:{}", rand::random::<u32>(), malicious.name());
        }
        // In room versions whose room id is derived from the create event, two rooms of one sender in one millisecond
        // would be the same.
        let unlike = rand::random::<u32>();
        let mut content = json!({ "room_version": version, "type": "dev.weft.document", "unlike": unlike });
        if !rules(version)?.authorization.use_room_create_sender {
            merge(&mut content, json!({ "creator": creator }));
        }
        let create = room.send(malicious, creator, "m.room.create", Some(""), content)?;
        if named_by_create {
            room.id = format!("!{}", create.trim_start_matches('$'));
        }
        let joined = json!({ "membership": "join" });
        room.send(malicious, creator, "m.room.member", Some(creator), joined)?;
        let users = if named_by_create {
            json!({})
        } else {
            json!({ creator: 100 })
        };
        let levels = json!({
            "users": users, "users_default": 25, "events": { "dev.weft.update": 25 },
            "state_default": 50, "events_default": 0,
        });
        room.send(malicious, creator, "m.room.power_levels", Some(""), levels)?;
        let rule = json!({ "join_rule": "public" });
        room.send(malicious, creator, "m.room.join_rules", Some(""), rule)?;
        Ok(room)
    }

    /// Joins a room of another server with one of the malicious server's users, as an honest server does.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn join(malicious: &MaliciousServer, server: &Server, id: &str, user: &str) -> Result<Self> {
        let versions = "ver=6&ver=7&ver=8&ver=9&ver=10&ver=11&ver=12";
        let path = format!(
            "/_matrix/federation/v1/make_join/{}/{}?{versions}",
            segment(id),
            segment(user)
        );
        let template = malicious.get(server, &path).await?;
        let version = template
            .get("room_version")
            .and_then(Value::as_str)
            .context("no version")?;
        let version = RoomVersionId::try_from(version)?;
        let mut event = template.get("event").cloned().context("no event")?;
        merge(&mut event, json!({ "origin_server_ts": now() }));
        let event = malicious.sign(&event, &version)?;
        let own = event_id(&event, &version)?;
        let path = format!("/_matrix/federation/v2/send_join/{}/{}", segment(id), segment(&own));
        let answer = malicious.ask(server, Method::PUT, &path, Some(&event)).await?.ok()?;
        let mut room = Self {
            id: id.to_owned(),
            version,
            heads: Vec::new(),
            depth: 1,
            state: BTreeMap::new(),
            events: BTreeMap::new(),
            order: Vec::new(),
        };
        for event in list(&answer, "auth_chain") {
            room.know(event)?;
        }
        for event in list(&answer, "state") {
            room.know(event)?;
            room.apply(event)?;
        }
        room.take(answer.get("event").unwrap_or(&event))?;
        Ok(room)
    }

    /// Fetches the current position from a resident server: forward extremities from a template for leaving, state from
    /// `/state`.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn catch_up(&mut self, malicious: &MaliciousServer, server: &Server, user: &str) -> Result<()> {
        let path = format!(
            "/_matrix/federation/v1/make_leave/{}/{}",
            segment(&self.id),
            segment(user)
        );
        let template = malicious.get(server, &path).await?;
        let event = template.get("event").context("no event")?;
        self.depth = event.get("depth").and_then(Value::as_u64).context("no depth")?;
        let heads = list(event, "prev_events").iter().filter_map(Value::as_str);
        self.heads = heads.map(str::to_owned).collect();
        for head in self.heads.clone() {
            let path = format!(
                "/_matrix/federation/v1/state/{}?event_id={}",
                segment(&self.id),
                segment(&head)
            );
            let answer = malicious.get(server, &path).await?;
            for event in list(&answer, "auth_chain").iter().chain(list(&answer, "pdus")) {
                self.know(event)?;
            }
            for event in list(&answer, "pdus") {
                self.apply(event)?;
            }
            let answer = malicious
                .get(server, &format!("/_matrix/federation/v1/event/{}", segment(&head)))
                .await?;
            let event = list(&answer, "pdus").first().context("no event")?;
            self.know(event)?;
            self.apply(event)?;
        }
        Ok(())
    }

    /// An unsigned event that references the forward extremities.
    ///
    /// # Errors
    /// When the sender is not a user id, or the content is invalid for its event type.
    pub fn draft(&self, sender: &str, kind: &str, key: Option<&str>, content: Value) -> Result<Value> {
        let user = OwnedUserId::try_from(sender)?;
        let rules = rules(&self.version)?;
        let types = auth_types_for_event(
            &TimelineEventType::from(kind),
            &user,
            key,
            &to_raw_value(&content)?,
            &rules.authorization,
        );
        let types = types.map_err(|error| anyhow::anyhow!("{error}"))?;
        let cited = types
            .iter()
            .filter_map(|(kind, key)| self.state.get(&(kind.to_string(), key.clone())));
        let mut event = json!({
            "type": kind, "sender": sender, "content": content, "origin_server_ts": now(), "depth": self.depth,
            "prev_events": self.heads, "auth_events": cited.collect::<BTreeSet<_>>(),
        });
        if let Some(key) = key {
            merge(&mut event, json!({ "state_key": key }));
        }
        if !self.id.is_empty() {
            merge(&mut event, json!({ "room_id": self.id }));
        }
        Ok(event)
    }

    /// A signed event that references the forward extremities; the room does not change.
    ///
    /// # Errors
    /// As [`Room::draft`].
    pub fn event(
        &self,
        malicious: &MaliciousServer,
        sender: &str,
        kind: &str,
        key: Option<&str>,
        content: Value,
    ) -> Result<Value> {
        malicious.sign(&self.draft(sender, kind, key, content)?, &self.version)
    }

    /// Adds a signed event: it becomes the forward extremity. Returns its id.
    ///
    /// # Errors
    /// As [`Room::draft`].
    pub fn send(
        &mut self,
        malicious: &MaliciousServer,
        sender: &str,
        kind: &str,
        key: Option<&str>,
        content: Value,
    ) -> Result<String> {
        let event = self.event(malicious, sender, kind, key, content)?;
        self.take(&event)
    }

    /// Joins users of this server, one after the other, and sends the joins to a server. Their names are `member-` and
    /// the number.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn join_members(
        &mut self,
        malicious: &MaliciousServer,
        server: &Server,
        numbers: Range<usize>,
    ) -> Result<()> {
        let mut joins: Vec<Value> = Vec::new();
        for number in numbers {
            let user = malicious.user(&format!("member-{number}"));
            let content = json!({ "membership": "join" });
            let join = self.event(malicious, &user, "m.room.member", Some(&user), content)?;
            self.take(&join)?;
            joins.push(join);
        }
        for joins in joins.chunks(50) {
            malicious.transaction(server, joins, &[]).await?.ok()?;
        }
        Ok(())
    }

    /// Adds an event as the only forward extremity. Returns its id.
    ///
    /// # Errors
    /// When it is not an event.
    pub fn take(&mut self, event: &Value) -> Result<String> {
        let id = self.know(event)?;
        self.apply(event)?;
        self.heads = vec![id.clone()];
        self.depth = event.get("depth").and_then(Value::as_u64).context("no depth")? + 1;
        Ok(id)
    }

    /// The event id under this room's version.
    ///
    /// # Errors
    /// When it is not an event.
    pub fn id_of(&self, event: &Value) -> Result<String> {
        event_id(event, &self.version)
    }

    /// The events of the current state.
    #[must_use]
    pub fn state_events(&self) -> Vec<Value> {
        self.state
            .values()
            .filter_map(|id| self.events.get(id).cloned())
            .collect()
    }

    /// These events and their auth chains, as far as known.
    #[must_use]
    pub fn auth_chain(&self, of: &[Value]) -> Vec<Value> {
        let mut found = BTreeMap::new();
        let mut work: Vec<&str> = of
            .iter()
            .flat_map(|event| list(event, "auth_events"))
            .filter_map(Value::as_str)
            .collect();
        while let Some(id) = work.pop() {
            if let Some(event) = self.events.get(id)
                && found.insert(id.to_owned(), event.clone()).is_none()
            {
                work.extend(list(event, "auth_events").iter().filter_map(Value::as_str));
            }
        }
        if let Some(create) = self.state.get(&("m.room.create".to_owned(), String::new())) {
            found.extend(self.events.get(create).map(|event| (create.clone(), event.clone())));
        }
        found.into_values().collect()
    }

    /// Stores an event as an outlier. Returns its id.
    ///
    /// # Errors
    /// When it is not an event.
    pub fn know(&mut self, event: &Value) -> Result<String> {
        let id = self.id_of(event)?;
        if self.events.insert(id.clone(), event.clone()).is_none() {
            self.order.push(id.clone());
        }
        Ok(id)
    }

    fn apply(&mut self, event: &Value) -> Result<()> {
        let field = |name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
        if let (Some(kind), Some(key)) = (field("type"), field("state_key")) {
            self.state.insert((kind, key), self.id_of(event)?);
        }
        Ok(())
    }

    /// The response to `/make_join`.
    ///
    /// # Errors
    /// As [`Room::draft`].
    pub fn join_template(&self, user: &str) -> Result<Value> {
        let content = json!({ "membership": "join" });
        let event = self.draft(user, "m.room.member", Some(user), content)?;
        Ok(json!({ "room_version": self.version, "event": event }))
    }

    /// The response to `/send_join`; the join is added.
    ///
    /// # Errors
    /// When the event is not a join.
    pub fn accept_join(&mut self, malicious: &MaliciousServer, event: &Value) -> Result<Value> {
        accept_join(self, malicious.name().as_str(), event)
    }
}

impl MaliciousServer {
    /// Serves a room as an honest server does: joins, events, state, backfill. Returns the room. Handlers that a test
    /// adds later take precedence.
    #[must_use]
    pub fn host(&self, room: Room) -> Arc<Mutex<Room>> {
        let room = Arc::new(Mutex::new(room));
        let name = self.name().to_string();
        self.serve(&room, "v1/make_join/", |room, asked| {
            room.join_template(&asked.segment_from_end(0))
        });
        self.serve(&room, "v2/send_join/", move |room, asked| {
            accept_join(room, &name, &asked.body)
        });
        self.serve(&room, "v1/event/", |room, asked| {
            let event = room.events.get(&asked.segment_from_end(0)).context("unknown event")?;
            Ok(json!({ "origin": "malicious", "origin_server_ts": now(), "pdus": [event] }))
        });
        self.serve(&room, "v1/state/", |room, _| {
            let state = room.state_events();
            Ok(json!({ "auth_chain": room.auth_chain(&state), "pdus": state }))
        });
        self.serve(&room, "v1/state_ids/", |room, _| {
            let chain = room.auth_chain(&room.state_events());
            let chain: Result<Vec<String>> = chain.iter().map(|event| room.id_of(event)).collect();
            let state: Vec<&String> = room.state.values().collect();
            Ok(json!({ "auth_chain_ids": chain?, "pdu_ids": state }))
        });
        self.serve(&room, "v1/event_auth/", |room, asked| {
            let event = room.events.get(&asked.segment_from_end(0)).context("unknown event")?;
            Ok(json!({ "auth_chain": room.auth_chain(std::slice::from_ref(event)) }))
        });
        self.serve(&room, "v1/backfill/", |room, _| {
            let events: Vec<&Value> = room.order.iter().rev().filter_map(|id| room.events.get(id)).collect();
            Ok(json!({ "origin": "malicious", "origin_server_ts": now(), "pdus": events }))
        });
        self.serve(&room, "v1/get_missing_events/", |room, _| {
            let events: Vec<&Value> = room.order.iter().filter_map(|id| room.events.get(id)).collect();
            Ok(json!({ "events": events }))
        });
        room
    }

    fn serve(
        &self,
        room: &Arc<Mutex<Room>>,
        path: &str,
        answer: impl Fn(&mut Room, &RecordedRequest) -> Result<Value> + Send + Sync + 'static,
    ) {
        let room = Arc::clone(room);
        self.answers(&format!("/_matrix/federation/{path}"), move |asked| {
            let mut room = room.lock();
            match answer(&mut room, asked) {
                Ok(body) => json_reply(&body),
                Err(error) => reply(
                    StatusCode::NOT_FOUND,
                    &json!({ "errcode": "M_NOT_FOUND", "error": error.to_string() }),
                ),
            }
        });
    }
}

fn accept_join(room: &mut Room, origin: &str, event: &Value) -> Result<Value> {
    if event.get("type").and_then(Value::as_str) != Some("m.room.member") {
        bail!("no join");
    }
    let state = room.state_events();
    let chain = room.auth_chain(&state);
    room.take(event)?;
    Ok(json!({ "origin": origin, "state": state, "auth_chain": chain, "event": event, "members_omitted": false }))
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Writes the fields of the second into the first.
pub(super) fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}
