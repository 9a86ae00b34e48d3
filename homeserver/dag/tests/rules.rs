//! The authorisation rules, one by one (T28, T29, T37), by their numbers in the specification of room version 12; the
//! effect of redactions on them (T17, T36); and state resolution compared with ruma's, in every order (T24), over
//! hostile graphs (T16).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    reason = "a panic fails the test, and a table of cases is one function"
)]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{
    EventId, OwnedEventId, RoomVersionId, UserId,
    events::StateEventType,
    state_res::{self, utils::event_id_set::EventIdSet},
};
use serde_json::{Value, json};
use weft_dag::{
    EventSource, Pdu, RoomVersion, StateMap, StateView, redact, resolve,
    testing::{World, object},
};

const ALICE: &str = "@alice:a.example";
const BOB: &str = "@bob:b.example";
const CAROL: &str = "@carol:c.example";
const DAVE: &str = "@dave:d.example";
const ERIN: &str = "@erin:e.example";
const FRANK: &str = "@frank:f.example";
const HEIDI: &str = "@heidi:h.example";
const IVAN: &str = "@ivan:i.example";

/// alice created the room; ivan has 75, bob and heidi 50, dave 0; erin is banned, frank invited; carol is not in the
/// room.
fn room(version: &RoomVersionId, rule: &str) -> World {
    let mut world = World::public(version, ALICE, &[(IVAN, 75), (BOB, 50), (HEIDI, 50), (DAVE, 0)]);
    world.member(ALICE, ERIN, "ban");
    world.member(ALICE, FRANK, "invite");
    if rule != "public" {
        world.state(ALICE, "m.room.join_rules", "", json!({ "join_rule": rule }));
    }
    world
}

/// The rule's number, the join rule, sender, type, state key and content, and whether the rules allow the event.
type Vector = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    Value,
    bool,
);

fn levels(change: impl FnOnce(&mut Value)) -> Value {
    let mut levels = json!({
        "users": { IVAN: 75, BOB: 50, HEIDI: 50, DAVE: 0 }, "events": { "dev.weft.update": 25 },
    });
    change(&mut levels);
    levels
}

