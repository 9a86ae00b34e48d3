//! The checks on receipt of an event: form (T01 to T10), signatures, keys and hashes (T40, T41, T43).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic fails the test"
)]

use std::sync::Arc;

use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, RoomId, RoomVersionId, UInt, UserId, owned_server_name,
    signatures::hash_and_sign_event,
};
use serde_json::{Value, json};
use weft_dag::{
    BuildError, Draft, DropReason, KeyError, KeyValidity, Pdu, Placement, RoomVersion, Signer, Unchecked, Verified,
    VerifyKey, VerifyKeys,
    testing::{World, object, signer, verify_keys},
};

const ALICE: &str = "@alice:a.example";

fn version(id: &RoomVersionId) -> RoomVersion {
    RoomVersion::new(id).unwrap()
}

/// A valid event of a room, as JSON for tests to change.
fn good(id: &RoomVersionId) -> Value {
    let mut world = World::public(id, ALICE, &[]);
    serde_json::from_str(world.message(ALICE, "hello").json()).unwrap()
}

/// Hashes and signs any event by hand.
fn signed(mut event: Value, id: &RoomVersionId) -> CanonicalJsonObject {
    event.as_object_mut().unwrap().remove("signatures");
    event.as_object_mut().unwrap().remove("hashes");
    let mut event = object(event);
    let signer = signer(&owned_server_name!("a.example"));
    hash_and_sign_event(
        "a.example",
        signer.key_pair(),
        &mut event,
        &version(id).rules().redaction,
    )
    .unwrap();
    event
}

fn parse(event: &Value) -> Result<Unchecked, DropReason> {
    Unchecked::parse(&event.to_string(), &version(&RoomVersionId::V12))
}

fn keys() -> VerifyKeys {
    verify_keys([owned_server_name!("a.example"), owned_server_name!("b.example")])
}

#[test]
fn only_room_versions_6_to_12_are_supported() {
    for id in RoomVersion::ALL {
        assert_eq!(version(&id).id(), &id);
    }
    for id in [
        RoomVersionId::V1,
        RoomVersionId::V5,
        RoomVersionId::try_from("org.example.new").unwrap(),
    ] {
        assert!(RoomVersion::new(&id).is_err());
    }
}

#[test]
fn events_of_every_version_verify_and_are_read_back_unchanged() {
    for id in RoomVersion::ALL {
        let version = version(&id);
        let mut world = World::public(&id, ALICE, &[("@bob:b.example", 50)]);
        world.message("@bob:b.example", "hi");
        for event_id in world.order.clone() {
            let pdu = world.pdu(&event_id);
            assert!(
                world.accepted(&pdu),
                "{id}: {}: {:?}",
                pdu.json(),
                world.verdicts[&event_id]
            );
            let verified = Unchecked::parse(pdu.json(), &version).unwrap().verify(&keys()).unwrap();
            assert!(!verified.redacted_on_receipt());
            assert_eq!(verified.pdu().event_id(), pdu.event_id());
            let again = Pdu::from_trusted_json(pdu.json(), event_id, &version, false).unwrap();
            assert_eq!(
                (again.json(), again.depth(), again.state_key()),
                (pdu.json(), pdu.depth(), pdu.state_key())
            );
        }
    }
}

#[test]
fn a_version_12_room_is_named_by_its_create_event() {
    let world = World::new(&RoomVersionId::V12, ALICE);
    let create = world.pdu(&world.order[0]);
    assert!(!create.json().contains("room_id"));
    assert_eq!(create.room_id().strip_sigil(), create.event_id().localpart());
    let join = world.pdu(&world.order[1]);
    assert_eq!(join.room_id(), create.room_id());
    assert!(join.auth_events().is_empty(), "{:?}", join.auth_events());
}

