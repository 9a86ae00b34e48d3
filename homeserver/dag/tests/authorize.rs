//! The authorisation rules in their order: an event is rejected, soft-failed or accepted.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic fails the test"
)]

use ruma::{OwnedEventId, RoomVersionId, UserId};
use serde_json::{Value, json};
use weft_dag::{
    Missing, RoomVersion, Stage, StateView, Verdict,
    testing::{World, object},
};

const ALICE: &str = "@alice:a.example";
const BOB: &str = "@bob:b.example";
const CAROL: &str = "@carol:c.example";
const DAVE: &str = "@dave:d.example";
const ERIN: &str = "@erin:e.example";
const FRANK: &str = "@frank:f.example";

fn stage(verdict: &Verdict) -> Option<Stage> {
    match verdict {
        Verdict::Accepted => None,
        Verdict::SoftFailed { reason } | Verdict::Rejected { reason } => Some(reason.stage),
    }
}

/// One event in a room with alice (its creator), bob (50) and dave (0) joined, erin banned and frank invited.
fn attempt(version: &RoomVersionId, sender: &str, kind: &str, key: Option<&str>, content: Value) -> bool {
    let mut world = World::public(version, ALICE, &[(BOB, 50), ("@dave:d.example", 0)]);
    world.member(ALICE, "@erin:e.example", "ban");
    world.member(ALICE, "@frank:f.example", "invite");
    let heads = world.head_list();
    let event = world.build(&heads, sender, kind, key, content);
    let pdu = world.accept(event);
    world.accepted(&pdu)
}