fn members() -> Vec<Vector> {
    const M: &str = "m.room.member";
    let is = |membership: &str| json!({ "membership": membership });
    let vouched = |by: &str| json!({ "membership": "join", "join_authorised_via_users_server": by });
    let invited_by_token = json!({ "membership": "invite", "third_party_invite": { "display_name": "c" } });
    vec![
        ("5.1 no state key", "public", BOB, M, None, is("join"), false),
        ("5.1 no membership", "public", BOB, M, Some(BOB), json!({}), false),
        (
            "5.1 a membership that is not a string",
            "public",
            BOB,
            M,
            Some(BOB),
            json!({ "membership": 1 }),
            false,
        ),
        (
            "5.1 an unknown membership (T37)",
            "public",
            BOB,
            M,
            Some(BOB),
            is("dancing"),
            false,
        ),
        (
            "5.3.2 for another user",
            "public",
            BOB,
            M,
            Some(CAROL),
            is("join"),
            false,
        ),
        ("5.3.3 banned", "public", ERIN, M, Some(ERIN), is("join"), false),
        ("5.3.4 uninvited", "invite", CAROL, M, Some(CAROL), is("join"), false),
        ("5.3.4 invited", "invite", FRANK, M, Some(FRANK), is("join"), true),
        ("5.3.4 joined already", "invite", DAVE, M, Some(DAVE), is("join"), true),
        (
            "5.3.4 invited, with the join rule knock",
            "knock",
            FRANK,
            M,
            Some(FRANK),
            is("join"),
            true,
        ),
        (
            "5.3.4 not invited, with the join rule knock",
            "knock",
            CAROL,
            M,
            Some(CAROL),
            is("join"),
            false,
        ),
        ("5.3.5.1 invited", "restricted", FRANK, M, Some(FRANK), is("join"), true),
        (
            "5.3.5.2 authorised by a user with the power to invite",
            "restricted",
            CAROL,
            M,
            Some(CAROL),
            vouched(BOB),
            true,
        ),
        (
            "5.3.5.2 without an authorising user",
            "restricted",
            CAROL,
            M,
            Some(CAROL),
            is("join"),
            false,
        ),
        (
            "5.3.5.2 authorised by a user who is not in the room",
            "restricted",
            CAROL,
            M,
            Some(CAROL),
            vouched(FRANK),
            false,
        ),
        (
            "5.3.5.2 authorised by a banned user",
            "restricted",
            CAROL,
            M,
            Some(CAROL),
            vouched(ERIN),
            false,
        ),
        (
            "5.3.5.2 authorised by the joining user",
            "restricted",
            CAROL,
            M,
            Some(CAROL),
            vouched(CAROL),
            false,
        ),
        (
            "5.3.5.2 with the join rule knock_restricted",
            "knock_restricted",
            CAROL,
            M,
            Some(CAROL),
            vouched(BOB),
            true,
        ),
        ("5.3.6 any user", "public", CAROL, M, Some(CAROL), is("join"), true),
        (
            "5.3.7 an unknown join rule (T37)",
            "telepathy",
            CAROL,
            M,
            Some(CAROL),
            is("join"),
            false,
        ),
        ("5.3.7 private", "private", CAROL, M, Some(CAROL), is("join"), false),
        (
            "5.4.1 an unknown token",
            "public",
            BOB,
            M,
            Some(CAROL),
            invited_by_token,
            false,
        ),
        (
            "5.4.2 by a user who is not in the room",
            "public",
            CAROL,
            M,
            Some(FRANK),
            is("invite"),
            false,
        ),
        ("5.4.3 a joined user", "public", BOB, M, Some(DAVE), is("invite"), false),
        ("5.4.3 a banned user", "public", BOB, M, Some(ERIN), is("invite"), false),
        ("5.4.4 a new user", "public", DAVE, M, Some(CAROL), is("invite"), true),
        ("5.5.1 a joined user", "public", DAVE, M, Some(DAVE), is("leave"), true),
        (
            "5.5.1 an invited user",
            "public",
            FRANK,
            M,
            Some(FRANK),
            is("leave"),
            true,
        ),
        (
            "5.5.1 a user without a membership",
            "public",
            CAROL,
            M,
            Some(CAROL),
            is("leave"),
            false,
        ),
        ("5.5.1 a banned user", "public", ERIN, M, Some(ERIN), is("leave"), false),
        (
            "5.5.2 by a user who is not in the room",
            "public",
            CAROL,
            M,
            Some(DAVE),
            is("leave"),
            false,
        ),
        ("5.5.3 an unban", "public", BOB, M, Some(ERIN), is("leave"), true),
        (
            "5.5.3 an unban without the power",
            "public",
            DAVE,
            M,
            Some(ERIN),
            is("leave"),
            false,
        ),
        (
            "5.5.4 a user with less power",
            "public",
            BOB,
            M,
            Some(DAVE),
            is("leave"),
            true,
        ),
        (
            "5.5.4 a user with equal power",
            "public",
            BOB,
            M,
            Some(HEIDI),
            is("leave"),
            false,
        ),
        (
            "5.5.4 a user with more power",
            "public",
            BOB,
            M,
            Some(IVAN),
            is("leave"),
            false,
        ),
        ("5.5.4 the creator", "public", IVAN, M, Some(ALICE), is("leave"), false),
        (
            "5.5.4 without the power",
            "public",
            DAVE,
            M,
            Some(FRANK),
            is("leave"),
            false,
        ),
        (
            "5.6.1 by a user who is not in the room",
            "public",
            CAROL,
            M,
            Some(DAVE),
            is("ban"),
            false,
        ),
        (
            "5.6.2 a user with less power",
            "public",
            BOB,
            M,
            Some(DAVE),
            is("ban"),
            true,
        ),
        (
            "5.6.2 a user who was never in the room",
            "public",
            BOB,
            M,
            Some(CAROL),
            is("ban"),
            true,
        ),
        (
            "5.6.2 a user with equal power",
            "public",
            BOB,
            M,
            Some(HEIDI),
            is("ban"),
            false,
        ),
        ("5.6.2 the creator", "public", IVAN, M, Some(ALICE), is("ban"), false),
        (
            "5.6.3 without the power",
            "public",
            DAVE,
            M,
            Some(CAROL),
            is("ban"),
            false,
        ),
        (
            "5.7.1 with the join rule knock",
            "knock",
            CAROL,
            M,
            Some(CAROL),
            is("knock"),
            true,
        ),
        (
            "5.7.1 with the join rule knock_restricted",
            "knock_restricted",
            CAROL,
            M,
            Some(CAROL),
            is("knock"),
            true,
        ),
        (
            "5.7.1 with another join rule",
            "invite",
            CAROL,
            M,
            Some(CAROL),
            is("knock"),
            false,
        ),
        (
            "5.7.2 for another user",
            "knock",
            BOB,
            M,
            Some(CAROL),
            is("knock"),
            false,
        ),
        ("5.7.3 a banned user", "knock", ERIN, M, Some(ERIN), is("knock"), false),
        ("5.7.3 a joined user", "knock", DAVE, M, Some(DAVE), is("knock"), false),
        (
            "5.7.3 an invited user",
            "knock",
            FRANK,
            M,
            Some(FRANK),
            is("knock"),
            false,
        ),
    ]
}