#[test]
fn an_event_may_have_65_536_bytes_and_not_one_more() {
    let with_body = |length: usize| {
        let mut event = good(&RoomVersionId::V12);
        event["content"] = json!({ "body": "x".repeat(length) });
        let event = signed(event, &RoomVersionId::V12);
        serde_json::to_string(&event).unwrap()
    };
    let rest = with_body(0).len();
    let fits = with_body(65_536 - rest);
    assert_eq!(fits.len(), 65_536);
    let version = version(&RoomVersionId::V12);
    assert!(Unchecked::parse(&fits, &version).unwrap().verify(&keys()).is_ok());
    assert_eq!(
        Unchecked::parse(&with_body(65_537 - rest), &version).unwrap_err(),
        DropReason::TooLarge {
            bytes: 65_537,
            max: 65_536
        }
    );
    assert!(matches!(
        Unchecked::parse(&format!("{}{fits}", " ".repeat(400_000)), &version).unwrap_err(),
        DropReason::TooLarge { .. }
    ));
}

#[test]
fn the_error_for_a_too_large_event_has_its_size() {
    let mut world = World::public(&RoomVersionId::V12, ALICE, &[]);
    let state = world.current();
    let sender = UserId::parse(ALICE).unwrap();
    for length in [65_400, 70_000] {
        let content = object(json!({ "body": "x".repeat(length) }));
        let draft = Draft {
            sender: sender.clone(),
            kind: "m.room.message".into(),
            state_key: None,
            content: content.clone(),
            redacts: None,
            room_id: Some(world.room_id.clone()),
        };
        let placement = Placement {
            prev_events: world.head_list(),
            auth_events: state.auth_events("m.room.message", &sender, None, &content).unwrap(),
            depth: 9,
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::from(1_u32)),
        };
        let error = draft
            .sign(&world.version, placement, &signer(sender.server_name()))
            .unwrap_err();
        assert!(
            matches!(error, BuildError::TooLarge { bytes, max: 65_536 } if bytes > 65_536),
            "{error}"
        );
    }
    assert!(world.message(ALICE, "small").json().len() < 1_000);
}

#[test]
fn only_events_of_our_own_users_are_signed() {
    let world = World::new(&RoomVersionId::V12, ALICE);
    let draft = Draft {
        sender: UserId::parse("@bob:b.example").unwrap(),
        kind: "m.room.message".into(),
        state_key: None,
        content: CanonicalJsonObject::new(),
        redacts: None,
        room_id: Some(world.room_id.clone()),
    };
    let placement = Placement {
        prev_events: world.head_list(),
        auth_events: vec![],
        depth: 1,
        origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::from(1_u32)),
    };
    let error = draft
        .sign(&world.version, placement, &signer(&owned_server_name!("a.example")))
        .unwrap_err();
    assert!(matches!(error, BuildError::ForeignSender { .. }));
}

#[test]
fn fields_are_measured_in_bytes() {
    // Two bytes a letter.
    for (letters, fits) in [(127, true), (128, false)] {
        let text = "é".repeat(letters);
        for field in ["type", "state_key"] {
            let mut event = good(&RoomVersionId::V12);
            event[field] = json!(text);
            assert_eq!(parse(&event).is_ok(), fits, "{field} of {letters} letters");
        }
    }
    for (length, fits) in [(255, true), (256, false)] {
        let mut event = good(&RoomVersionId::V12);
        event["sender"] = json!(format!("@{}:a.example", "x".repeat(length - "@:a.example".len())));
        assert_eq!(parse(&event).is_ok(), fits, "sender of {length} bytes");
        let mut event = good(&RoomVersionId::V11);
        event["room_id"] = json!(format!("!{}:a.example", "x".repeat(length - "!:a.example".len())));
        let parsed = Unchecked::parse(&event.to_string(), &version(&RoomVersionId::V11));
        assert_eq!(parsed.is_ok(), fits, "room id of {length} bytes");
    }
}

