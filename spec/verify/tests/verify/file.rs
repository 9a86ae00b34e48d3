//! Makes audit files of test rooms, as a server would. Must not check anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ruma::{OwnedEventId, RoomVersionId, ServerName};
use serde_json::{Value, json};
use weft_dag::{
    Pdu,
    testing::{World, signer},
};
use weft_verify::{Failed, Options, Report, Rule, verify};
use weft_wire::update::UpdateContent;

pub(crate) const ALICE: &str = "@alice:alpha.example";
pub(crate) const BOB: &str = "@bob:beta.example";
pub(crate) const CAROL: &str = "@carol:gamma.example";

/// The content of an update that inserts one letter, the first of this client.
pub(crate) fn letter(client: u8, letter: u8) -> Value {
    let update = [1, 1, client, 0, 4, 1, 4, b'b', b'o', b'd', b'y', 1, letter, 0];
    serde_json::to_value(UpdateContent::new(&update, [(u64::from(client), (0, 1))])).unwrap()
}

/// An update that deletes the letter of this client.
pub(crate) fn deletion(client: u8) -> Value {
    let update = [0, 1, client, 1, 0, 1];
    serde_json::to_value(UpdateContent::new(&update, [])).unwrap()
}

/// A room with editors on three servers.
pub(crate) fn room(version: &RoomVersionId) -> World {
    World::public(version, ALICE, &[(BOB, 25), (CAROL, 25)])
}

/// A small log with everything that a log has: edits of three servers, two branches with different states, a ban, a
/// rejected event that others follow, a redaction and a witness.
pub(crate) fn log(version: &RoomVersionId) -> World {
    let mut world = room(version);
    world.send(ALICE, "dev.weft.update", None, letter(1, b'a'));
    let said = world.message(BOB, "to be redacted");
    world.send(BOB, "dev.weft.update", None, letter(2, b'b'));
    let fork = world.head_list();
    let topic = |topic: &str| json!({ "topic": topic });
    let one = world.send_after(&fork, ALICE, "m.room.topic", Some(""), topic("one"));
    let two = world.send_after(&fork, CAROL, "dev.weft.update", None, letter(3, b'c'));
    // Carol may not set the topic.
    let rejected = world.build_citing(
        &[two.event_id().to_owned()],
        two.auth_events().to_vec(),
        two.sender(),
        "m.room.topic",
        Some(""),
        serde_json::from_value(topic("not allowed")).unwrap(),
    );
    let rejected = world.accept(rejected);
    assert!(rejected.rejected());
    world.send_after(
        &[one.event_id().to_owned(), rejected.event_id().to_owned()],
        BOB,
        "dev.weft.update",
        None,
        letter(4, b'd'),
    );
    world.member(ALICE, CAROL, "ban");
    world.send(ALICE, "dev.weft.update", None, deletion(1));
    world.send(ALICE, "m.room.redaction", None, json!({ "redacts": said.event_id() }));
    world.send(BOB, "dev.weft.witness", None, json!({}));
    world
}

/// A log with a lock. Three letters are part of the text: one from before the lock, one beside it, and one from after it was lifted. Two
/// are not, although their authors may edit: they follow the lock, the second one also an unlock of another lock.
pub(crate) fn locked_log(version: &RoomVersionId) -> World {
    let mut world = room(version);
    world.send(ALICE, "dev.weft.update", None, letter(1, b'a'));
    let fork = world.head_list();
    let content = json!({ "heads": fork, "reason": "final" });
    let lock = world.state(ALICE, "dev.weft.lock", "", content);
    let beside = world.build(&fork, BOB, "dev.weft.update", None, letter(2, b'b'));
    let beside = world.accept(beside);
    assert!(!beside.rejected());
    let follow_lock = |world: &mut World, after: &Pdu, sender: &str, client: u8| {
        let locked = [after.event_id().to_owned()];
        let late = world.build(&locked, sender, "dev.weft.update", None, letter(client, b'x'));
        let late = world.accept(late);
        assert!(late.rejected());
        late.event_id().to_owned()
    };
    let late = follow_lock(&mut world, &lock, CAROL, 3);
    let other = world.state(ALICE, "dev.weft.unlock", "$another", json!({}));
    let later = follow_lock(&mut world, &other, ALICE, 4);
    // Chat goes on, and refers to all of them.
    let all = [other.event_id().to_owned(), beside.event_id().to_owned(), late, later];
    let said = json!({ "msgtype": "m.text", "body": "locked" });
    world.send_after(&all, BOB, "m.room.message", None, said);
    world.state(ALICE, "dev.weft.unlock", lock.event_id().as_str(), json!({}));
    world.send(CAROL, "dev.weft.update", None, letter(5, b'c'));
    world
}