fn others() -> Vec<Vector> {
    const P: &str = "m.room.power_levels";
    let set = |path: &'static str, value: Value| levels(move |levels| *levels.pointer_mut(path).unwrap() = value);
    let top = |field: &'static str, value: Value| levels(move |levels| levels[field] = value);
    let user = |user: &'static str, level: Value| levels(move |levels| levels["users"][user] = level);
    let event = |kind: &'static str, level: Value| levels(move |levels| levels["events"][kind] = level);
    vec![
        (
            "6 a user who is not in the room",
            "public",
            CAROL,
            "m.room.message",
            None,
            json!({}),
            false,
        ),
        (
            "6 an invited user",
            "public",
            FRANK,
            "m.room.message",
            None,
            json!({}),
            false,
        ),
        (
            "6 a banned user",
            "public",
            ERIN,
            "m.room.message",
            None,
            json!({}),
            false,
        ),
        (
            "6 a joined user",
            "public",
            DAVE,
            "m.room.message",
            None,
            json!({}),
            true,
        ),
        (
            "7 with the power to invite",
            "public",
            BOB,
            "m.room.third_party_invite",
            Some("t"),
            json!({}),
            true,
        ),
        (
            "8 an event type with its own level",
            "public",
            DAVE,
            "dev.weft.update",
            None,
            json!({}),
            false,
        ),
        (
            "8 with that level",
            "public",
            BOB,
            "dev.weft.update",
            None,
            json!({}),
            true,
        ),
        (
            "8 a state event without the power",
            "public",
            DAVE,
            "m.room.topic",
            Some(""),
            json!({}),
            false,
        ),
        (
            "8 a state event",
            "public",
            BOB,
            "m.room.topic",
            Some(""),
            json!({}),
            true,
        ),
        (
            "8 an unknown history visibility (T37)",
            "public",
            BOB,
            "m.room.history_visibility",
            Some(""),
            json!({ "history_visibility": "x" }),
            true,
        ),
        (
            "8 a tombstone with an invalid room id (T37)",
            "public",
            BOB,
            "m.room.tombstone",
            Some(""),
            json!({ "replacement_room": "!x:y" }),
            true,
        ),
        (
            "8 a tombstone without the power",
            "public",
            DAVE,
            "m.room.tombstone",
            Some(""),
            json!({}),
            false,
        ),
        (
            "9 the sender's own state key",
            "public",
            BOB,
            "org.example",
            Some(BOB),
            json!({}),
            true,
        ),
        (
            "9 another user's state key",
            "public",
            BOB,
            "org.example",
            Some(DAVE),
            json!({}),
            false,
        ),
        (
            "9 another user's state key, by the creator",
            "public",
            ALICE,
            "org.example",
            Some(DAVE),
            json!({}),
            false,
        ),
        (
            "10.1 a string (T29)",
            "public",
            BOB,
            P,
            Some(""),
            top("events_default", json!("0")),
            false,
        ),
        (
            "10.1 null (T29)",
            "public",
            BOB,
            P,
            Some(""),
            top("state_default", Value::Null),
            false,
        ),
        (
            "10.1 an array (T29)",
            "public",
            BOB,
            P,
            Some(""),
            top("ban", json!([50])),
            false,
        ),
        (
            "10.1 a boolean (T29)",
            "public",
            BOB,
            P,
            Some(""),
            top("redact", json!(true)),
            false,
        ),
        (
            "10.1 a negative level (T29)",
            "public",
            BOB,
            P,
            Some(""),
            top("events_default", json!(-10)),
            true,
        ),
        (
            "10.1 a very high level, by a user with more (T29)",
            "public",
            ALICE,
            P,
            Some(""),
            top("kick", json!(9_007_199_254_740_991_i64)),
            true,
        ),
        (
            "10.2 events that are an array",
            "public",
            BOB,
            P,
            Some(""),
            set("/events", json!([])),
            false,
        ),
        (
            "10.2 an event's level as a string",
            "public",
            BOB,
            P,
            Some(""),
            event("org.example", json!("50")),
            false,
        ),
        (
            "10.2 a notification's level as a string",
            "public",
            BOB,
            P,
            Some(""),
            top("notifications", json!({ "room": "50" })),
            false,
        ),
        (
            "10.2 a notification's level",
            "public",
            BOB,
            P,
            Some(""),
            top("notifications", json!({ "room": 50 })),
            true,
        ),
        (
            "10.3 users that are null (T29)",
            "public",
            BOB,
            P,
            Some(""),
            set("/users", Value::Null),
            false,
        ),
        (
            "10.3 an invalid user id",
            "public",
            BOB,
            P,
            Some(""),
            user("bob", json!(0)),
            false,
        ),
        (
            "10.3 a user's level as a string",
            "public",
            BOB,
            P,
            Some(""),
            user(CAROL, json!("0")),
            false,
        ),
        (
            "10.4 the creator in users (T29)",
            "public",
            ALICE,
            P,
            Some(""),
            user(ALICE, json!(100)),
            false,
        ),
        (
            "10.6 raised above the sender's level",
            "public",
            BOB,
            P,
            Some(""),
            top("state_default", json!(51)),
            false,
        ),
        (
            "10.6 raised to the sender's level",
            "public",
            BOB,
            P,
            Some(""),
            top("events_default", json!(50)),
            true,
        ),
        ("10.6 lowered", "public", BOB, P, Some(""), top("kick", json!(10)), true),
        (
            "10.7 an event raised above the sender's level",
            "public",
            BOB,
            P,
            Some(""),
            event("dev.weft.update", json!(60)),
            false,
        ),
        (
            "10.7 an event added above the sender's level",
            "public",
            BOB,
            P,
            Some(""),
            event("org.example", json!(51)),
            false,
        ),
        (
            "10.7 an event added",
            "public",
            BOB,
            P,
            Some(""),
            event("org.example", json!(50)),
            true,
        ),
        (
            "10.7 an event removed",
            "public",
            BOB,
            P,
            Some(""),
            set("/events", json!({})),
            true,
        ),
        (
            "10.8 a user raised above the sender's level",
            "public",
            BOB,
            P,
            Some(""),
            user(DAVE, json!(51)),
            false,
        ),
        (
            "10.8 a user raised to the sender's level",
            "public",
            BOB,
            P,
            Some(""),
            user(DAVE, json!(50)),
            true,
        ),
        (
            "10.8 the sender raised",
            "public",
            BOB,
            P,
            Some(""),
            user(BOB, json!(75)),
            false,
        ),
        (
            "10.8 the sender lowered",
            "public",
            BOB,
            P,
            Some(""),
            user(BOB, json!(10)),
            true,
        ),
        (
            "10.9 a user with equal power lowered",
            "public",
            BOB,
            P,
            Some(""),
            user(HEIDI, json!(10)),
            false,
        ),
        (
            "10.9 a user with more power lowered",
            "public",
            BOB,
            P,
            Some(""),
            user(IVAN, json!(10)),
            false,
        ),
        (
            "10.9 an equal lowered by a user with more power",
            "public",
            IVAN,
            P,
            Some(""),
            user(HEIDI, json!(10)),
            true,
        ),
        (
            "10 without the power",
            "public",
            DAVE,
            P,
            Some(""),
            levels(|_| {}),
            false,
        ),
    ]
}