#[test]
fn wrong_types_and_numbers_are_dropped() {
    let id = "$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let wrong = [
        ("type", json!(1)),
        ("type", Value::Null),
        ("sender", json!("alice")),
        ("sender", json!("@alice")),
        ("room_id", json!("!short")),
        ("room_id", json!("!room:a.example")),
        ("room_id", json!(7)),
        ("state_key", Value::Null),
        ("state_key", json!(0)),
        ("content", Value::Null),
        ("content", json!([])),
        ("content", json!("text")),
        ("hashes", json!({})),
        ("hashes", json!({ "sha256": 1 })),
        ("hashes", json!({ "sha256": "AAAA" })),
        ("hashes", json!({ "sha256": "A".repeat(42) })),
        ("hashes", json!({ "sha256": format!("{}-", "A".repeat(42)) })),
        ("hashes", json!([])),
        ("signatures", json!([])),
        ("signatures", json!({ "a.example": "x" })),
        ("signatures", json!({ "a.example": { "ed25519:test": 1 } })),
        ("prev_events", json!("x")),
        ("prev_events", json!([])),
        ("prev_events", json!(["$short"])),
        ("prev_events", json!([1])),
        ("prev_events", json!([[id, {}]])),
        ("prev_events", json!(vec![id; 21])),
        ("auth_events", json!(vec![id; 11])),
        ("auth_events", json!({})),
        ("depth", json!(-1)),
        ("depth", json!("5")),
        ("depth", json!(1.5)),
        ("depth", json!(9_007_199_254_740_992_u64)),
        ("depth", json!(i64::MAX)),
        ("origin_server_ts", json!(-1)),
        ("origin_server_ts", json!("now")),
    ];
    assert!(parse(&good(&RoomVersionId::V12)).is_ok());
    for (field, value) in wrong {
        let mut event = good(&RoomVersionId::V12);
        event[field] = value.clone();
        assert!(parse(&event).is_err(), "{field}: {value}");
    }
}

#[test]
fn every_field_is_required_and_values_at_the_limits_are_allowed() {
    let id = "$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for field in [
        "type",
        "sender",
        "room_id",
        "content",
        "hashes",
        "signatures",
        "prev_events",
        "auth_events",
        "depth",
        "origin_server_ts",
    ] {
        let mut event = good(&RoomVersionId::V12);
        event.as_object_mut().unwrap().remove(field);
        assert!(parse(&event).is_err(), "without {field}");
    }
    for (field, value) in [
        ("depth", json!(0)),
        ("depth", json!(9_007_199_254_740_991_u64)),
        ("prev_events", json!(vec![id; 20])),
        ("auth_events", json!(vec![id; 10])),
    ] {
        let mut event = good(&RoomVersionId::V12);
        event[field] = value;
        assert!(parse(&event).is_ok(), "{field}");
    }
}

/// An event of the creator of a new room, changed and signed by hand: `None` if it is dropped, otherwise whether it is
/// accepted.
fn receive(id: &RoomVersionId, change: impl FnOnce(&mut Value)) -> Option<bool> {
    let mut world = World::public(id, ALICE, &[]);
    let heads = world.head_list();
    let built = world.build(&heads, ALICE, "m.room.message", None, json!({ "body": "hello" }));
    let mut event: Value = serde_json::from_str(built.pdu().json()).unwrap();
    change(&mut event);
    let event = serde_json::to_string(&signed(event, id)).unwrap();
    let verified = Unchecked::parse(&event, &version(id)).ok()?.verify(&keys()).unwrap();
    let pdu = world.accept(verified);
    Some(world.accepted(&pdu))
}

/// If it were dropped, it would leave a gap in the graph that nobody can fill (room version 12, "Authorization rules").
#[test]
fn a_version_12_event_with_the_create_event_in_its_auth_events_is_rejected() {
    assert_eq!(receive(&RoomVersionId::V12, |_| {}), Some(true));
    let cites_create = |event: &mut Value| {
        let create = event["room_id"].as_str().unwrap().replace('!', "$");
        event["auth_events"].as_array_mut().unwrap().push(json!(create));
    };
    assert_eq!(receive(&RoomVersionId::V12, cites_create), Some(false));
}

