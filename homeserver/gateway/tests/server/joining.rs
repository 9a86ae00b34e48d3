//! Joins, leaves, knocks and invitations from other servers: only for their own users, and only well-formed.

use ruma::{RoomVersionId, UserId, events::room::member::MembershipState};
use serde_json::{Value, json};
use weft_dag::{RoomVersion, testing::signer};
use weft_room_api::CreateRoom;

use crate::world::{World, beta, gamma, ids, path};

#[tokio::test]
async fn a_join_returns_the_state_and_a_leave_ends_the_membership() {
    for version in RoomVersion::ALL {
        let world = World::new().await;
        let preset = Some(weft_room_api::Preset::PublicChat);
        let room = world
            .room(CreateRoom {
                version: Some(version.clone()),
                preset,
                ..CreateRoom::default()
            })
            .await;
        let (_, answer) = world.join("@bob:beta.test", &room).await;
        let version = RoomVersion::new(&version).unwrap();
        let state = ids(&answer["state"], &version);
        let chain = ids(&answer["auth_chain"], &version);
        assert!(state.len() >= 5 && !chain.is_empty(), "{answer}");
        assert_eq!(answer["members_omitted"], Value::Null);
        let bob = UserId::parse("@bob:beta.test").unwrap();
        assert_eq!(
            world.rooms.reader().membership(&room, &bob).await.unwrap(),
            MembershipState::Join
        );

        let (leave, event) = world.membership(&bob, &room, "leave").await;
        let send = format!(
            "/_matrix/federation/v2/send_leave/{}/{}",
            path(room.as_str()),
            path(leave.as_str())
        );
        assert_eq!(world.ask(beta(), "PUT", &send, event).await.0, 200);
        assert_eq!(
            world.rooms.reader().membership(&room, &bob).await.unwrap(),
            MembershipState::Leave
        );
    }
}

#[tokio::test]
async fn templates_are_only_for_users_of_the_requesting_server() {
    let world = World::new().await;
    let room = world.public_room().await;
    let make = |what: &str, user: &str, query: &str| {
        format!(
            "/_matrix/federation/v1/make_{what}/{}/{}{query}",
            path(room.as_str()),
            path(user)
        )
    };
    for user in ["@carl:gamma.test", "@alice:alpha.test"] {
        for what in ["join", "leave", "knock"] {
            assert_eq!(
                world.get(beta(), &make(what, user, "?ver=12")).await.0,
                403,
                "{what} {user}"
            );
        }
    }
    for query in ["", "?ver=1", "?ver=11"] {
        let (status, answer) = world.get(beta(), &make("join", "@bob:beta.test", query)).await;
        let expected = (400, Some("M_INCOMPATIBLE_ROOM_VERSION"), Some("12"));
        assert_eq!(
            (status, answer["errcode"].as_str(), answer["room_version"].as_str()),
            expected
        );
    }
    // A user who is not joined can't leave, and a public room can't be knocked on.
    assert_eq!(world.get(beta(), &make("leave", "@bob:beta.test", "")).await.0, 403);
    assert_eq!(
        world.get(beta(), &make("knock", "@bob:beta.test", "?ver=12")).await.0,
        403
    );
    let elsewhere = format!(
        "/_matrix/federation/v1/make_join/{}/{}?ver=12",
        path("!none:x.test"),
        path("@bob:beta.test")
    );
    assert_eq!(world.get(beta(), &elsewhere).await.0, 404);
    let private = world.room(CreateRoom::default()).await;
    let make = format!(
        "/_matrix/federation/v1/make_join/{}/{}?ver=12",
        path(private.as_str()),
        path("@bob:beta.test")
    );
    assert_eq!(world.get(beta(), &make).await.0, 403);
}