#[test]
fn t28_every_rule_of_version_12_allows_and_refuses_what_it_should() {
    let vectors: Vec<Vector> = members().into_iter().chain(others()).collect();
    assert!(vectors.len() >= 60, "{} vectors", vectors.len());
    assert!(vectors.iter().filter(|vector| vector.6).count() >= 25);
    for (rule, join_rule, sender, kind, key, content, allowed) in vectors {
        let mut world = room(&RoomVersionId::V12, join_rule);
        let heads = world.head_list();
        let before = world.view_before(&heads);
        let user = UserId::parse(sender).unwrap();
        let content = object(content);
        // The rules select no auth events for a malformed event: it gets the ones that its sender would have cited
        // anyway.
        let auth = before.auth_events(kind, &user, key, &content).unwrap_or_else(|_| {
            let member = before.get("m.room.member", sender).map(|pdu| pdu.event_id().to_owned());
            let levels = before
                .get("m.room.power_levels", "")
                .map(|pdu| pdu.event_id().to_owned());
            member.into_iter().chain(levels).collect()
        });
        let event = world.build_unverified(&heads, auth, &user, kind, key, content);
        let pdu = world.accept(event);
        assert_eq!(
            world.accepted(&pdu),
            allowed,
            "{rule}: {:?}",
            world.verdicts[pdu.event_id()]
        );
        assert_eq!(pdu.rejected(), !allowed, "{rule}");
    }
}