type Case = (&'static str, &'static str, Option<&'static str>, Value, bool);

/// The sender, the event type, the state key, the content, and whether the rules allow the event.
fn cases() -> Vec<Case> {
    let member = |membership: &str| json!({ "membership": membership });
    vec![
        (ALICE, "m.room.message", None, json!({}), true),
        (DAVE, "m.room.message", None, json!({}), true),
        (DAVE, "dev.weft.update", None, json!({}), false),
        (BOB, "dev.weft.update", None, json!({}), true),
        (CAROL, "m.room.message", None, json!({}), false),
        (ERIN, "m.room.message", None, json!({}), false),
        (FRANK, "m.room.message", None, json!({}), false),
        (BOB, "m.room.topic", Some(""), json!({ "topic": "t" }), true),
        (DAVE, "m.room.topic", Some(""), json!({ "topic": "t" }), false),
        (BOB, "m.example", Some("@bob:b.example"), json!({}), true),
        (BOB, "m.example", Some(ALICE), json!({}), false),
        (CAROL, "m.room.member", Some(CAROL), member("join"), true),
        (ERIN, "m.room.member", Some(ERIN), member("join"), false),
        (FRANK, "m.room.member", Some(FRANK), member("join"), true),
        (FRANK, "m.room.member", Some(FRANK), member("leave"), true),
        (BOB, "m.room.member", Some(CAROL), member("join"), false),
        (BOB, "m.room.member", Some(CAROL), member("invite"), true),
        (BOB, "m.room.member", Some(ERIN), member("invite"), false),
        (BOB, "m.room.member", Some(DAVE), member("invite"), false),
        (BOB, "m.room.member", Some(DAVE), member("leave"), true),
        (DAVE, "m.room.member", Some(BOB), member("leave"), false),
        (BOB, "m.room.member", Some(ALICE), member("leave"), false),
        (BOB, "m.room.member", Some(ALICE), member("ban"), false),
        (BOB, "m.room.member", Some(DAVE), member("ban"), true),
        (DAVE, "m.room.member", Some(DAVE), member("ban"), false),
        (BOB, "m.room.member", Some(ERIN), member("leave"), true),
        (ERIN, "m.room.member", Some(ERIN), member("leave"), false),
        (BOB, "m.room.member", Some(CAROL), member("dancing"), false),
        (CAROL, "m.room.member", Some(CAROL), member("knock"), false),
        (
            BOB,
            "m.room.power_levels",
            Some(""),
            json!({ "users": { BOB: 100 } }),
            false,
        ),
    ]
}

#[test]
fn users_may_do_what_their_membership_and_power_level_allow() {
    for version in RoomVersion::ALL {
        for (sender, kind, key, content, allowed) in cases() {
            let done = attempt(&version, sender, kind, key, content.clone());
            assert_eq!(done, allowed, "version {version}: {sender} {kind} {key:?} {content}");
        }
    }
}

#[test]
fn unreadable_power_levels_give_no_power() {
    for (content, allowed_before_10) in [
        (json!({ "users": { BOB: "50" } }), true),
        (json!({ "users": { BOB: null } }), false),
        (json!({ "users": [] }), false),
        (json!({ "events_default": "x" }), false),
        (json!({ "events_default": {} }), false),
        (json!({ "ban": [] }), false),
        (json!({ "users": { "bob": 50 } }), false),
    ] {
        for version in RoomVersion::ALL {
            let mut world = World::new(&version, ALICE);
            let event = {
                let heads = world.head_list();
                world.build(&heads, ALICE, "m.room.power_levels", Some(""), content.clone())
            };
            let pdu = world.accept(event);
            let strings_count = !RoomVersion::new(&version)
                .unwrap()
                .rules()
                .authorization
                .integer_power_levels;
            assert_eq!(
                world.accepted(&pdu),
                allowed_before_10 && strings_count,
                "version {version}: {content}"
            );
        }
    }
}

#[test]
fn creators_rank_above_every_power_level_in_version_12() {
    let mut world = World::with_create(&RoomVersionId::V12, ALICE, json!({ "additional_creators": [BOB] }));
    world.state(ALICE, "m.room.power_levels", "", json!({ "users": { CAROL: 100 } }));
    world.state(ALICE, "m.room.join_rules", "", json!({ "join_rule": "public" }));
    world.member(BOB, BOB, "join");
    world.member(CAROL, CAROL, "join");
    let state = world.current();
    let user = |id: &str| UserId::parse(id).unwrap();
    assert_eq!(state.user_power(&user(ALICE)), i64::MAX);
    assert_eq!(state.user_power(&user(BOB)), i64::MAX);
    assert_eq!(state.user_power(&user(CAROL)), 100);
    assert_eq!(state.creators(), [user(ALICE), user(BOB)].into());
    let kick = world.member(CAROL, BOB, "leave");
    assert!(!world.accepted(&kick));
    let listed = world.state(ALICE, "m.room.power_levels", "", json!({ "users": { ALICE: 100 } }));
    assert!(!world.accepted(&listed), "creators are not in `users`");
    let heads = [];
    let content = object(json!({ "room_version": "12", "additional_creators": ["bob"] }));
    let bad = world.build_citing(&heads, vec![], &user(ALICE), "m.room.create", Some(""), content);
    let empty = StateView::empty(world.version.clone());
    let verdict = bad.authorize(&world.version, &world.events, &empty, None).unwrap();
    assert_eq!(
        stage(verdict.verdict()),
        Some(Stage::Itself),
        "a creator that is not a user id"
    );
}

#[test]
fn a_room_has_one_create_event_of_its_own_version() {
    for version in RoomVersion::ALL {
        let mut world = World::new(&version, ALICE);
        let parsed = RoomVersion::new(&version).unwrap();
        let mut content = json!({ "room_version": version.as_str(), "creator": ALICE, "again": true });
        let second = world.build_citing(
            &[],
            vec![],
            &UserId::parse(ALICE).unwrap(),
            "m.room.create",
            Some(""),
            object(content.clone()),
        );
        let verdict = second
            .authorize(&parsed, &world.events, &world.current(), None)
            .unwrap();
        assert_eq!(stage(verdict.verdict()), Some(Stage::Itself), "version {version}");
        assert!(verdict.pdu().rejected());

        content["room_version"] = json!("5");
        let other = world.build_citing(
            &[],
            vec![],
            &UserId::parse(ALICE).unwrap(),
            "m.room.create",
            Some(""),
            object(content),
        );
        let verdict = other
            .authorize(&parsed, &world.events, &StateView::empty(parsed.clone()), None)
            .unwrap();
        assert_eq!(stage(verdict.verdict()), Some(Stage::Itself), "version {version}");

        let heads = world.head_list();
        let follows = world.build_citing(
            &heads,
            vec![],
            &UserId::parse(ALICE).unwrap(),
            "m.room.create",
            Some(""),
            object(json!({ "room_version": version.as_str(), "creator": ALICE })),
        );
        let verdict = follows
            .authorize(&parsed, &world.events, &StateView::empty(parsed.clone()), None)
            .unwrap();
        assert_eq!(stage(verdict.verdict()), Some(Stage::Itself));
    }
}

#[test]
fn auth_events_must_be_the_selected_ones() {
    for version in RoomVersion::ALL {
        let mut world = World::public(&version, ALICE, &[(BOB, 50)]);
        let message = world.message(ALICE, "no state");
        let heads = world.head_list();
        let sender = UserId::parse(BOB).unwrap();
        let current = world.current();
        let right = current
            .auth_events("m.room.message", &sender, None, &object(json!({})))
            .unwrap();
        let cite = |world: &mut World, extra: &[OwnedEventId], from: &[OwnedEventId]| {
            let auth: Vec<OwnedEventId> = from.iter().chain(extra).cloned().collect();
            let event = world.build_citing(&heads, auth, &sender, "m.room.message", None, object(json!({})));
            let before = world.current();
            event
                .authorize(&world.version, &world.events, &before, None)
                .unwrap()
                .into_parts()
                .1
        };
        assert_eq!(cite(&mut world, &[], &right), Verdict::Accepted);
        // A message; an event that does not belong there; the same event twice; a missing event.
        let topic = current.get("m.room.join_rules", "").unwrap().event_id().to_owned();
        for extra in [message.event_id().to_owned(), topic, right[0].clone()] {
            assert_eq!(
                stage(&cite(&mut world, &[extra], &right)),
                Some(Stage::Itself),
                "version {version}"
            );
        }
        let without_member: Vec<OwnedEventId> = right
            .iter()
            .filter(|id| world.pdu(id).kind() != "m.room.member")
            .cloned()
            .collect();
        assert_eq!(stage(&cite(&mut world, &[], &without_member)), Some(Stage::AuthEvents));

        // An event that was rejected.
        let forged = world.state("@dave:d.example", "m.room.member", BOB, json!({ "membership": "join" }));
        assert!(forged.rejected());
        assert_eq!(
            stage(&cite(&mut world, &[forged.event_id().to_owned()], &without_member)),
            Some(Stage::Itself),
            "version {version}"
        );

        // An event of another room.
        let other = World::public(&version, CAROL, &[(BOB, 50)]);
        let elsewhere = other.current().get("m.room.member", BOB).unwrap().clone();
        world.events.insert(elsewhere.clone());
        let verdict = cite(&mut world, &[elsewhere.event_id().to_owned()], &without_member);
        assert_eq!(stage(&verdict), Some(Stage::Itself), "version {version}");
    }
}

#[test]
fn missing_events_are_named() {
    let mut world = World::public(&RoomVersionId::V12, ALICE, &[(BOB, 50)]);
    let heads = world.head_list();
    let event = world.build(&heads, BOB, "m.room.message", None, json!({}));
    let absent = event.pdu().auth_events()[0].clone();
    let create = world.order[0].clone();
    world.events.0.remove(&absent);
    world.events.0.remove(&create);
    let before = StateView::empty(world.version.clone());
    let Missing(missing) = event
        .authorize(&world.version, &world.events, &before, None)
        .unwrap_err();
    assert_eq!(missing, [absent, create]);
}

#[test]
fn a_room_id_must_name_an_accepted_create_event() {
    let mut world = World::public(&RoomVersionId::V12, ALICE, &[]);
    // The room id names a message.
    let message = world.message(ALICE, "not a create event");
    let heads = world.head_list();
    world.room_id = ruma::RoomId::new_v2(message.event_id().localpart()).unwrap();
    let event = world.build_citing(
        &heads,
        vec![],
        &UserId::parse(ALICE).unwrap(),
        "m.room.message",
        None,
        object(json!({})),
    );
    let verdict = event
        .authorize(&world.version, &world.events, &world.current(), None)
        .unwrap();
    assert_eq!(stage(verdict.verdict()), Some(Stage::Itself));
}

#[test]
fn an_old_branch_does_not_evade_a_ban() {
    for version in RoomVersion::ALL {
        let mut world = World::public(&version, ALICE, &[(BOB, 50)]);
        let before_ban = world.head_list();
        world.member(ALICE, BOB, "ban");
        let banned = world.head_list();
        // Bob's server dates this message before the ban.
        let late = world.build(
            &before_ban,
            BOB,
            "m.room.message",
            None,
            json!({ "body": "still here" }),
        );
        let pdu = world.accept(late);
        assert!(
            matches!(&world.verdicts[pdu.event_id()], Verdict::SoftFailed { reason } if reason.stage == Stage::CurrentState),
            "version {version}"
        );
        assert!(!pdu.rejected());
        assert_eq!(world.head_list(), banned, "a soft-failed event is no forward extremity");

        // After the ban bob can't send anything.
        let never = world.build(&banned, BOB, "m.room.message", None, json!({}));
        let pdu = world.accept(never);
        assert!(pdu.rejected());

        // A server that received the message before the ban keeps it.
        let mut order = world.order.clone();
        let (ban, late) = (order.len() - 3, order.len() - 2);
        order.swap(ban, late);
        let early = world.replay(&order);
        assert_eq!(early.verdicts[&world.order[late]], Verdict::Accepted);
        assert_eq!(early.current().map(), world.current().map(), "both have the same state");
    }
}

#[test]
fn a_demoted_admin_cannot_undo_the_demotion_with_earlier_events() {
    for version in RoomVersion::ALL {
        let mut world = World::public(&version, ALICE, &[(BOB, 50)]);
        let before = world.head_list();
        let levels = if world.version.creators_are_above_all() {
            json!({ BOB: 0 })
        } else {
            json!({ ALICE: 100, BOB: 0 })
        };
        let demotion = world.state(ALICE, "m.room.power_levels", "", json!({ "users": levels }));
        let topic = world.build(&before, BOB, "m.room.topic", Some(""), json!({ "topic": "mine" }));
        let topic = world.accept(topic);
        assert!(
            matches!(world.verdicts[topic.event_id()], Verdict::SoftFailed { .. }),
            "version {version}"
        );
        // The demotion wins also if an accepted event has the topic event among its ancestors.
        let both = [demotion.event_id().to_owned(), topic.event_id().to_owned()];
        let state = world.view_before(&both);
        assert!(state.get("m.room.topic", "").is_none(), "version {version}");
        assert_eq!(state.user_power(&UserId::parse(BOB).unwrap()), 0);
    }
}

/// Which join rules allow a user to join who was not invited, by room version.
#[test]
fn knocks_and_restricted_joins_exist_since_their_versions() {
    let number = |version: &RoomVersionId| version.as_str().parse::<u32>().unwrap();
    for version in RoomVersion::ALL {
        let room = |rule: &str| {
            let mut world = World::public(&version, ALICE, &[(BOB, 0)]);
            world.state(ALICE, "m.room.join_rules", "", json!({ "join_rule": rule }));
            world
        };
        let knock = |rule: &str| {
            let mut world = room(rule);
            let knock = world.member(CAROL, CAROL, "knock");
            world.accepted(&knock)
        };
        assert_eq!(knock("knock"), number(&version) >= 7, "version {version}");
        assert_eq!(knock("knock_restricted"), number(&version) >= 10, "version {version}");
        assert!(!knock("invite") && !knock("restricted"));

        let join = |rule: &str, vouches: Option<&str>| {
            let mut world = room(rule);
            let mut content = json!({ "membership": "join" });
            if let Some(vouches) = vouches {
                content["join_authorised_via_users_server"] = json!(vouches);
            }
            // Signed by CAROL's server alone: which other servers must sign is checked on verification, not by the
            // rules.
            let heads = world.head_list();
            let before = world.view_before(&heads);
            let sender = UserId::parse(CAROL).unwrap();
            let auth = before
                .auth_events("m.room.member", &sender, Some(CAROL), &object(content.clone()))
                .unwrap();
            let event = world.build_unverified(&heads, auth, &sender, "m.room.member", Some(CAROL), object(content));
            let pdu = world.accept(event);
            world.accepted(&pdu)
        };
        for (rule, since) in [("restricted", 8), ("knock_restricted", 10)] {
            assert_eq!(
                join(rule, Some(ALICE)),
                number(&version) >= since,
                "{rule} in version {version}"
            );
            assert!(!join(rule, None), "no authorising user");
            assert!(
                !join(rule, Some("@dave:d.example")),
                "the authorising user is not in the room"
            );
        }
        assert!(!join("invite", Some(ALICE)));
    }
}

#[test]
fn a_template_is_authorised_before_it_is_signed() {
    for version in RoomVersion::ALL {
        let mut world = World::public(&version, ALICE, &[]);
        world.state(ALICE, "m.room.join_rules", "", json!({ "join_rule": "invite" }));
        let allowed = |world: &World| {
            let state = world.current();
            let sender = UserId::parse(BOB).unwrap();
            let content = object(json!({ "membership": "join" }));
            let placement = weft_dag::Placement {
                prev_events: world.head_list(),
                auth_events: state
                    .auth_events("m.room.member", &sender, Some(BOB), &content)
                    .unwrap(),
                depth: 7,
                origin_server_ts: ruma::MilliSecondsSinceUnixEpoch(ruma::UInt::from(1_u32)),
            };
            let draft = weft_dag::Draft {
                sender,
                kind: "m.room.member".into(),
                state_key: Some(BOB.into()),
                content,
                redacts: None,
                room_id: Some(world.room_id.clone()),
            };
            state.would_allow(&draft, &placement).is_ok()
        };
        assert!(!allowed(&world), "version {version}");
        world.member(ALICE, BOB, "invite");
        assert!(allowed(&world), "version {version}");
    }
}

#[test]
fn stripped_state_has_only_the_listed_entries() {
    let mut world = World::public(&RoomVersionId::V12, ALICE, &[(BOB, 0)]);
    world.state(ALICE, "m.room.name", "", json!({ "name": "Plans" }));
    world.state(ALICE, "org.example.secret", "", json!({ "secret": 1 }));
    let shown = weft_dag::stripped::entries(&world.current(), &UserId::parse(ALICE).unwrap());
    let kinds: Vec<&str> = shown.iter().map(|pdu| pdu.kind()).collect();
    assert_eq!(
        kinds,
        ["m.room.create", "m.room.name", "m.room.join_rules", "m.room.member"]
    );
    for raw in weft_dag::stripped::for_clients(&shown) {
        let value: Value = serde_json::from_str(raw.get()).unwrap();
        assert_eq!(value.as_object().unwrap().len(), 4, "{value}");
    }
    let whole = weft_dag::stripped::for_servers(&world.current(), &UserId::parse(ALICE).unwrap());
    assert!(whole.iter().all(|raw| raw.get().contains("signatures")));
}