#[test]
fn events_with_long_names_are_dropped_or_rejected_as_in_synapse() {
    for id in RoomVersion::ALL {
        // Two bytes a letter; Synapse measured in characters.
        let older = !version(&id).drops_long_names();
        assert_eq!(older, ["6", "7", "8", "9", "10"].contains(&id.as_str()), "{id}");
        for field in ["type", "state_key"] {
            let name = |letters: usize, letter: &str| {
                let text = letter.repeat(letters);
                receive(&id, move |event| event[field] = json!(text))
            };
            assert_eq!(name(255, "x"), Some(true), "{id} {field}");
            assert_eq!(name(256, "x"), None, "{id} {field}");
            assert_eq!(name(127, "é"), Some(true), "{id} {field}");
            assert_eq!(name(128, "é"), older.then_some(false), "{id} {field}");
            assert_eq!(name(255, "é"), older.then_some(false), "{id} {field}");
            assert_eq!(name(256, "é"), None, "{id} {field}");
        }
    }
}

/// Other servers would reject such an event, so it is not sent.
#[test]
fn no_event_with_a_long_name_is_signed() {
    for id in RoomVersion::ALL {
        for (letters, fits) in [(127, true), (128, false)] {
            let name = "é".repeat(letters);
            for (kind, key) in [(name.as_str(), ""), ("m.example", name.as_str())] {
                let draft = Draft {
                    sender: UserId::parse(ALICE).unwrap(),
                    kind: kind.to_owned(),
                    state_key: Some(key.to_owned()),
                    content: object(json!({})),
                    redacts: None,
                    room_id: Some(RoomId::parse("!aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").unwrap()),
                };
                let placement = Placement {
                    prev_events: vec![EventId::parse(format!("${}", "a".repeat(43))).unwrap()],
                    auth_events: vec![],
                    depth: 1,
                    origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::from(1_u32)),
                };
                let built = draft.sign(&version(&id), placement, &signer(&owned_server_name!("a.example")));
                assert_eq!(built.is_ok(), fits, "{id} {letters}");
            }
        }
    }
}

#[test]
fn the_id_is_computed_and_unsigned_is_ignored() {
    let event = good(&RoomVersionId::V12);
    let plain = parse(&event).unwrap();
    let mut noted = event.clone();
    noted["unsigned"] = json!({ "age": 5, "junk": "x".repeat(60_000) });
    let noted = parse(&noted).unwrap();
    assert_eq!(noted.event_id(), plain.event_id());
    let verified = noted.verify(&keys()).unwrap();
    assert!(!verified.pdu().json().contains("junk"));
    assert!(!verified.redacted_on_receipt());

    let mut claims = event;
    claims["event_id"] = json!("$bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb");
    let claims = parse(&claims).unwrap();
    assert_ne!(
        claims.event_id().as_str(),
        "$bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
    );
    assert!(claims.verify(&keys()).is_err(), "a field was added after signing");
}

#[test]
fn changed_content_is_redacted_and_any_other_change_is_dropped() {
    for id in RoomVersion::ALL {
        let event = good(&id);
        let version = version(&id);
        let mut changed = event.clone();
        changed["content"]["body"] = json!("other words");
        let unchecked = Unchecked::parse(&changed.to_string(), &version).unwrap();
        let same_id = unchecked.event_id().to_owned();
        let verified = unchecked.verify(&keys()).unwrap();
        assert!(verified.redacted_on_receipt());
        assert_eq!(verified.pdu().content().get(), "{}");
        assert_eq!(verified.pdu().event_id(), same_id);
        assert_eq!(
            same_id,
            Unchecked::parse(&event.to_string(), &version).unwrap().event_id()
        );

        let mut moved = event.clone();
        moved["depth"] = json!(3);
        assert!(
            Unchecked::parse(&moved.to_string(), &version)
                .unwrap()
                .verify(&keys())
                .is_err()
        );
        let mut unsigned = event;
        unsigned["signatures"] = json!({});
        assert!(
            Unchecked::parse(&unsigned.to_string(), &version)
                .unwrap()
                .verify(&keys())
                .is_err()
        );
    }
}

