//! Properties of events for any bytes: the fuzz targets of `conformance-tests/fuzz` and the replay of their corpora
//! (`corpus/`, next to this file) call the same checks. Must only be part of the crate in tests and fuzzing.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic fails the check")]

use std::cell::OnceCell;

use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedUserId, owned_server_name};
use weft_wire::limits;

use crate::{
    Draft, Placement, RoomVersion, StateView, Unchecked, Verified, VerifyKeys, parse_canonical, redact,
    testing::{World, signer, verify_keys},
};

/// Accepted JSON has one canonical form, and serde reads it as the same value.
pub fn json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(object) = parse_canonical(text) else { return };
    let canonical = serde_json::to_string(&object).unwrap();
    assert_eq!(parse_canonical(&canonical).unwrap(), object);
    let kind: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&object).unwrap(), kind);
    assert!(depth(&CanonicalJsonValue::Object(object)) <= limits::MAX_JSON_DEPTH);
}

/// Without recursion: the check must not overflow the stack on deeply nested input.
fn depth(value: &CanonicalJsonValue) -> usize {
    let mut deepest = 0;
    let mut open = vec![(value, 1)];
    while let Some((value, level)) = open.pop() {
        deepest = deepest.max(level);
        match value {
            CanonicalJsonValue::Array(items) => open.extend(items.iter().map(|item| (item, level + 1))),
            CanonicalJsonValue::Object(fields) => open.extend(fields.values().map(|item| (item, level + 1))),
            _ => {}
        }
    }
    deepest
}

/// The first byte of a case chooses the room version.
fn version(data: &[u8]) -> Option<(RoomVersion, &[u8])> {
    let (first, rest) = data.split_first()?;
    let id = RoomVersion::ALL.get(usize::from(*first) % RoomVersion::ALL.len())?;
    Some((RoomVersion::new(id).unwrap(), rest))
}

/// An event of another server, of any room version: it is dropped, or it is within every limit and has one id.
pub fn event(data: &[u8]) {
    let Some((version, rest)) = version(data) else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let Ok(event) = Unchecked::parse(text, &version) else {
        return;
    };
    assert!(event.prev_events().len() <= limits::MAX_PREV_EVENTS);
    assert!(event.auth_events().len() <= limits::MAX_AUTH_EVENTS);
    assert!(event.kind().len() <= limits::MAX_EVENT_FIELD_BYTES);
    let needed = event.needed_keys();
    assert!(
        needed
            .values()
            .all(|ids| ids.len() <= limits::MAX_SIGNING_KEYS_PER_SERVER)
    );
    let id = event.event_id().to_owned();
    assert!(
        event.clone().verify(&VerifyKeys::new()).is_err(),
        "without keys no signature is valid"
    );
    let keys = verify_keys([owned_server_name!("a.example"), owned_server_name!("b.example")]);
    let Ok(verified) = event.verify(&keys) else { return };
    check_verified(&version, &verified, &id);
}

fn check_verified(version: &RoomVersion, verified: &Verified, id: &OwnedEventId) {
    let pdu = verified.pdu();
    assert_eq!(pdu.event_id(), id);
    assert!(pdu.json().len() <= limits::MAX_EVENT_BYTES);
    let again = Unchecked::parse(pdu.json(), version).unwrap();
    assert_eq!(again.event_id(), id, "redacted or not, the id is the same");
    let stored = Verified::from_trusted_json(pdu.json(), id.clone(), version, verified.redacted_on_receipt()).unwrap();
    assert_eq!(stored.pdu().json(), pdu.json());
    let redacted = redact::redact(pdu, version).unwrap();
    assert_eq!(redact::redact(&redacted, version).unwrap().json(), redacted.json());
}

/// A room of two servers for each version, built once for each thread, because signing is slow.
fn room(version: &RoomVersion) -> World {
    let mut world = World::public(version.id(), "@alice:a.example", &[("@bob:b.example", 50)]);
    world.message("@bob:b.example", "hi");
    world
}

thread_local! {
    static ROOMS: [OnceCell<World>; RoomVersion::ALL.len()] = const { [const { OnceCell::new() }; RoomVersion::ALL.len()] };
}

/// The event to try in the room: a JSON object with `sender`, `type`, `state_key`, `content`, `redacts`.
fn draft(object: &CanonicalJsonObject, world: &World) -> Option<Draft> {
    let text = |field: &str| object.get(field).and_then(CanonicalJsonValue::as_str);
    Some(Draft {
        sender: OwnedUserId::try_from(text("sender")?).ok()?,
        kind: text("type")?.to_owned(),
        state_key: text("state_key").map(ToOwned::to_owned),
        content: object.get("content")?.as_object()?.clone(),
        redacts: text("redacts").and_then(|id| OwnedEventId::try_from(id).ok()),
        room_id: Some(world.room_id.clone()),
    })
}

/// A correctly signed event with any content, after the forward extremities of a room: it is authorised without a panic
/// and twice alike, and every query of the resulting state returns.
pub fn rules(data: &[u8]) {
    let Some((version, rest)) = version(data) else { return };
    let Some(object) = std::str::from_utf8(rest)
        .ok()
        .and_then(|text| parse_canonical(text).ok())
    else {
        return;
    };
    let at = RoomVersion::ALL
        .iter()
        .position(|id| id == version.id())
        .unwrap_or_default();
    ROOMS.with(|rooms| {
        if let Some(cell) = rooms.get(at) {
            authorise_twice(&version, cell.get_or_init(|| room(&version)), &object);
        }
    });
}

fn authorise_twice(version: &RoomVersion, world: &World, object: &CanonicalJsonObject) {
    let Some(draft) = draft(object, world) else { return };
    let before = world.current();
    let heads = world.head_list();
    let Ok(auth_events) = before.auth_events(&draft.kind, &draft.sender, draft.state_key.as_deref(), &draft.content)
    else {
        return;
    };
    let placement = Placement {
        auth_events,
        depth: Placement::depth_after(heads.iter().map(|id| world.pdu(id).depth())),
        prev_events: heads,
        origin_server_ts: ruma::MilliSecondsSinceUnixEpoch(ruma::UInt::from(1_700_000_000_u32)),
    };
    let server = draft.sender.server_name().to_owned();
    let Ok(signed) = draft.sign(version, placement, &signer(&server)) else {
        return;
    };
    let event = signed.into_verified();
    let judge = || {
        event
            .clone()
            .authorize(version, &world.events, &before, Some(&before))
            .unwrap()
            .into_parts()
    };
    let ((pdu, verdict), (_, again)) = (judge(), judge());
    assert_eq!(verdict, again);
    if !pdu.rejected() {
        query(&before.after(&pdu), &pdu);
    }
}

fn query(state: &StateView, pdu: &crate::Pdu) {
    let _ = state.user_power(pdu.sender());
    let _ = redact::may_redact(pdu.sender(), pdu, state);
    let _ = crate::stripped::for_clients(&crate::stripped::entries(state, pdu.sender()));
}

#[cfg(test)]
#[test]
fn every_corpus_entry_passes_its_check() {
    for (target, check) in [("json", json as fn(&[u8])), ("event", event), ("rules", rules)] {
        let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
        assert!(!inputs.is_empty(), "{folder} is empty");
        inputs
            .iter()
            .for_each(|input| check(&std::fs::read(input.path()).unwrap()));
    }
}