/// T35 and every other mismatch between path, event and sender.
#[tokio::test]
async fn a_mismatching_membership_event_is_refused() {
    let world = World::new().await;
    let (room, other) = (world.public_room().await, world.public_room().await);
    let bob = UserId::parse("@bob:beta.test").unwrap();
    let (id, event) = world.membership(&bob, &room, "join").await;
    let send = |what: &str, room: &str, id: &str| format!("/_matrix/federation/{what}/{}/{}", path(room), path(id));
    let wrong_id = format!("${}", "a".repeat(43));
    let mut forged = event.clone();
    forged["content"]["membership"] = json!("ban");
    let mut resent = event.clone();
    resent["origin_server_ts"] = json!(5);
    for (what, server, path, event) in [
        (
            "another room",
            beta(),
            send("v2/send_join", other.as_str(), id.as_str()),
            &event,
        ),
        (
            "an unknown room",
            beta(),
            send("v2/send_join", "!none:x.test", id.as_str()),
            &event,
        ),
        (
            "another event",
            beta(),
            send("v2/send_join", room.as_str(), &wrong_id),
            &event,
        ),
        (
            "a join as a leave",
            beta(),
            send("v2/send_leave", room.as_str(), id.as_str()),
            &event,
        ),
        (
            "a join as a knock",
            beta(),
            send("v1/send_knock", room.as_str(), id.as_str()),
            &event,
        ),
        (
            "another server's user",
            gamma(),
            send("v2/send_join", room.as_str(), id.as_str()),
            &event,
        ),
        (
            "changed",
            beta(),
            send("v2/send_join", room.as_str(), id.as_str()),
            &forged,
        ),
        (
            "signed for something else",
            beta(),
            send("v2/send_join", room.as_str(), id.as_str()),
            &resent,
        ),
        (
            "no event",
            beta(),
            send("v2/send_join", room.as_str(), id.as_str()),
            &json!([1]),
        ),
    ] {
        let (status, answer) = world.ask(server, "PUT", &path, event.clone()).await;
        assert!((400..500).contains(&status), "{what}: {status} {answer}");
    }
    assert_eq!(
        world.rooms.reader().membership(&room, &bob).await.unwrap(),
        MembershipState::Leave
    );
    let (status, _) = world
        .ask(beta(), "PUT", &send("v2/send_join", room.as_str(), id.as_str()), event)
        .await;
    assert_eq!(status, 200, "the right one is still accepted");
}

#[tokio::test]
async fn a_knock_is_accepted_if_the_join_rule_allows_it() {
    let world = World::new().await;
    let room = world
        .room(CreateRoom {
            name: Some("Study".to_owned()),
            ..CreateRoom::default()
        })
        .await;
    world
        .send(&room, "m.room.join_rules", Some(""), json!({ "join_rule": "knock" }))
        .await;
    let bob = UserId::parse("@bob:beta.test").unwrap();
    let (id, event) = world.membership(&bob, &room, "knock").await;
    let send = format!(
        "/_matrix/federation/v1/send_knock/{}/{}",
        path(room.as_str()),
        path(id.as_str())
    );
    let (status, answer) = world.ask(beta(), "PUT", &send, event).await;
    assert_eq!(status, 200, "{answer}");
    let shown = answer["knock_room_state"].as_array().unwrap();
    assert!(
        shown
            .iter()
            .any(|state| state["type"] == "m.room.name" && state["signatures"].is_object())
    );
    assert!(shown.iter().all(|state| state["type"] != "m.room.power_levels"));
    assert_eq!(
        world.rooms.reader().membership(&room, &bob).await.unwrap(),
        MembershipState::Knock
    );
}