/// The key of a server, as in a file.
pub(crate) fn key(server: &ServerName) -> Value {
    let signer = signer(server);
    json!({ signer.key_id(): { "key": STANDARD_NO_PAD.encode(signer.public_key()), "valid_until": 1_900_000_000_000_u64 } })
}

/// A file, line by line.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) header: Value,
    pub(crate) events: Vec<Value>,
    pub(crate) end: Value,
    /// The events that the authorisation rules reject, for verifiers without these rules.
    pub(crate) rejected: Vec<OwnedEventId>,
}

pub(crate) fn line(pdu: &Pdu) -> Value {
    json!({ "event_id": pdu.event_id(), "pdu": serde_json::from_str::<Value>(pdu.json()).unwrap() })
}

impl File {
    /// The whole log of a room. Redacted events are without their content.
    pub(crate) fn of(world: &World) -> Self {
        let events: Vec<Arc<Pdu>> = world.order.iter().map(|id| world.pdu(id)).collect();
        let redacted: BTreeSet<OwnedEventId> = events
            .iter()
            .filter_map(|pdu| pdu.redacts().map(ToOwned::to_owned))
            .collect();
        let shown = |pdu: &Arc<Pdu>| match redacted.contains(pdu.event_id()) {
            true => weft_dag::redact::redact(pdu, &world.version).unwrap(),
            false => Arc::clone(pdu),
        };
        let servers: BTreeSet<&ServerName> = events.iter().map(|pdu| pdu.sender().server_name()).collect();
        let keys: BTreeMap<&ServerName, Value> = servers.into_iter().map(|server| (server, key(server))).collect();
        let referenced: BTreeSet<&OwnedEventId> = events
            .iter()
            .flat_map(|pdu| pdu.prev_events().iter().chain(pdu.auth_events()))
            .collect();
        let heads: BTreeSet<&OwnedEventId> = world.order.iter().filter(|id| !referenced.contains(id)).collect();
        Self {
            header: json!({
                "weft_audit": 1, "room_id": world.room_id, "room_version": world.version.id(),
                "exported_at": 1_800_000_000_000_u64, "server": "alpha.example", "keys": keys,
            }),
            rejected: events
                .iter()
                .filter(|pdu| pdu.rejected())
                .map(|pdu| pdu.event_id().to_owned())
                .collect(),
            end: json!({ "heads": heads, "events": events.len() }),
            events: events.iter().map(|pdu| line(&shown(pdu))).collect(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let lines = [&self.header].into_iter().chain(&self.events).chain([&self.end]);
        lines.map(|line| format!("{line}\n")).collect()
    }

    pub(crate) fn verify(&self) -> Result<Report, Failed> {
        check(self.text().as_bytes())
    }

    /// The number of the line of an event, from 0 after the header.
    pub(crate) fn place(&self, kind: &str, nth: usize) -> usize {
        let places = self
            .events
            .iter()
            .zip(0..)
            .filter(|(line, _)| line["pdu"]["type"] == kind);
        places.map(|(_, at)| at).nth(nth).unwrap()
    }
}

pub(crate) fn check(text: &[u8]) -> Result<Report, Failed> {
    verify(text, Options::default(), |_| {})
}

/// The rule that a file breaks, and the line.
pub(crate) fn broken(verified: Result<Report, Failed>) -> (Rule, u64, Option<OwnedEventId>) {
    match verified {
        Err(Failed::Wrong(wrong)) => (wrong.rule, wrong.line, wrong.event),
        other => panic!("{other:?}"),
    }
}
