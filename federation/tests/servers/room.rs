//! A small room of one server with valid signatures, as JSON that a malicious server can change.

use axum::{Json, Router, routing::get};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomId, OwnedServerName, RoomVersionId, ServerName,
};
use serde_json::{Value, json};
use std::sync::Arc;
use weft_dag::{
    RoomVersion, Signer, Unchecked,
    testing::{World, object, signer},
};

pub(crate) fn with(value: Value) -> CanonicalJsonObject {
    object(value)
}

pub(crate) fn signer_of(server: &ServerName) -> Arc<Signer> {
    signer(server)
}

/// Hashes and signs an event as its server would.
pub(crate) fn sign(mut event: CanonicalJsonObject, version: &RoomVersion, signer: &Signer) -> Value {
    ruma::signatures::hash_and_sign_event(
        signer.server_name().as_str(),
        signer.key_pair(),
        &mut event,
        &version.rules().redaction,
    )
    .unwrap();
    serde_json::to_value(event).unwrap()
}

/// A member event of that room, unsigned.
pub(crate) fn member(room: &Room, sender: &str, target: &str, membership: &str) -> CanonicalJsonObject {
    let heads: Vec<String> = room.world.head_list().iter().map(ToString::to_string).collect();
    object(json!({
        "type": "m.room.member", "sender": sender, "state_key": target, "room_id": room.room_id(),
        "content": { "membership": membership }, "prev_events": heads, "auth_events": [], "depth": 9,
        "origin_server_ts": 1_700_000_100_000_u64,
    }))
}

pub(crate) struct Room {
    world: World,
    server: OwnedServerName,
}

impl Room {
    /// A document that every user may join.
    pub(crate) fn document(version: &RoomVersionId, server: &ServerName) -> Self {
        let creator = format!("@bob:{server}");
        let mut world = World::with_create(version, &creator, json!({ "type": "dev.weft.document" }));
        world.state(
            &creator,
            "m.room.power_levels",
            "",
            json!({ "events": { "dev.weft.update": 25 } }),
        );
        world.state(&creator, "m.room.join_rules", "", json!({ "join_rule": "public" }));
        Self {
            world,
            server: server.to_owned(),
        }
    }

    pub(crate) fn server(&self) -> OwnedServerName {
        self.server.clone()
    }

    pub(crate) fn creator(&self) -> String {
        format!("@bob:{}", self.server)
    }

    pub(crate) fn room_id(&self) -> OwnedRoomId {
        self.world.room_id.clone()
    }

    pub(crate) fn version(&self) -> RoomVersion {
        self.world.version.clone()
    }

    /// Create, creator's join, power levels, join rules.
    pub(crate) fn state(&self) -> Vec<Value> {
        self.world
            .order
            .iter()
            .map(|id| serde_json::from_str(self.world.pdu(id).json()).unwrap())
            .collect()
    }

    pub(crate) fn event_id(&self, event: &Value) -> OwnedEventId {
        Unchecked::parse(&event.to_string(), &self.world.version)
            .unwrap()
            .event_id()
            .to_owned()
    }

    pub(crate) fn join_template(&self, user: &str) -> Value {
        let mut template = member(self, user, user, "join");
        let auth = self.world.current();
        let user_id = ruma::UserId::parse(user).unwrap();
        let content = object(json!({ "membership": "join" }));
        let auth = auth
            .auth_events("m.room.member", &user_id, Some(user), &content)
            .unwrap();
        let auth: Vec<CanonicalJsonValue> = auth.iter().map(|id| id.as_str().into()).collect();
        template.insert("auth_events".to_owned(), auth.into());
        serde_json::to_value(template).unwrap()
    }

    /// The same event with this server's signature added.
    pub(crate) fn cosign(&self, event: &Value) -> Value {
        let mut event: CanonicalJsonObject = serde_json::from_value(event.clone()).unwrap();
        let signer = signer(&self.server);
        let rules = self.world.version.rules();
        ruma::signatures::sign_event(self.server.as_str(), signer.key_pair(), &mut event, &rules.redaction).unwrap();
        serde_json::to_value(event).unwrap()
    }

    /// Events derived from a valid one, none of which this server has signed.
    pub(crate) fn forge(&self, right: &Value) -> Vec<Value> {
        let server = self.server.as_str();
        let mut sender = right.clone();
        sender["sender"] = json!(format!("@mallory:{server}"));
        let mut time = right.clone();
        time["origin_server_ts"] = json!(5);
        let mut unsigned = right.clone();
        unsigned["signatures"] = json!({});
        let mut of_another = right.clone();
        of_another["sender"] = json!("@victim:gamma.test");
        let mut bits = right.clone();
        let key = bits["signatures"][server]
            .as_object()
            .unwrap()
            .keys()
            .next()
            .unwrap()
            .clone();
        let signature = bits["signatures"][server][&key].as_str().unwrap().to_owned();
        let first = if signature.starts_with('A') { "B" } else { "A" };
        bits["signatures"][server][&key] = json!(format!("{first}{}", &signature[1..]));
        let mut other_key = right.clone();
        other_key["signatures"] = json!({ server: { "ed25519:other": signature } });
        vec![time, sender, unsigned, of_another, bits, other_key]
    }

    /// A correctly signed event of another room than the requested one.
    pub(crate) fn other_room(&self, server: &ServerName) -> Value {
        let mut event = member(self, &self.creator(), &self.creator(), "join");
        event.insert("room_id".to_owned(), "!elsewhere:x.test".into());
        sign(event, &self.world.version, &signer(server))
    }

    /// The routes by which this server publishes its key.
    pub(crate) fn keys<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let server = self.server.clone();
        let publish = move || {
            let signer = signer(&server);
            let public = ruma::serde::Base64::<ruma::serde::base64::Standard, _>::new(signer.public_key().to_vec());
            let now = u64::from(ruma::MilliSecondsSinceUnixEpoch::now().get());
            let mut answer = object(json!({
                "server_name": server, "valid_until_ts": now + 86_400_000,
                "verify_keys": { signer.key_id(): { "key": public.encode() } },
            }));
            signer.sign_json(&mut answer).unwrap();
            async move { Json(answer) }
        };
        Router::new().route("/_matrix/key/v2/server", get(publish))
    }
}