/// T32 through the endpoint: which invitations are signed, and what the invited user then sees.
#[tokio::test]
async fn only_valid_invitations_are_signed_and_stored() {
    let world = World::new().await;
    // A room of the other server, created from its own signed events.
    let their = weft_dag::testing::World::new(&RoomVersionId::V11, "@bob:beta.test");
    let room = their.room_id.clone();
    let create: Value = serde_json::from_str(their.pdu(&their.order[0]).json()).unwrap();
    let invite = |sender: &str, target: &str, membership: &str| {
        let mut event = weft_dag::testing::object(json!({
            "type": "m.room.member", "sender": sender, "state_key": target, "room_id": room,
            "content": { "membership": membership }, "prev_events": their.head_list(), "auth_events": [], "depth": 5,
            "origin_server_ts": 1_700_000_000_000_u64,
        }));
        let key = signer(beta());
        let rules = &their.version.rules().redaction;
        ruma::signatures::hash_and_sign_event("beta.test", key.key_pair(), &mut event, rules).unwrap();
        let event = serde_json::to_value(event).unwrap();
        let id = weft_dag::Unchecked::parse(&event.to_string(), &their.version)
            .unwrap()
            .event_id()
            .to_owned();
        (id, event)
    };
    let put = |version: &str, id: &str| {
        format!(
            "/_matrix/federation/{version}/invite/{}/{}",
            path(room.as_str()),
            path(id)
        )
    };
    let body = |event: &Value, version: &str| json!({ "room_version": version, "event": event, "invite_room_state": [create] });
    for (sender, target, membership) in [
        ("@bob:beta.test", "@alice:alpha.test", "leave"),
        ("@bob:beta.test", "@alice:alpha.test", "ban"),
        ("@alice:alpha.test", "@alice:alpha.test", "join"),
        ("@alice:alpha.test", "@alice:alpha.test", "invite"),
        ("@bob:beta.test", "@carl:gamma.test", "invite"),
        ("@bob:beta.test", "@nobody:alpha.test", "invite"),
    ] {
        let (id, event) = invite(sender, target, membership);
        let (status, answer) = world
            .ask(beta(), "PUT", &put("v2", id.as_str()), body(&event, "11"))
            .await;
        assert!(
            status == 403 || status == 404,
            "{sender} {target} {membership}: {status} {answer}"
        );
        assert!(answer.get("event").is_none());
    }
    let (id, event) = invite("@bob:beta.test", "@alice:alpha.test", "invite");
    let (status, answer) = world
        .ask(beta(), "PUT", &put("v2", id.as_str()), body(&event, "1"))
        .await;
    assert_eq!(
        (status, answer["errcode"].as_str()),
        (400, Some("M_INCOMPATIBLE_ROOM_VERSION"))
    );
    assert_eq!(
        world.ask(beta(), "PUT", &put("v1", id.as_str()), event.clone()).await.0,
        400
    );
    assert_eq!(
        world
            .ask(gamma(), "PUT", &put("v2", id.as_str()), body(&event, "11"))
            .await
            .0,
        403
    );
    assert_eq!(
        world.rooms.reader().membership(&room, &world.alice).await.unwrap(),
        MembershipState::Leave
    );

    let (status, answer) = world
        .ask(beta(), "PUT", &put("v2", id.as_str()), body(&event, "11"))
        .await;
    assert_eq!(status, 200, "{answer}");
    let signatures = answer["event"]["signatures"].as_object().unwrap();
    assert!(signatures.contains_key("alpha.test") && signatures.contains_key("beta.test"));
    let kept = world
        .rooms
        .reader()
        .room_of_user(&world.alice, &room)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(kept.membership, MembershipState::Invite);
    let shown = world
        .rooms
        .reader()
        .out_of_band_state(&world.alice, &kept)
        .await
        .unwrap();
    let shown: Vec<Value> = shown.iter().map(|raw| raw.deserialize().unwrap()).collect();
    assert!(shown.iter().any(|entry| entry["type"] == "m.room.create"));
    assert!(
        shown
            .iter()
            .all(|entry| entry.get("signatures").is_none() && entry.get("hashes").is_none())
    );
}

/// A restricted join needs this server's signature, which is only given if the join rule allows the join (T32).
#[tokio::test]
async fn a_restricted_join_is_signed_only_if_the_rule_allows_it() {
    let world = World::new().await;
    let team = world.public_room().await;
    let room = world.public_room().await;
    let allow = json!([{ "type": "m.room_membership", "room_id": team }]);
    let rule = json!({ "join_rule": "restricted", "allow": allow });
    world.send(&room, "m.room.join_rules", Some(""), rule).await;
    world.join("@bob:beta.test", &team).await;
    let bob = UserId::parse("@bob:beta.test").unwrap();
    let make = |user: &str| {
        format!(
            "/_matrix/federation/v1/make_join/{}/{}?ver=12",
            path(room.as_str()),
            path(user)
        )
    };
    assert_eq!(world.get(beta(), &make("@eve:beta.test")).await.0, 403);
    let (status, template) = world.get(beta(), &make(bob.as_str())).await;
    assert_eq!(status, 200, "{template}");
    let list = |field: &str| serde_json::from_value(template["event"][field].clone()).unwrap();
    let depth = template["event"]["depth"].as_u64().unwrap();
    for (user, expected) in [("@eve:beta.test", 403), (bob.as_str(), 200)] {
        let user = UserId::parse(user).unwrap();
        let place = (list("prev_events"), list("auth_events"), depth);
        let content = template["event"]["content"].clone();
        let (id, event) = world
            .event(&room, &user, "m.room.member", Some(user.as_str()), content, place)
            .await;
        let send = format!(
            "/_matrix/federation/v2/send_join/{}/{}",
            path(room.as_str()),
            path(id.as_str())
        );
        let (status, answer) = world.ask(beta(), "PUT", &send, event).await;
        assert_eq!(status, expected, "{user}: {answer}");
        let signed = answer["event"]["signatures"]["alpha.test"].is_object();
        assert_eq!(signed, expected == 200, "{user}: {answer}");
    }
}