/// T28, rules 1 to 4.
#[test]
fn t28_create_events_are_checked_and_their_federate_flag_is_applied() {
    let good = json!({ "room_version": "12", "additional_creators": [BOB] });
    let malformed: Vec<(&str, Value)> = vec![
        ("1.3 an unknown version", json!({ "room_version": "org.example.99" })),
        ("1.3 another version", json!({ "room_version": "11" })),
        ("1.3 no version", json!({})),
        (
            "1.4 an invalid user id",
            json!({ "room_version": "12", "additional_creators": ["bob"] }),
        ),
        (
            "1.4 creators that are not an array",
            json!({ "room_version": "12", "additional_creators": BOB }),
        ),
        (
            "1.4 creators that are numbers",
            json!({ "room_version": "12", "additional_creators": [1] }),
        ),
    ];
    let allowed = |content: Value| {
        let mut world = World::new(&RoomVersionId::V12, ALICE);
        let alice = UserId::parse(ALICE).unwrap();
        let event = world.build_citing(&[], vec![], &alice, "m.room.create", Some(""), object(content));
        let empty = StateView::empty(world.version.clone());
        !event
            .authorize(&world.version, &world.events, &empty, None)
            .unwrap()
            .pdu()
            .rejected()
    };
    assert!(allowed(good));
    for (rule, content) in malformed {
        assert!(!allowed(content), "{rule}");
    }
    // 4: a room without federation.
    for (federate, others) in [(json!(false), false), (json!(true), true)] {
        let mut world = World::with_create(&RoomVersionId::V12, ALICE, json!({ "m.federate": federate }));
        world.state(ALICE, "m.room.join_rules", "", json!({ "join_rule": "public" }));
        let neighbour = world.member("@anna:a.example", "@anna:a.example", "join");
        let stranger = world.member(BOB, BOB, "join");
        assert_eq!(
            (world.accepted(&neighbour), world.accepted(&stranger)),
            (true, others),
            "4 {federate}"
        );
    }
}

