//! The lock of a document: while it stands, no update is accepted, also of an owner. Source: `spec/docs/lock.md`.
//!
//! A lock is the state entry `dev.weft.lock`; it is lifted by an entry `dev.weft.unlock` whose state key is the id of the
//! lock. Must not read the content of either: a server that received a redacted copy would decide differently.

use std::sync::Arc;

use ruma::{CanonicalJsonObject, EventId};
use weft_wire::event_types;

use crate::{Pdu, RoomVersion, StateKey, StateMap, StateView, draft::auth_types};

/// Whether a lock forbids events of this form.
pub(crate) fn forbids(kind: &str, state_key: Option<&str>) -> bool {
    kind == event_types::UPDATE && state_key.is_none()
}

/// The lock that stands in a state, which is given as a function of type and state key.
pub(crate) fn standing<'a>(state: impl Fn(&str, &str) -> Option<&'a Arc<Pdu>>) -> Option<&'a Arc<Pdu>> {
    let lock = state(event_types::LOCK, "")?;
    state(event_types::UNLOCK, lock.event_id().as_str())
        .is_none()
        .then_some(lock)
}

/// The id of the lock in a state, whether it stands or is lifted.
#[must_use]
pub fn entry(state: &StateMap) -> Option<&EventId> {
    state.get(event_types::LOCK, "").map(|lock| &**lock)
}

/// Whether a state lifts this lock.
#[must_use]
pub fn is_lifted(state: &StateMap, lock: &EventId) -> bool {
    state.get(event_types::UNLOCK, lock.as_str()).is_some()
}

impl StateView {
    /// The lock that stands, if the document is locked.
    #[must_use]
    pub fn lock(&self) -> Option<&Arc<Pdu>> {
        standing(|kind, key| self.get(kind, key))
    }
}