/// W4: the server that invited a local user to a room that this server is not in retracts the invitation, in an ordinary
/// transaction; another server can't.
#[tokio::test]
async fn an_out_of_band_invitation_can_be_retracted_by_its_server() {
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let world = World::new().await;
        let bob = "@bob:beta.test";
        let mut elsewhere = weft_dag::testing::World::new(&version, bob);
        let last = elsewhere.message(bob, "secret");
        let room = last.room_id().to_owned();
        let state: Vec<Value> = elsewhere
            .order
            .iter()
            .map(|id| serde_json::from_str(elsewhere.pdu(id).json()).unwrap())
            .filter(|event: &Value| event["type"] == "m.room.create")
            .collect();
        let build =
            |elsewhere: &mut weft_dag::testing::World, before: &ruma::EventId, sender: &str, membership: &str| {
                let content = json!({ "membership": membership });
                let place = [before.to_owned()];
                elsewhere.build(&place, sender, "m.room.member", Some(world.alice.as_str()), content)
            };
        let invite = build(&mut elsewhere, last.event_id(), bob, "invite");
        let event: Value = serde_json::from_str(invite.pdu().json()).unwrap();
        let body = json!({ "room_version": version, "event": event, "invite_room_state": state });
        let id = invite.pdu().event_id().to_owned();
        let put = format!(
            "/_matrix/federation/v2/invite/{}/{}",
            path(room.as_str()),
            path(id.as_str())
        );
        let (status, answer) = world.ask(beta(), "PUT", &put, body).await;
        assert_eq!(status, 200, "{answer}");
        let membership = async || world.rooms.reader().membership(&room, &world.alice).await.unwrap();
        assert_eq!(membership().await, MembershipState::Invite);

        let send = async |server, number: usize, event: &Value| {
            let transaction = json!({ "origin": server, "origin_server_ts": 1, "pdus": [event] });
            let put = format!("/_matrix/federation/v1/send/take-back-{number}");
            assert_eq!(world.ask(server, "PUT", &put, transaction).await.0, 200);
        };
        let leave = |sender: &str, cited: &str| {
            let mut leave = event.clone();
            leave["sender"] = json!(sender);
            leave["content"] = json!({ "membership": "leave" });
            leave["auth_events"] = json!([cited]);
            leave["prev_events"] = json!([id]);
            for field in ["hashes", "signatures"] {
                leave.as_object_mut().unwrap().remove(field);
            }
            let mut leave = weft_dag::testing::object(leave);
            let server = UserId::parse(sender).unwrap().server_name().to_owned();
            let rules = RoomVersion::new(&version).unwrap();
            let key = signer(&server);
            let redaction = &rules.rules().redaction;
            ruma::signatures::hash_and_sign_event(server.as_str(), key.key_pair(), &mut leave, redaction).unwrap();
            serde_json::to_value(leave).unwrap()
        };
        let none = format!("${}", "a".repeat(43));
        send(gamma(), 1, &leave("@carl:gamma.test", id.as_str())).await;
        send(beta(), 2, &leave(bob, &none)).await;
        assert_eq!(membership().await, MembershipState::Invite);
        send(beta(), 3, &leave(bob, id.as_str())).await;
        assert_eq!(membership().await, MembershipState::Leave);
    }
}