/// T29: a room without power levels.
#[test]
fn t29_without_power_levels_only_the_creator_has_power() {
    for version in RoomVersion::ALL {
        let mut world = World::new(&version, ALICE);
        world.state(ALICE, "m.room.join_rules", "", json!({ "join_rule": "public" }));
        world.member(BOB, BOB, "join");
        let message = world.message(BOB, "any user may send");
        assert!(world.accepted(&message), "version {version}");
        let ban = world.member(BOB, ALICE, "ban");
        assert!(!world.accepted(&ban), "version {version}");
        let topic = world.state(ALICE, "m.room.topic", "", json!({ "topic": "mine" }));
        assert!(world.accepted(&topic), "version {version}");
    }
}

/// T13: the auth events of an event are a message, unknown, or rejected; a cycle is impossible, as ids are hashes.
#[test]
fn t13_events_with_invalid_auth_events_are_rejected() {
    for version in RoomVersion::ALL {
        let mut world = room(&version, "public");
        let message = world.message(BOB, "no state").event_id().to_owned();
        let forged = world.state(DAVE, "m.room.power_levels", "", json!({ "users": { DAVE: 100 } }));
        assert!(forged.rejected());
        let heads = world.head_list();
        let bob = UserId::parse(BOB).unwrap();
        let right = world
            .current()
            .auth_events("m.room.message", &bob, None, &object(json!({})))
            .unwrap();
        for extra in [message, forged.event_id().to_owned()] {
            let auth = right.iter().cloned().chain([extra]).collect();
            let event = world.build_citing(&heads, auth, &bob, "m.room.message", None, object(json!({})));
            assert!(world.accept(event).rejected(), "version {version}");
        }
        let unknown = EventId::parse(format!("${}", "u".repeat(43))).unwrap();
        let auth = right.iter().cloned().chain([unknown.clone()]).collect();
        let event = world.build_citing(&heads, auth, &bob, "m.room.message", None, object(json!({})));
        let before = world.current();
        let missing = event
            .authorize(&world.version, &world.events, &before, None)
            .unwrap_err();
        assert_eq!(missing.0, [unknown], "version {version}");
    }
}

/// T17: redactions of the events that authorise the room, of each other, and of themselves.
#[test]
fn t17_redacted_events_authorise_as_before() {
    for version in RoomVersion::ALL {
        let mut world = room(&version, "public");
        let before = world.current();
        for kind in ["m.room.create", "m.room.power_levels", "m.room.join_rules"] {
            let target = before.get(kind, "").unwrap();
            let redacted = redact::redact(target, &world.version).unwrap();
            assert_eq!(redacted.event_id(), target.event_id());
            world.events.insert(redacted);
        }
        for user in [ALICE, BOB, DAVE, ERIN] {
            let target = before.get("m.room.member", user).unwrap();
            world.events.insert(redact::redact(target, &world.version).unwrap());
        }
        for (sender, kind, key, content, allowed) in [
            (BOB, "m.room.topic", Some(""), json!({}), true),
            (DAVE, "m.room.topic", Some(""), json!({}), false),
            (
                ERIN,
                "m.room.member",
                Some(ERIN),
                json!({ "membership": "join" }),
                false,
            ),
            (
                CAROL,
                "m.room.member",
                Some(CAROL),
                json!({ "membership": "join" }),
                true,
            ),
            (
                IVAN,
                "m.room.member",
                Some(ALICE),
                json!({ "membership": "ban" }),
                false,
            ),
        ] {
            let pdu = world.send(sender, kind, key, content);
            assert_eq!(world.accepted(&pdu), allowed, "version {version}: {sender} {kind}");
        }
        // An event can't name itself, as its id is a hash of its content, and two events can't name each other. A
        // redaction of another redaction applies and changes nothing else.
        let state = world.current();
        let first = world.send(BOB, "m.room.redaction", None, json!({ "redacts": world.order[0] }));
        let second = world.send(BOB, "m.room.redaction", None, json!({ "redacts": first.event_id() }));
        assert_ne!(first.redacts(), Some(first.event_id()));
        if second.redacts() == Some(first.event_id()) {
            assert!(redact::takes_effect(&second, &first, &state));
            assert!(!redact::takes_effect(&first, &second, &state), "in one direction only");
        }
    }
}