/// The entries of a state that decide about an event: those that it cites, the create event, and for an update the lock.
/// `lock` is the id of the state's entry `dev.weft.lock`. A malformed event cites none; the authorisation rules reject it.
#[must_use]
pub fn deciding_keys(pdu: &Pdu, version: &RoomVersion, lock: Option<&EventId>) -> Vec<StateKey> {
    let content: CanonicalJsonObject = match pdu.kind() {
        "m.room.member" => pdu.content_as().unwrap_or_default(),
        // Only the content of membership events matters.
        _ => CanonicalJsonObject::new(),
    };
    let keys = auth_types(pdu.kind(), pdu.sender(), pdu.state_key(), &content, version);
    let mut keys = keys.unwrap_or_default();
    keys.push(("m.room.create".to_owned(), String::new()));
    if forbids(pdu.kind(), pdu.state_key()) {
        keys.push((event_types::LOCK.to_owned(), String::new()));
        keys.extend(lock.map(|lock| (event_types::UNLOCK.to_owned(), lock.to_string())));
    }
    keys
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ruma::RoomVersionId;
    use serde_json::{Map, Value, json};

    use crate::{Stage, Verdict, testing::World};

    const OWNER: &str = "@owner:a.example";
    const EDITOR: &str = "@editor:b.example";

    fn verdict(world: &mut World, prev: &[ruma::OwnedEventId], sender: &str, key: Option<&str>) -> Verdict {
        let event = world.build(
            prev,
            sender,
            "dev.weft.update",
            key,
            json!({ "update": "AAA", "clients": {} }),
        );
        let before = world.view_before(prev);
        let current = world.current();
        let authorized = event.authorize(&world.version, &world.events, &before, Some(&current));
        authorized.unwrap().verdict().clone()
    }

    fn room(version: &RoomVersionId) -> World {
        World::public(version, OWNER, &[(EDITOR, 25)])
    }

    fn locked_at(verdict: &Verdict) -> Option<Stage> {
        match verdict {
            Verdict::Accepted => None,
            Verdict::SoftFailed { reason } | Verdict::Rejected { reason } => Some(reason.stage),
        }
    }

    #[test]
    fn while_a_lock_stands_no_update_is_accepted() {
        for version in [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12] {
            let mut world = room(&version);
            let before = world.head_list();
            let lock = world.state(OWNER, "dev.weft.lock", "", json!({}));
            let locked = world.head_list();
            for sender in [OWNER, EDITOR] {
                let after = verdict(&mut world, &locked, sender, None);
                assert_eq!(locked_at(&after), Some(Stage::StateBefore), "{version} {sender}");
                let beside = verdict(&mut world, &before, sender, None);
                assert_eq!(locked_at(&beside), Some(Stage::CurrentState), "{version} {sender}");
            }
            world.state(OWNER, "dev.weft.unlock", lock.event_id().as_str(), json!({}));
            let lifted = world.head_list();
            for sender in [OWNER, EDITOR] {
                let verdict = verdict(&mut world, &lifted, sender, None);
                assert_eq!(verdict, Verdict::Accepted, "{version} {sender}");
            }
        }
    }

    #[derive(serde::Deserialize)]
    struct Vector {
        room_version: RoomVersionId,
        owner: String,
        powers: BTreeMap<String, i64>,
        events: Vec<Event>,
    }

    #[derive(serde::Deserialize)]
    struct Event {
        name: String,
        sender: String,
        #[serde(rename = "type")]
        kind: String,
        state_key: Option<String>,
        #[serde(default)]
        content: Map<String, Value>,
        after: Vec<String>,
        expect: String,
    }

    #[test]
    fn the_vectors_hold() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/lock");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let vector: Vector = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let powers: Vec<(&str, i64)> = vector.powers.iter().map(|(user, power)| (&**user, *power)).collect();
            let mut world = World::public(&vector.room_version, &vector.owner, &powers);
            let mut names = BTreeMap::from([("start".to_owned(), world.head_list())]);
            for event in vector.events {
                let prev: Vec<_> = event.after.iter().flat_map(|name| names[name].clone()).collect();
                let named = |key: &String| {
                    let name = key.strip_prefix('<').and_then(|key| key.strip_suffix('>'));
                    name.map_or(key.clone(), |name| names[name][0].to_string())
                };
                let key = event.state_key.as_ref().map(named);
                let content = Value::Object(event.content);
                let sent = world.send_after(&prev, &event.sender, &event.kind, key.as_deref(), content);
                let verdict = match &world.verdicts[sent.event_id()] {
                    Verdict::Accepted => "accepted",
                    Verdict::SoftFailed { .. } => "soft_failed",
                    Verdict::Rejected { .. } => "rejected",
                };
                assert_eq!(verdict, event.expect, "{}: {}", path.display(), event.name);
                names.insert(event.name, vec![sent.event_id().to_owned()]);
            }
            count += 1;
        }
        assert!(count >= 10, "{count} vectors");
    }

    #[test]
    fn an_unlock_lifts_only_the_lock_that_it_names() {
        let mut world = room(&RoomVersionId::V12);
        let first = world.state(OWNER, "dev.weft.lock", "", json!({ "reason": "first" }));
        world.state(OWNER, "dev.weft.lock", "", json!({ "reason": "second" }));
        world.state(OWNER, "dev.weft.unlock", first.event_id().as_str(), json!({}));
        let heads = world.head_list();
        let verdict = verdict(&mut world, &heads, OWNER, None);
        assert_eq!(locked_at(&verdict), Some(Stage::StateBefore));
        assert!(world.current().lock().is_some());
    }

    /// Redaction leaves type, state key and id.
    #[test]
    fn the_content_of_a_lock_and_an_unlock_has_no_effect() {
        let contents: [Value; 3] = [json!({}), json!({ "heads": 7 }), json!({ "locked": false })];
        for content in contents {
            let mut world = room(&RoomVersionId::V12);
            let lock = world.state(OWNER, "dev.weft.lock", "", content.clone());
            assert!(world.current().lock().is_some(), "{content}");
            world.state(OWNER, "dev.weft.unlock", lock.event_id().as_str(), content.clone());
            assert!(world.current().lock().is_none(), "{content}");
        }
    }

    #[test]
    fn other_events_are_accepted_while_a_lock_stands() {
        let mut world = room(&RoomVersionId::V12);
        world.state(OWNER, "dev.weft.lock", "", json!({}));
        let heads = world.head_list();
        for kind in ["m.room.message", "dev.weft.witness", "dev.weft.suggestion"] {
            let sent = world.send_after(&heads, EDITOR, kind, None, json!({}));
            assert_eq!(world.verdicts[sent.event_id()], Verdict::Accepted, "{kind}");
        }
    }
}