fn one_key(validity: KeyValidity) -> VerifyKeys {
    let signer = signer(&owned_server_name!("a.example"));
    let mut keys = VerifyKeys::new();
    keys.insert(
        owned_server_name!("a.example"),
        signer.key_id(),
        VerifyKey::new(&signer.public_key(), validity).unwrap(),
    );
    keys
}

#[test]
fn a_key_is_valid_only_within_its_time() {
    let event = good(&RoomVersionId::V12);
    let ts = event["origin_server_ts"].as_u64().unwrap();
    let at = |offset: i64| MilliSecondsSinceUnixEpoch(UInt::try_from(ts.checked_add_signed(offset).unwrap()).unwrap());
    let verify = |validity| parse(&event).unwrap().verify(&one_key(validity)).is_ok();
    assert!(verify(KeyValidity::ValidUntil(at(0))));
    assert!(!verify(KeyValidity::ValidUntil(at(-1))));
    assert!(verify(KeyValidity::ExpiredAt(at(1))));
    assert!(!verify(KeyValidity::ExpiredAt(at(-1))));

    let requests = one_key(KeyValidity::ExpiredAt(at(1))).for_requests(at(0));
    assert!(
        requests.values().all(std::collections::BTreeMap::is_empty),
        "old keys sign no requests"
    );
    assert_eq!(
        one_key(KeyValidity::ValidUntil(at(1)))
            .for_requests(at(0))
            .values()
            .flatten()
            .count(),
        1
    );
    assert_eq!(
        one_key(KeyValidity::ValidUntil(at(-1)))
            .for_requests(at(0))
            .values()
            .flatten()
            .count(),
        0
    );
}

#[test]
fn weak_and_malformed_keys_are_refused() {
    let valid = KeyValidity::ValidUntil(MilliSecondsSinceUnixEpoch(UInt::MAX));
    let refused = |bytes: &[u8]| VerifyKey::new(bytes, valid).unwrap_err();
    assert_eq!(refused(&[0; 31]), KeyError::Length(31));
    assert_eq!(refused(&[0; 33]), KeyError::Length(33));
    let mut identity = [0_u8; 32];
    identity[0] = 1;
    assert_eq!(refused(&identity), KeyError::Weak);
    assert_eq!(refused(&[0; 32]), KeyError::Weak);
    // y = p + 1: the identity in another encoding.
    let mut other_identity = [0xff_u8; 32];
    other_identity[0] = 0xee;
    other_identity[31] = 0x7f;
    assert_eq!(refused(&other_identity), KeyError::NotAPoint);
}

#[test]
fn a_signature_by_another_server_or_with_another_key_is_invalid() {
    let event = good(&RoomVersionId::V12);
    let needed = parse(&event).unwrap().needed_keys();
    assert_eq!(needed.len(), 1);
    assert!(needed[&owned_server_name!("a.example")].contains("ed25519:test"));

    // A valid signature of the other server.
    let mut by_other = event.clone();
    let b = signer(&owned_server_name!("b.example"));
    by_other["signatures"] = json!({});
    let mut by_other = object(by_other);
    hash_and_sign_event(
        "b.example",
        b.key_pair(),
        &mut by_other,
        &version(&RoomVersionId::V12).rules().redaction,
    )
    .unwrap();
    let by_other = serde_json::to_value(by_other).unwrap();
    let unchecked = parse(&by_other).unwrap();
    assert!(unchecked.needed_keys()[&owned_server_name!("a.example")].is_empty());
    assert!(unchecked.verify(&keys()).is_err());

    // The keys of the server are unknown, or it has another key of that name.
    assert!(parse(&event).unwrap().verify(&VerifyKeys::new()).is_err());
    let impostor = Signer::from_seed(owned_server_name!("a.example"), &[9; 32], "test").unwrap();
    let valid = KeyValidity::ValidUntil(MilliSecondsSinceUnixEpoch(UInt::MAX));
    let mut wrong = VerifyKeys::new();
    wrong.insert(
        owned_server_name!("a.example"),
        impostor.key_id(),
        VerifyKey::new(&impostor.public_key(), valid).unwrap(),
    );
    assert!(parse(&event).unwrap().verify(&wrong).is_err());
}

