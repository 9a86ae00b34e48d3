//! Test rooms, built from really signed events in a few lines.
//!
//! Every event passes all steps (draft, sign, parse, verify, authorise), and the state after it is kept, so that a test
//! may branch the graph at any event. Must not be used outside of tests: its keys are public.

#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: a panic fails the test, and the names document the methods"
)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId,
    RoomVersionId, ServerName, UInt, UserId,
};
use serde_json::{Value, json};

use crate::{
    Authorized, ChainCover, Draft, EventMap, EventSource, KeyValidity, Pdu, Placement, RoomVersion, Signer, StateMap,
    StateView, Unchecked, Verdict, Verified, VerifyKey, VerifyKeys, extremities, resolve,
};

/// One room, its events, and the keys of all servers in it.
#[derive(Clone)]
pub struct World {
    pub version: RoomVersion,
    pub room_id: OwnedRoomId,
    pub events: EventMap,
    pub cover: ChainCover,
    pub heads: BTreeSet<OwnedEventId>,
    /// In the order in which they were made.
    pub order: Vec<OwnedEventId>,
    pub verdicts: BTreeMap<OwnedEventId, Verdict>,
    states: HashMap<OwnedEventId, StateMap>,
    clock: u64,
}

/// The signer of a server; its seed is derived from its name.
pub fn signer(server: &ServerName) -> Arc<Signer> {
    let mut seed = [7_u8; 32];
    for (at, byte) in server.as_str().bytes().enumerate() {
        seed[at % 32] = seed[at % 32].wrapping_mul(31).wrapping_add(byte);
    }
    Arc::new(Signer::from_seed(server.to_owned(), &seed, "test").unwrap())
}

/// The public key of that signer, which never expires.
pub fn verify_keys(servers: impl IntoIterator<Item = OwnedServerName>) -> VerifyKeys {
    let mut keys = VerifyKeys::new();
    for server in servers {
        let signer = signer(&server);
        let until = MilliSecondsSinceUnixEpoch(UInt::MAX);
        let key = VerifyKey::new(&signer.public_key(), KeyValidity::ValidUntil(until)).unwrap();
        keys.insert(server, signer.key_id(), key);
    }
    keys
}

pub fn object(value: Value) -> CanonicalJsonObject {
    serde_json::from_value(value).unwrap()
}

impl World {
    /// A room with its create event and the join of its creator.
    pub fn new(version: &RoomVersionId, creator: &str) -> Self {
        Self::with_create(version, creator, json!({}))
    }

    /// [`World::new`] with additional content in the create event.
    pub fn with_create(version: &RoomVersionId, creator: &str, extra: Value) -> Self {
        let mut content = object(extra);
        let version = RoomVersion::new(version).unwrap();
        content.insert("room_version".to_owned(), version.id().as_str().into());
        if !version.rules().authorization.use_room_create_sender {
            content.insert("creator".to_owned(), creator.into());
        }
        let sender = UserId::parse(creator).unwrap();
        let room_id = RoomId::parse(format!("!room:{}", sender.server_name())).unwrap();
        let mut world = Self {
            version,
            room_id,
            events: EventMap::default(),
            cover: ChainCover::default(),
            heads: BTreeSet::new(),
            order: Vec::new(),
            verdicts: BTreeMap::new(),
            states: HashMap::new(),
            clock: 1_700_000_000_000,
        };
        let create = world.send(
            creator,
            "m.room.create",
            Some(""),
            Value::Object(serde_json::to_value(content).unwrap().as_object().unwrap().clone()),
        );
        world.room_id = create.room_id().to_owned();
        world.member(creator, creator, "join");
        world
    }