/// T36: the right to redact.
#[test]
fn t36_redactions_without_the_right_do_not_apply() {
    let mut world = room(&RoomVersionId::V12, "public");
    let target = world.message(BOB, "said");
    world.member("@bert:b.example", "@bert:b.example", "join");
    let state = world.current();
    for (who, by_federation, by_us) in [
        (BOB, true, true),
        (HEIDI, true, true),
        (ALICE, true, true),
        (DAVE, false, false),
        // A user of bob's server: the rules accept the redaction of an event of that server's own users, which the
        // server should not have allowed.
        ("@bert:b.example", true, false),
    ] {
        let redaction = world.send(who, "m.room.redaction", None, json!({ "redacts": target.event_id() }));
        assert_eq!(
            redact::takes_effect(&redaction, &target, &state),
            by_federation,
            "{who}"
        );
        assert_eq!(
            redact::may_redact(&UserId::parse(who).unwrap(), &target, &state),
            by_us,
            "{who}"
        );
    }
    let mut elsewhere = room(&RoomVersionId::V11, "public");
    let redaction = elsewhere.send(ALICE, "m.room.redaction", None, json!({ "redacts": target.event_id() }));
    assert!(
        !redact::takes_effect(&redaction, &target, &elsewhere.current()),
        "an event of another room"
    );
}

// --- State resolution ----------------------------------------------------------------------------------------------------

fn chain_of(world: &World, from: impl IntoIterator<Item = OwnedEventId>) -> BTreeSet<OwnedEventId> {
    let mut chain = BTreeSet::new();
    let mut work: Vec<OwnedEventId> = from.into_iter().collect();
    while let Some(id) = work.pop() {
        if chain.insert(id.clone()) {
            work.extend(world.pdu(&id).auth_events().to_vec());
        }
    }
    chain
}

/// ruma's algorithm without our code: complete auth chains and the conflicted subgraph, both by walking.
fn resolve_by_ruma(world: &World, forks: &[StateMap]) -> StateMap {
    let maps: Vec<state_res::StateMap<OwnedEventId>> = forks
        .iter()
        .map(|fork| {
            let entry = |((kind, key), id): (&(String, String), &OwnedEventId)| {
                ((StateEventType::from(kind.as_str()), key.clone()), id.clone())
            };
            fork.0.iter().map(entry).collect()
        })
        .collect();
    let chains: Vec<EventIdSet<OwnedEventId>> = forks
        .iter()
        .map(|fork| chain_of(world, fork.0.values().cloned()).into_iter().collect())
        .collect();
    let subgraph = |conflicted: &state_res::StateMap<Vec<OwnedEventId>>| {
        let ends: BTreeSet<OwnedEventId> = conflicted.values().flatten().cloned().collect();
        let below: BTreeMap<OwnedEventId, BTreeSet<OwnedEventId>> = world
            .order
            .iter()
            .map(|id| (id.clone(), chain_of(world, [id.clone()])))
            .collect();
        let between = world.order.iter().filter(|id| {
            ends.iter().any(|end| below[end].contains(*id)) && below[*id].iter().any(|under| ends.contains(under))
        });
        Some(between.cloned().collect())
    };
    let rules = world.version.rules();
    let resolved = state_res::resolve(
        &rules.authorization,
        rules.state_res.v2_rules().unwrap(),
        maps.iter(),
        chains,
        |id| world.events.event(id),
        subgraph,
    );
    resolved
        .unwrap()
        .into_iter()
        .map(|((kind, key), id)| ((kind.to_string(), key), id))
        .collect()
}