#[test]
fn a_restricted_join_needs_both_servers() {
    let mut world = World::public(&RoomVersionId::V12, ALICE, &[]);
    let heads = world.head_list();
    let join: Verified = world.build_citing(
        &heads,
        vec![],
        &UserId::parse("@bob:b.example").unwrap(),
        "m.room.message",
        Some("@bob:b.example"),
        object(json!({ "body": "not a join yet" })),
    );
    let content = json!({ "membership": "join", "join_authorised_via_users_server": ALICE });
    let mut event: Value = serde_json::from_str(join.pdu().json()).unwrap();
    event["type"] = json!("m.room.member");
    event["content"] = content;
    event.as_object_mut().unwrap().remove("signatures");
    event.as_object_mut().unwrap().remove("hashes");
    let mut event = object(event);
    let version = version(&RoomVersionId::V12);
    let b = signer(&owned_server_name!("b.example"));
    hash_and_sign_event("b.example", b.key_pair(), &mut event, &version.rules().redaction).unwrap();
    let json = serde_json::to_string(&event).unwrap();
    let once = Unchecked::parse(&json, &version).unwrap();
    assert_eq!(once.needed_keys().len(), 2);
    assert!(once.verify(&keys()).is_err());

    let by_b = Verified::from_trusted_json(
        &json,
        Unchecked::parse(&json, &version).unwrap().event_id().to_owned(),
        &version,
        false,
    )
    .unwrap();
    let both = signer(&owned_server_name!("a.example"))
        .cosign(&by_b, &version)
        .unwrap();
    let pdu: &Arc<Pdu> = both.pdu();
    assert_eq!(pdu.event_id(), by_b.pdu().event_id());
    assert!(Unchecked::parse(pdu.json(), &version).unwrap().verify(&keys()).is_ok());
}

#[test]
fn redactions_name_their_target_at_the_position_of_the_version() {
    for id in RoomVersion::ALL {
        let mut world = World::public(&id, ALICE, &[]);
        let target = world.message(ALICE, "oops");
        let sender = UserId::parse(ALICE).unwrap();
        let state = world.current();
        let draft = Draft {
            sender: sender.clone(),
            kind: "m.room.redaction".into(),
            state_key: None,
            content: CanonicalJsonObject::new(),
            redacts: Some(target.event_id().to_owned()),
            room_id: Some(world.room_id.clone()),
        };
        let placement = Placement {
            prev_events: world.head_list(),
            auth_events: state
                .auth_events("m.room.redaction", &sender, None, &CanonicalJsonObject::new())
                .unwrap(),
            depth: 10,
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::from(5_u32)),
        };
        let redaction = draft
            .sign(&world.version, placement, &signer(sender.server_name()))
            .unwrap()
            .pdu;
        assert_eq!(redaction.redacts(), Some(target.event_id()), "{id}");
        assert!(weft_dag::redact::takes_effect(&redaction, &target, &state));
        let redacted = weft_dag::redact::redact(&target, &world.version).unwrap();
        assert_eq!(redacted.event_id(), target.event_id());
        assert!(!redacted.json().contains("oops"));
        let again = Unchecked::parse(redacted.json(), &world.version).unwrap();
        assert_eq!(
            again.event_id(),
            target.event_id(),
            "{id}: the id is the hash of the redacted event"
        );
    }
}