    /// The usual start: power levels with these users, and a public join rule.
    pub fn public(version: &RoomVersionId, creator: &str, users: &[(&str, i64)]) -> Self {
        let mut world = Self::new(version, creator);
        let mut levels: BTreeMap<&str, i64> = users.iter().copied().collect();
        if !world.version.creators_are_above_all() {
            levels.insert(creator, 100);
        }
        world.state(
            creator,
            "m.room.power_levels",
            "",
            json!({ "users": levels, "events": { "dev.weft.update": 25 } }),
        );
        world.state(creator, "m.room.join_rules", "", json!({ "join_rule": "public" }));
        for (user, _) in users {
            world.member(user, user, "join");
        }
        world
    }

    pub fn member(&mut self, sender: &str, target: &str, membership: &str) -> Arc<Pdu> {
        self.state(sender, "m.room.member", target, json!({ "membership": membership }))
    }

    pub fn state(&mut self, sender: &str, kind: &str, key: &str, content: Value) -> Arc<Pdu> {
        self.send(sender, kind, Some(key), content)
    }

    pub fn message(&mut self, sender: &str, text: &str) -> Arc<Pdu> {
        self.send(
            sender,
            "m.room.message",
            None,
            json!({ "msgtype": "m.text", "body": text }),
        )
    }

    /// Sends an event after the forward extremities.
    pub fn send(&mut self, sender: &str, kind: &str, key: Option<&str>, content: Value) -> Arc<Pdu> {
        let prev: Vec<OwnedEventId> = self.heads.iter().cloned().collect();
        self.send_after(&prev, sender, kind, key, content)
    }

    /// Sends an event after these events. An accepted event becomes a forward extremity.
    pub fn send_after(
        &mut self,
        prev: &[OwnedEventId],
        sender: &str,
        kind: &str,
        key: Option<&str>,
        content: Value,
    ) -> Arc<Pdu> {
        let signed = self.build(prev, sender, kind, key, content);
        self.accept(signed)
    }

    /// Builds an event after these without adding it to the room.
    pub fn build(
        &mut self,
        prev: &[OwnedEventId],
        sender: &str,
        kind: &str,
        key: Option<&str>,
        content: Value,
    ) -> Verified {
        let before = self.view_before(prev);
        let sender = UserId::parse(sender).unwrap();
        let content = object(content);
        let auth_events = before.auth_events(kind, &sender, key, &content).unwrap();
        self.build_citing(prev, auth_events, &sender, kind, key, content)
    }

    /// [`World::build`] with chosen auth events.
    pub fn build_citing(
        &mut self,
        prev: &[OwnedEventId],
        auth_events: Vec<OwnedEventId>,
        sender: &UserId,
        kind: &str,
        key: Option<&str>,
        content: CanonicalJsonObject,
    ) -> Verified {
        let signed = self.build_unverified(prev, auth_events, sender, kind, key, content);
        // Parsed and verified like a received event.
        let unchecked = Unchecked::parse(signed.pdu().json(), &self.version).unwrap();
        assert_eq!(unchecked.event_id(), signed.pdu().event_id());
        unchecked
            .verify(&verify_keys([sender.server_name().to_owned()]))
            .unwrap()
    }