fn permutations(of: usize) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = vec![Vec::new()];
    for item in 0..of {
        let longer = |done: &Vec<usize>| -> Vec<Vec<usize>> {
            let with = |at: usize| {
                let mut next = done.clone();
                next.insert(at, item);
                next
            };
            (0..=done.len()).map(with).collect()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

/// Six users make conflicting changes on six branches.
fn conflicting_branches(version: &RoomVersionId) -> (World, Vec<StateMap>) {
    let mut world = room(version, "public");
    let fork = world.head_list();
    let with = |change: fn(&mut Value)| {
        let mut levels = levels(change);
        if *version != RoomVersionId::V12 {
            levels["users"][ALICE] = json!(100);
        }
        levels
    };
    let said = [
        (
            ALICE,
            "m.room.power_levels",
            "",
            with(|levels| levels["users"][BOB] = json!(0)),
        ),
        (
            IVAN,
            "m.room.power_levels",
            "",
            with(|levels| levels["users"][HEIDI] = json!(0)),
        ),
        (BOB, "m.room.member", DAVE, json!({ "membership": "ban" })),
        (HEIDI, "m.room.topic", "", json!({ "topic": "heidi's" })),
        (BOB, "m.room.topic", "", json!({ "topic": "bob's" })),
        (IVAN, "m.room.member", BOB, json!({ "membership": "leave" })),
    ];
    let states = said
        .into_iter()
        .map(|(sender, kind, key, content)| {
            let pdu = world.send_after(&fork, sender, kind, Some(key), content);
            assert!(!pdu.rejected());
            world.state_after(pdu.event_id()).clone()
        })
        .collect();
    (world, states)
}

#[test]
fn t24_all_720_orders_and_ruma_itself_resolve_to_one_state() {
    for version in [RoomVersionId::V12, RoomVersionId::V10] {
        let (world, forks) = conflicting_branches(&version);
        let expected = resolve_by_ruma(&world, &forks);
        assert_ne!(expected, forks[0]);
        let orders = permutations(forks.len());
        assert_eq!(orders.len(), 720);
        for order in orders {
            let ordered: Vec<StateMap> = order.iter().map(|at| forks[*at].clone()).collect();
            let resolved = resolve(&world.version, &ordered, &world.cover, &world.events).unwrap();
            assert_eq!(resolved, expected, "version {version}: {order:?}");
        }
        // The same after a restart: the index is read from its rows.
        let again = world.replay(&world.order);
        assert_eq!(
            resolve(&again.version, &forks, &again.cover, &again.events).unwrap(),
            expected
        );
    }
}

/// Counts the loaded events.
struct Counting<'a>(&'a World, RefCell<usize>);

impl EventSource for Counting<'_> {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        *self.1.borrow_mut() += 1;
        self.0.events.event(id)
    }
}

/// T16: two branches that conflict in every entry. The number of loads grows with the number of conflicts, not with its
/// square.
#[test]
fn t16_two_branches_that_conflict_in_every_entry_cost_linear_loads() {
    let loads = |entries: usize| {
        let mut world = room(&RoomVersionId::V12, "public");
        let start = world.head_list();
        let sides = [ALICE, BOB].map(|who| {
            let mut heads = start.clone();
            for number in 0..entries {
                let pdu = world.send_after(
                    &heads,
                    who,
                    "org.example",
                    Some(&number.to_string()),
                    json!({ "by": who }),
                );
                heads = vec![pdu.event_id().to_owned()];
            }
            world.state_after(&heads[0]).clone()
        });
        let source = Counting(&world, RefCell::default());
        let resolved = resolve(&world.version, &sides, &world.cover, &source).unwrap();
        assert_eq!(resolved.0.len(), sides[0].0.len());
        source.1.into_inner()
    };
    let (few, many) = (loads(50), loads(200));
    assert!(many <= few * 5, "{few} loads for 50 entries, {many} for 200");
}