    /// [`World::build_citing`] for events that other servers than the sender's would have to sign too.
    pub fn build_unverified(
        &mut self,
        prev: &[OwnedEventId],
        auth_events: Vec<OwnedEventId>,
        sender: &UserId,
        kind: &str,
        key: Option<&str>,
        content: CanonicalJsonObject,
    ) -> Verified {
        self.clock += 1_000;
        let placement = Placement {
            prev_events: prev.to_vec(),
            auth_events,
            depth: Placement::depth_after(prev.iter().map(|id| self.pdu(id).depth())),
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::try_from(self.clock).unwrap()),
        };
        let draft = Draft {
            sender: sender.to_owned(),
            kind: kind.to_owned(),
            state_key: key.map(ToOwned::to_owned),
            content,
            redacts: None,
            room_id: Some(self.room_id.clone()),
        };
        let signed = draft
            .sign(&self.version, placement, &signer(sender.server_name()))
            .unwrap();
        signed.into_verified()
    }

    /// Authorises and stores an event.
    pub fn accept(&mut self, event: Verified) -> Arc<Pdu> {
        let prev = event.pdu().prev_events().to_vec();
        let before = self.view_before(&prev);
        let current = (!self.heads.is_empty()).then(|| self.current());
        let authorized: Authorized = event
            .authorize(&self.version, &self.events, &before, current.as_ref())
            .unwrap();
        let (pdu, verdict) = authorized.into_parts();
        let id = pdu.event_id().to_owned();
        self.events.insert(Arc::clone(&pdu));
        self.states.insert(id.clone(), before.after(&pdu).map());
        if pdu.state_key().is_some() && !pdu.rejected() {
            self.cover.add(&pdu).unwrap();
        }
        if verdict == Verdict::Accepted {
            let between = self.unaccepted_before(&pdu);
            for followed in extremities::followed(&pdu, between.iter().map(Arc::as_ref)) {
                self.heads.remove(followed);
            }
            self.heads.insert(id.clone());
        }
        self.order.push(id.clone());
        self.verdicts.insert(id, verdict);
        pdu
    }

    /// The ancestors of an event that were not accepted, up to the nearest accepted ones.
    fn unaccepted_before(&self, pdu: &Pdu) -> Vec<Arc<Pdu>> {
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        let mut work = pdu.prev_events().to_vec();
        while let Some(id) = work.pop() {
            if self
                .verdicts
                .get(&id)
                .is_some_and(|verdict| *verdict != Verdict::Accepted)
                && seen.insert(id.clone())
            {
                let event = self.events.0.get(&id).unwrap();
                work.extend(event.prev_events().iter().cloned());
                found.push(Arc::clone(event));
            }
        }
        found
    }

    /// Stores an event without authorising it: for graphs that only a faulty server could make.
    pub fn insert(&mut self, event: &Verified) -> OwnedEventId {
        self.events.insert(Arc::clone(event.pdu()));
        if event.pdu().state_key().is_some() {
            self.cover.add(event.pdu()).unwrap();
        }
        event.pdu().event_id().to_owned()
    }

    /// The same room with its events authorised in another order.
    pub fn replay(&self, order: &[OwnedEventId]) -> Self {
        let mut world = Self {
            version: self.version.clone(),
            room_id: self.room_id.clone(),
            events: EventMap::default(),
            cover: ChainCover::default(),
            heads: BTreeSet::new(),
            order: Vec::new(),
            verdicts: BTreeMap::new(),
            states: HashMap::new(),
            clock: self.clock,
        };
        for id in order {
            world.accept(self.verified(id));
        }
        world
    }

    pub fn pdu(&self, id: &EventId) -> Arc<Pdu> {
        self.events.event(id).unwrap()
    }

    pub fn accepted(&self, pdu: &Pdu) -> bool {
        self.verdicts[pdu.event_id()] == Verdict::Accepted
    }

    pub fn state_after(&self, id: &EventId) -> &StateMap {
        &self.states[id]
    }

    pub fn view_before(&self, prev: &[OwnedEventId]) -> StateView {
        let forks: Vec<StateMap> = prev.iter().map(|id| self.states[id].clone()).collect();
        let state = resolve(&self.version, &forks, &self.cover, &self.events).unwrap();
        StateView::load(self.version.clone(), &state, &self.events).unwrap()
    }

    /// The current state: that of the forward extremities.
    pub fn current(&self) -> StateView {
        self.view_before(&self.heads.iter().cloned().collect::<Vec<_>>())
    }

    pub fn head_list(&self) -> Vec<OwnedEventId> {
        self.heads.iter().cloned().collect()
    }

    /// The event as if it had just been verified.
    pub fn verified(&self, id: &EventId) -> Verified {
        Verified::from_trusted_json(self.pdu(id).json(), id.to_owned(), &self.version, false).unwrap()
    }
}
