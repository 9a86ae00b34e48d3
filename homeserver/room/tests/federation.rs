//! Several servers in one process: joins, edits on both sides of a partition, gaps, forgeries, power loss.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

#[path = "federation/checkpoints.rs"]
mod checkpoints;
#[path = "federation/departed.rs"]
mod departed;
#[path = "federation/disputes.rs"]
mod disputes;
#[path = "federation/evicted.rs"]
mod evicted;
#[path = "federation/exports.rs"]
mod exports;
#[path = "federation/fences.rs"]
mod fences;
#[path = "federation/history.rs"]
mod history;
#[path = "federation/late_requests.rs"]
mod late_requests;
#[path = "federation/latency.rs"]
mod latency;
#[path = "federation/net.rs"]
mod net;
#[path = "federation/pruned.rs"]
mod pruned;
#[path = "federation/published.rs"]
mod published;
#[path = "federation/seam.rs"]
mod seam;
#[path = "federation/silent.rs"]
mod silent;
#[path = "federation/stored.rs"]
mod stored;
#[path = "federation/versions.rs"]
mod versions;
#[path = "federation/witness.rs"]
mod witness;

use ruma::{OwnedEventId, RoomId, RoomVersionId, events::room::member::MembershipState};
use serde_json::json;
use weft_dag::{RoomVersion, Verified, testing::object};
use weft_room::OutOfBandMembership;
use weft_room_api::{AdoptRefusal, EditRefusal, JoinedRoom, MembershipRefusal, RoomError, Template, TemplateKind};
use weft_room_read::{Direction, Types};
use weft_store::{
    engine::Op,
    memory::{Fault, Tail},
    tables::{meta::SCHEMA, rooms::STAGED_ROOMS},
};
use weft_testkit::{check, update_content, user};

use self::net::Net;

const ALICE: &str = "@alice:a.example";
const BOB: &str = "@bob:b.example";
const CAROL: &str = "@carol:c.example";

#[tokio::test]
async fn two_servers_write_one_document() {
    for version in [RoomVersionId::V12, RoomVersionId::V11, RoomVersionId::V6] {
        let net = Net::new(&["a.example", "b.example"]).await;
        let room = net.document(ALICE, &version).await;
        net.edit(ALICE, &room, 0, "Hello").await;
        net.invite_and_join(ALICE, BOB, &room, 25).await;
        assert_eq!(
            net.text("b.example", &room).await,
            "Hello",
            "the document is readable at once"
        );
        net.edit(BOB, &room, 5, " world").await;
        net.edit(ALICE, &room, 0, "> ").await;
        net.quiet(&room).await;
        assert_eq!(net.text("a.example", &room).await, "> Hello world", "version {version}");
        net.assert_same(&room).await;
    }
}

#[tokio::test]
async fn all_sides_of_a_partition_edit_and_converge_afterwards() {
    for seed in 0..6 {
        let net = Net::new(&["a.example", "b.example", "c.example"]).await;
        let room = net.document(ALICE, &RoomVersionId::V12).await;
        net.invite_and_join(ALICE, BOB, &room, 50).await;
        net.invite_and_join(ALICE, CAROL, &room, 25).await;
        net.quiet(&room).await;
        net.network().cut();
        for n in 0..5 {
            for who in [ALICE, BOB, CAROL] {
                net.edit(who, &room, 0, &format!("{}{n} ", &who[1..2])).await;
                net.seal(who, &room).await;
            }
            net.topic(ALICE, &room, &format!("alice {n}")).await;
            net.topic(BOB, &room, &format!("bob {n}")).await;
        }
        net.heal(seed).await;
        net.quiet(&room).await;
        net.assert_same(&room).await;
        let text = net.text("c.example", &room).await;
        for n in 0..5 {
            for who in ["a", "b", "c"] {
                assert!(text.contains(&format!("{who}{n} ")), "{text}");
            }
        }
        // One more event merges the branches.
        net.edit(BOB, &room, 0, "end").await;
        net.quiet(&room).await;
        for server in ["a.example", "b.example", "c.example"] {
            assert_eq!(net.rooms(server).reader().extremities(&room).await.unwrap().len(), 1);
        }
        net.assert_same(&room).await;
    }
}

#[tokio::test]
async fn missing_events_are_fetched() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.quiet(&room).await;
    net.network().cut();
    for n in 0..30 {
        net.edit(ALICE, &room, 0, &format!("{n} ")).await;
        net.seal(ALICE, &room).await;
    }
    net.topic(ALICE, &room, "while you were away").await;
    net.lose();
    net.heal(1).await;
    net.edit(ALICE, &room, 0, "now ").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    assert!(net.text("b.example", &room).await.starts_with("now 29 28"));
}

#[tokio::test]
async fn the_state_is_fetched_if_the_events_are_unavailable() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.quiet(&room).await;
    net.network().cut();
    for n in 0..3 {
        net.topic(ALICE, &room, &format!("{n}")).await;
        net.edit(ALICE, &room, 0, &format!("{n} ")).await;
        net.seal(ALICE, &room).await;
    }
    net.lose();
    net.network().refuse_missing_events(true);
    net.heal(1).await;
    let b = net.rooms("b.example");
    let hello = net.message(ALICE, &room, "hello").await;
    net.until(|| async { b.reader().order(&room, &hello).await.unwrap().is_some() })
        .await;
    let topic = net
        .rooms("b.example")
        .reader()
        .state_event(&room, "m.room.topic", "")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(topic.content_as::<serde_json::Value>().unwrap()["topic"], "2");
    net.network().refuse_missing_events(false);
    net.message(BOB, &room, "good evening").await;
    net.quiet(&room).await;
    assert_eq!(net.state("a.example", &room).await, net.state("b.example", &room).await);
    // The events of the gap are backfilled afterwards.
    net.assert_same(&room).await;
}

/// W14: the timeline starts again after a gap that can't be filled.
#[tokio::test]
async fn a_gap_in_the_graph_is_a_gap_in_the_timeline() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.quiet(&room).await;
    net.network().cut();
    net.message(ALICE, &room, "lost").await;
    net.lose();
    net.network().refuse_missing_events(true);
    net.network().refuse_history(true);
    net.heal(1).await;
    let hello = net.message(ALICE, &room, "hello").await;
    let (a, b) = (net.rooms("a.example"), net.rooms("b.example"));
    net.until(|| async { b.reader().order(&room, &hello).await.unwrap().is_some() })
        .await;
    let then = net.message(ALICE, &room, "then").await;
    net.until(|| async { b.reader().order(&room, &then).await.unwrap().is_some() })
        .await;
    let page = b.reader().timeline(&room, None, Direction::Backward, Types::All, 50);
    let mut events = page.await.unwrap().events;
    events.reverse();
    let gap = b.reader().last_gap(&room, &events).await.unwrap();
    assert_eq!(gap.map(|index| events[index].pdu.event_id()), Some(&*hello));
    let behind = &events[events.len() - 1..];
    assert_eq!(b.reader().last_gap(&room, behind).await.unwrap(), None);
    let page = a.reader().timeline(&room, None, Direction::Forward, Types::All, 50);
    let whole = page.await.unwrap().events;
    assert_eq!(a.reader().last_gap(&room, &whole).await.unwrap(), None);
}

/// Events that only a server that ignores the rules would send, and a good one at the end.
async fn bad_and_good(net: &Net, room: &ruma::RoomId) -> Vec<Verified> {
    let nowhere: OwnedEventId = ruma::EventId::new_v2_or_v3(&"x".repeat(43)).unwrap();
    let eve = "@eve:b.example";
    let cases = [
        (BOB, "m.room.topic", Some(""), json!({ "topic": "not mine" })),
        (eve, "m.room.message", None, json!({})),
        (BOB, "m.room.message", None, json!({ "follows": "nothing" })),
        (BOB, "dev.weft.update", None, json!({ "update": "!" })),
        (BOB, "m.room.member", Some(ALICE), json!({ "membership": "ban" })),
        (BOB, "m.room.message", None, json!({ "body": "good" })),
    ];
    let heads = net.rooms("b.example").reader().extremities(room).await.unwrap();
    let mut events = Vec::new();
    for (sender, kind, key, content) in cases {
        let prev = if content["follows"] == "nothing" {
            vec![nowhere.clone()]
        } else {
            heads.clone()
        };
        events.push(net.forge(sender, room, prev, kind, key, content).await);
    }
    events
}

#[tokio::test]
async fn one_bad_event_does_not_stop_the_rest() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.quiet(&room).await;
    let batch = bad_and_good(&net, &room).await;
    let ids: Vec<OwnedEventId> = batch.iter().map(|event| event.pdu().event_id().to_owned()).collect();
    let rooms = net.rooms("a.example");
    rooms.receive(user(BOB).server_name(), batch).await.unwrap();
    net.until(|| async { rooms.reader().order(&room, &ids[5]).await.unwrap().is_some() })
        .await;
    for rejected in [0, 1, 4] {
        let stored = rooms.reader().stored_event(&room, &ids[rejected]).await.unwrap();
        assert!(stored.unwrap().pdu.rejected());
    }
    assert!(
        rooms.reader().stored_event(&room, &ids[2]).await.unwrap().is_none(),
        "it waits"
    );
    let state = rooms.reader().state(&room).await.unwrap().unwrap();
    assert_eq!(state.membership(&user(ALICE)), MembershipState::Join);
    assert!(state.get("m.room.topic", "").is_none());
    // The room stays usable.
    net.edit(ALICE, &room, 0, "still here").await;
    net.quiet(&room).await;
    assert_eq!(net.text("b.example", &room).await, "still here");
}

#[tokio::test]
async fn acknowledged_events_survive_a_power_loss() {
    for older in [false, true] {
        stage_and_lose_power(older).await;
    }
}

/// A mark of staged rows as version 1 of the store's format had it.
fn mark_of_version_1(room: &RoomId) -> Vec<Op> {
    let put = |key, number: u64| Op::Put {
        key,
        value: number.to_be_bytes().to_vec().into(),
    };
    vec![put(STAGED_ROOMS.physical(&(room,)), 1), put(SCHEMA.physical(&()), 1)]
}

async fn stage_and_lose_power(older: bool) {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.quiet(&room).await;
    let heads = net.rooms("b.example").reader().extremities(&room).await.unwrap();
    let event = net
        .forge(BOB, &room, heads, "m.room.message", None, json!({ "body": "kept" }))
        .await;
    // Staged and acknowledged; the power fails before anything else happens.
    net.rooms("a.example")
        .receive(user(BOB).server_name(), vec![event.clone()])
        .await
        .unwrap();
    let rows = if older { mark_of_version_1(&room) } else { Vec::new() };
    net.power_loss_with("a.example", Tail::Lost, rows).await;
    let rooms = net.rooms("a.example");
    rooms.recover().await.unwrap();
    net.until(|| async {
        rooms
            .reader()
            .order(&room, event.pdu().event_id())
            .await
            .unwrap()
            .is_some()
    })
    .await;
    rooms.recover().await.unwrap();
    net.edit(ALICE, &room, 0, "after").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
}

#[tokio::test]
async fn a_viewer_of_another_server_cannot_edit() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 0).await;
    net.quiet(&room).await;
    assert!(matches!(
        net.try_edit(BOB, &room, 0, "no").await,
        Err(RoomError::Edit(EditRefusal::Role { .. }))
    ));
    // Bob's server signs one nevertheless.
    let heads = net.rooms("b.example").reader().extremities(&room).await.unwrap();
    let content = update_content(77, "forged");
    let forged = net.forge(BOB, &room, heads, "dev.weft.update", None, content).await;
    let rooms = net.rooms("a.example");
    rooms
        .receive(user(BOB).server_name(), vec![forged.clone()])
        .await
        .unwrap();
    net.until(|| async {
        rooms
            .reader()
            .stored_event(&room, forged.pdu().event_id())
            .await
            .unwrap()
            .is_some()
    })
    .await;
    assert!(
        rooms
            .reader()
            .stored_event(&room, forged.pdu().event_id())
            .await
            .unwrap()
            .unwrap()
            .pdu
            .rejected()
    );
    assert_eq!(net.text("a.example", &room).await, "");
}

#[tokio::test]
async fn edits_concurrent_with_a_demotion_are_merged_on_all_servers() {
    let net = Net::new(&["a.example", "b.example", "c.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.invite_and_join(ALICE, CAROL, &room, 25).await;
    net.quiet(&room).await;
    net.network().cut();
    net.edit(BOB, &room, 0, "bob was here ").await;
    net.seal(BOB, &room).await;
    let edit = net.rooms("b.example").reader().extremities(&room).await.unwrap();
    net.power(ALICE, &room, BOB, 0).await;
    net.heal(1).await;
    let (a, b) = (net.rooms("a.example"), net.rooms("b.example"));
    net.until(|| async { a.reader().stored_event(&room, &edit[0]).await.unwrap().is_some() })
        .await;
    net.until(|| async { b.access(&room, &user(BOB)).await.unwrap().power == 0 })
        .await;
    let stored = a.reader().stored_event(&room, &edit[0]).await.unwrap().unwrap();
    assert!(!stored.is_visible() && !stored.pdu.rejected());
    // A server that received the demotion first soft-fails the edit; it becomes reachable through an accepted event
    // that references it. Bob may not send one, so the reconciliation of server b does it.
    net.quiet(&room).await;
    net.assert_same(&room).await;
    assert_eq!(net.text("a.example", &room).await, "bob was here ");
}

#[tokio::test]
async fn joins_leaves_and_invitations_are_authorised() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    let a = net.rooms("a.example");
    let join = Template {
        user: user(BOB),
        kind: TemplateKind::Join,
    };
    assert!(
        matches!(
            a.template(&room, join.clone()).await,
            Err(RoomError::Membership(MembershipRefusal::Forbidden { .. }))
        ),
        "not invited"
    );
    assert!(matches!(
        net.rooms("b.example").template(&room, join).await,
        Err(RoomError::NotResident(_))
    ));
    let heads = a.reader().extremities(&room).await.unwrap();
    let b = user(BOB).server_name().to_owned();
    for (sender, key, membership) in [
        (BOB, BOB, "join"),
        (BOB, "@eve:b.example", "leave"),
        ("@eve:c.example", "@eve:c.example", "leave"),
        (BOB, ALICE, "ban"),
        (BOB, "@eve:b.example", "invite"),
    ] {
        let content = json!({ "membership": membership });
        let event = net
            .forge(sender, &room, heads.clone(), "m.room.member", Some(key), content)
            .await;
        let refused = a.accept_membership(&b, event).await;
        assert!(
            matches!(
                refused,
                Err(RoomError::Membership(
                    MembershipRefusal::BadEvent { .. } | MembershipRefusal::Forbidden { .. }
                ))
            ),
            "{sender} {key} {membership}"
        );
    }
    let message = net.forge(BOB, &room, heads, "m.room.message", None, json!({})).await;
    assert!(matches!(
        a.accept_membership(&b, message).await,
        Err(RoomError::Membership(MembershipRefusal::BadEvent { .. }))
    ));

    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.leave(BOB, &room).await;
    net.quiet(&room).await;
    let state = a.reader().state(&room).await.unwrap().unwrap();
    assert_eq!(state.membership(&user(BOB)), MembershipState::Leave);
    assert!(matches!(
        net.rooms("b.example")
            .access(&room, &user(BOB))
            .await
            .unwrap()
            .membership,
        MembershipState::Leave
    ));

    // And a second join, after more edits.
    net.edit(ALICE, &room, 0, "meanwhile ").await;
    net.quiet(&room).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.quiet(&room).await;
    assert_eq!(net.text("b.example", &room).await, "meanwhile ");
    net.edit(BOB, &room, 0, "back ").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
}

#[tokio::test]
async fn a_room_with_forged_state_is_not_adopted() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite(ALICE, BOB, &room).await;
    let mut joined = net.join_answer(BOB, &room).await;
    joined.state.retain(|event| event.pdu().kind() != "m.room.create");
    joined.auth_chain.retain(|event| event.pdu().kind() != "m.room.create");
    let b = net.rooms("b.example");
    assert!(matches!(
        b.adopt(joined).await,
        Err(RoomError::Adopt(AdoptRefusal::BadState { .. }))
    ));
    assert!(
        b.reader().version(&room).await.unwrap().is_none(),
        "nothing of it is stored"
    );
    // Without the invitation the join is not allowed.
    let mut joined = net.join_again(BOB, &room).await;
    let is_invite = |event: &Verified| event.pdu().state_key() == Some(BOB);
    joined.state.retain(|event| !is_invite(event));
    joined.auth_chain.retain(|event| !is_invite(event));
    assert!(matches!(
        b.adopt(joined).await,
        Err(RoomError::Adopt(AdoptRefusal::BadState { .. }))
    ));
    b.adopt(net.join_again(BOB, &room).await).await.unwrap();
    net.power(ALICE, &room, BOB, 25).await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
}

#[tokio::test]
async fn a_restricted_room_accepts_members_of_the_allowed_room() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let team = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &team, 0).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    let rule = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": team }] });
    net.state_event(ALICE, &room, "m.room.join_rules", rule).await.unwrap();
    let eve = Template {
        user: user("@eve:b.example"),
        kind: TemplateKind::Join,
    };
    assert!(matches!(
        net.rooms("a.example").template(&room, eve).await,
        Err(RoomError::Membership(MembershipRefusal::Forbidden { .. }))
    ));
    net.join(BOB, &room).await;
    net.quiet(&room).await;
    let member = net
        .rooms("a.example")
        .reader()
        .state_event(&room, "m.room.member", BOB)
        .await
        .unwrap()
        .unwrap();
    assert!(member.json().contains("join_authorised_via_users_server"));
    assert!(member.json().contains("a.example\":{\"ed25519"));
}

#[tokio::test]
async fn invitations_are_stored_until_they_are_withdrawn() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite(ALICE, BOB, &room).await;
    let b = net.rooms("b.example");
    let rows = b.reader().rooms_of(&user(BOB)).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].membership, MembershipState::Invite);
    b.uninvited(&room, &user(BOB), None).await.unwrap();
    b.uninvited(&room, &user(BOB), None).await.unwrap();
    let rows = b.reader().rooms_of(&user(BOB)).await.unwrap();
    assert_eq!(rows[0].membership, MembershipState::Leave);
    let shown: Vec<serde_json::Value> = rows[0]
        .row
        .stripped
        .iter()
        .map(|raw| raw.deserialize().unwrap())
        .collect();
    assert_eq!(shown.len(), 1, "the invitation is no longer shown");
    assert_eq!(shown[0]["content"], json!({"membership": "leave"}));
    assert_eq!(
        (&shown[0]["sender"], &shown[0]["state_key"]),
        (&json!(BOB), &json!(BOB))
    );
    assert!(
        shown[0]["event_id"].is_string() && shown[0]["origin_server_ts"].is_u64(),
        "{shown:?}"
    );
    let refused = net
        .state_event(BOB, &room, "m.room.topic", json!({ "topic": "?" }))
        .await;
    assert!(matches!(refused, Err(RoomError::UnknownRoom(_))));
    assert!(object(json!({})).is_empty());
}

#[tokio::test(start_paused = true)]
async fn conflicting_claims_have_the_same_outcome_on_all_servers() {
    for reversed in [false, true] {
        let net = Net::new(&["a.example", "b.example", "c.example"]).await;
        let room = net.document(ALICE, &RoomVersionId::V12).await;
        net.invite_and_join(ALICE, BOB, &room, 25).await;
        net.invite_and_join(ALICE, CAROL, &room, 25).await;
        net.edit(ALICE, &room, 0, "honest ").await;
        net.quiet(&room).await;
        let heads = net.rooms("a.example").reader().extremities(&room).await.unwrap();
        let mut rivals = Vec::new();
        for text in ["black", "white", "grey"] {
            let content = update_content(4_242, text);
            rivals.push(
                net.forge(BOB, &room, heads.clone(), "dev.weft.update", None, content)
                    .await,
            );
        }
        net.network().cut();
        let b = user(BOB).server_name().to_owned();
        for (server, rotate) in [("a.example", 0), ("c.example", 1), ("b.example", 2)] {
            let mut order = rivals.clone();
            order.rotate_left(rotate);
            if reversed {
                order.reverse();
            }
            let rooms = net.rooms(server);
            for rival in order {
                rooms.receive(&b, vec![rival.clone()]).await.unwrap();
                let id = rival.pdu().event_id().to_owned();
                net.until(|| async { rooms.reader().stored_event(&room, &id).await.unwrap().is_some() })
                    .await;
            }
            net.edit(if server == "c.example" { CAROL } else { ALICE }, &room, 0, "and on ")
                .await;
        }
        net.heal(2).await;
        net.quiet(&room).await;
        // The text is worked out again after a pause.
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        net.quiet(&room).await;
        for server in ["a.example", "b.example", "c.example"] {
            let text = net.text(server, &room).await;
            let present = ["black", "white", "grey"].iter().filter(|word| text.contains(**word));
            assert_eq!(present.count(), 1, "{server}: {text}");
            assert!(text.contains("honest"));
        }
        net.assert_same(&room).await;
        // Updates that build on the forged ones have the same outcome everywhere too.
        net.edit(CAROL, &room, 0, "the end ").await;
        net.quiet(&room).await;
        net.assert_same(&room).await;
    }
}

#[tokio::test]
async fn a_forged_snapshot_is_replaced_by_the_text_of_the_events() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    for n in 0..40 {
        net.edit(ALICE, &room, 0, &format!("{n} ")).await;
        net.seal(ALICE, &room).await;
    }
    net.invite(ALICE, BOB, &room).await;
    let mut joined = net.join_answer(BOB, &room).await;
    let content: weft_wire::update::UpdateContent =
        serde_json::from_value(update_content(66, "quite another text")).unwrap();
    joined.snapshot = Some(content.bytes().unwrap().into());
    net.rooms("b.example").adopt(joined).await.unwrap();
    let truth = net.text("a.example", &room).await;
    net.until(|| async { net.text("b.example", &room).await == truth })
        .await;
    net.power(ALICE, &room, BOB, 25).await;
    net.quiet(&room).await;
    net.edit(BOB, &room, 0, "mine ").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    // The backfilled events are in the timeline, before the later ones.
    let b = net.rooms("b.example");
    let page = b
        .reader()
        .timeline(
            &room,
            None,
            weft_room_read::Direction::Forward,
            weft_room_read::Types::All,
            100,
        )
        .await
        .unwrap();
    let orders: Vec<i64> = page.events.iter().map(|event| event.order).collect();
    assert!(orders.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(page.events[0].pdu.kind(), "m.room.create");
    assert!(page.events.len() > 45);
}

#[tokio::test]
async fn events_with_unavailable_ancestors_cost_few_requests() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    let rooms = net.rooms("a.example");
    let b = user(BOB).server_name().to_owned();
    let requests = net.network().requests();
    for transaction in 0..8 {
        let mut events = Vec::new();
        for n in 0..50 {
            let nowhere = ruma::EventId::new_v2_or_v3(&format!("{:x>43}", transaction * 50 + n)).unwrap();
            events.push(
                net.forge(BOB, &room, vec![nowhere], "m.room.message", None, json!({ "n": n }))
                    .await,
            );
        }
        rooms.receive(&b, events).await.unwrap();
        net.edit(ALICE, &room, 0, "on ").await;
    }
    net.quiet(&room).await;
    assert_eq!(net.text("b.example", &room).await, "on ".repeat(8));
    let requests = net.network().requests() - requests;
    assert!(requests <= 60, "{requests} requests for events that do not exist");
}

#[tokio::test]
async fn a_rejected_join_gets_no_state_when_it_is_sent_again() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.quiet(&room).await;
    let a = net.rooms("a.example");
    let heads = a.reader().extremities(&room).await.unwrap();
    let eve = "@eve:c.example";
    let join = json!({ "membership": "join" });
    let event = net.forge(eve, &room, heads, "m.room.member", Some(eve), join).await;
    a.receive(user(eve).server_name(), vec![event.clone()]).await.unwrap();
    net.until(|| async { a.reader().room_of(event.pdu().event_id()).await.unwrap().is_some() })
        .await;
    let answer = a.accept_membership(user(eve).server_name(), event).await;
    assert!(
        matches!(answer, Err(RoomError::Membership(MembershipRefusal::Forbidden { .. }))),
        "only members receive the state"
    );
}

/// W4: the invited user's server is not in the room, so the event must be sent to it explicitly.
#[tokio::test]
async fn a_withdrawn_invitation_ends_on_the_invited_server() {
    for (version, membership) in [
        (RoomVersionId::V12, "leave"),
        (RoomVersionId::V12, "ban"),
        (RoomVersionId::V10, "leave"),
    ] {
        let net = Net::new(&["a.example", "b.example"]).await;
        let room = net.document(ALICE, &version).await;
        net.invite(ALICE, BOB, &room).await;
        let b = net.rooms("b.example");
        let row = async || b.reader().room_of_user(&user(BOB), &room).await.unwrap().unwrap();
        let open = row().await;
        assert!(
            !b.reader()
                .out_of_band_state(&user(BOB), &open)
                .await
                .unwrap()
                .is_empty()
        );
        net.end_membership(ALICE, &room, BOB, membership).await;
        net.until(async || row().await.membership.as_str() == membership).await;
        let shown = b.reader().out_of_band_state(&user(BOB), &row().await).await.unwrap();
        assert_eq!(shown.len(), 1);
        let shown: serde_json::Value = shown[0].deserialize().unwrap();
        assert_eq!(
            (shown["sender"].as_str(), shown["state_key"].as_str()),
            (Some(ALICE), Some(BOB))
        );
        // Of the other server's reason only a limited part is stored.
        assert_eq!(shown["content"]["reason"].as_str().unwrap().len(), 1_000);
        assert_eq!(b.reader().outside(&user(BOB), &room).await.unwrap(), None);
        // After another invitation the user can join.
        if membership == "leave" {
            net.invite_and_join(ALICE, BOB, &room, 25).await;
            net.quiet(&room).await;
            assert_eq!(b.reader().outside(&user(BOB), &room).await.unwrap(), None);
        }
    }
}

/// The end of an invitation cites the invitation: a delayed end of an old one does not affect a new one.
#[tokio::test]
async fn the_end_of_an_earlier_invitation_leaves_a_later_one_open() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite(ALICE, BOB, &room).await;
    net.network().cut();
    net.end_membership(ALICE, &room, BOB, "leave").await;
    let a = net.rooms("a.example");
    let ended = a
        .reader()
        .state_event(&room, "m.room.member", BOB)
        .await
        .unwrap()
        .unwrap();
    net.invite(ALICE, BOB, &room).await;
    let b = net.rooms("b.example");
    b.withdrawn(&ended).await.unwrap();
    let row = b.reader().room_of_user(&user(BOB), &room).await.unwrap().unwrap();
    assert_eq!(row.membership, MembershipState::Invite);
}

/// T127: unsolicited invitations are counted by user, by server and by bytes, and the list of rooms is read without
/// their stripped state.
#[tokio::test]
async fn unsolicited_invitations_are_limited() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let b = net.rooms("b.example");
    let bounds = weft_room::InvitationBounds::default();
    let invite = async |server: &str, number: usize, whom: &str, bytes: usize| {
        let inviter = format!("@mallory:{server}");
        let version = RoomVersionId::V12;
        let named = json!({ "number": number });
        let mut elsewhere = weft_dag::testing::World::with_create(&version, &inviter, named);
        let last = elsewhere.message(&inviter, &format!("{number}"));
        let content = json!({ "membership": "invite" });
        let event = elsewhere.build(
            &[last.event_id().to_owned()],
            &inviter,
            "m.room.member",
            Some(whom),
            content,
        );
        let topic = json!({ "type": "m.room.topic", "state_key": "", "content": { "topic": "x".repeat(bytes) } });
        let name = json!({ "type": "m.room.name", "state_key": "", "content": { "name": "Room" } });
        let room = event.pdu().room_id().to_owned();
        let invited = b.invited(OutOfBandMembership {
            event,
            version,
            resident: user(&inviter).server_name().to_owned(),
            stripped: vec![topic, name],
            user: user(whom),
        });
        invited.await.map(|()| room)
    };
    let mut last = None;
    for number in 0..bounds.per_user_and_server {
        last = Some(invite("evil.example", number, BOB, 10).await.unwrap());
    }
    let over = invite("evil.example", 1_000, BOB, 10).await;
    assert_eq!(over.unwrap_err().code(), "too_many_invitations");
    // Another server and another user are not affected; and a declined invitation makes space for another.
    invite("kind.example", 0, BOB, 10).await.unwrap();
    invite("evil.example", 1_001, "@carl:b.example", 10).await.unwrap();
    b.uninvited(&last.unwrap(), &user(BOB), None).await.unwrap();
    invite("evil.example", 1_002, BOB, 10).await.unwrap();

    // A topic as large as a whole event is left out, and the name is kept.
    let room = invite("kind.example", 1, "@dora:b.example", 100_000).await.unwrap();
    let row = b
        .reader()
        .room_of_user(&user("@dora:b.example"), &room)
        .await
        .unwrap()
        .unwrap();
    assert!(row.row.stripped.is_empty(), "the list of rooms is read without it");
    let shown = b
        .reader()
        .out_of_band_state(&user("@dora:b.example"), &row)
        .await
        .unwrap();
    let kinds: Vec<String> = shown
        .iter()
        .map(|raw| raw.get_field("type").unwrap().unwrap())
        .collect();
    assert_eq!(kinds, ["m.room.name", "m.room.member"]);

    // Many servers of one owner: their total stays below the user's limit of bytes.
    let mut kept = 0_u64;
    for number in 0..200 {
        match invite(&format!("evil{number}.example"), number, "@eve:b.example", 60_000).await {
            Ok(_) => kept += 60_000,
            Err(error) => assert_eq!(error.code(), "too_many_invitations"),
        }
    }
    assert!(
        (1_000_000..=weft_wire::limits::MAX_OPEN_INVITATION_BYTES_PER_USER).contains(&kept),
        "{kept}"
    );
}

/// F8: another server sends this server's own join back before it is adopted.
#[tokio::test]
async fn a_join_that_is_already_persisted_is_not_appended_again() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite(ALICE, BOB, &room).await;
    let answer = net.join_answer(BOB, &room).await;
    let again = JoinedRoom {
        version: answer.version.clone(),
        state: answer.state.clone(),
        auth_chain: answer.auth_chain.clone(),
        event: answer.event.clone(),
        resident: answer.resident.clone(),
        snapshot: None,
    };
    let id = answer.event.pdu().event_id().to_owned();
    let b = net.rooms("b.example");
    b.adopt(answer).await.unwrap();
    net.quiet(&room).await;
    b.adopt(again).await.unwrap();
    net.quiet(&room).await;
    let page = b
        .reader()
        .timeline(&room, None, Direction::Backward, Types::All, 100)
        .await
        .unwrap();
    let times = page.events.iter().filter(|event| event.pdu.event_id() == id).count();
    assert_eq!(times, 1);
}

#[tokio::test]
async fn an_out_of_band_invitation_does_not_remove_a_member() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    let heads = net.rooms("a.example").reader().extremities(&room).await.unwrap();
    let content = json!({ "membership": "invite" });
    let invite = net
        .forge("@eve:c.example", &room, heads, "m.room.member", Some(BOB), content)
        .await;
    let b = net.rooms("b.example");
    b.invited(OutOfBandMembership {
        event: invite,
        version: RoomVersionId::V12,
        resident: user("@eve:c.example").server_name().to_owned(),
        stripped: Vec::new(),
        user: user(BOB),
    })
    .await
    .unwrap();
    assert_eq!(
        b.reader().rooms_of(&user(BOB)).await.unwrap()[0].membership,
        MembershipState::Join
    );
}

/// Transactions arrive during the ingest of others, and the power fails at any commit: acknowledged events are merged
/// after the restart, whatever had been done by then.
#[tokio::test]
async fn events_staged_during_an_ingest_are_found_after_a_power_loss() {
    let faults = [
        Fault::PowerBeforeWrite,
        Fault::PowerBeforeSync(Tail::Lost),
        Fault::PowerBeforeSync(Tail::Torn(1)),
        Fault::PowerAfterSync,
        Fault::FailSync,
        Fault::FailWrite,
    ];
    for (commits, fault) in (0..14).flat_map(|commits| faults.map(|fault| (commits, fault))) {
        let net = Net::new(&["a.example", "b.example"]).await;
        let room = net.document(ALICE, &RoomVersionId::V12).await;
        net.invite_and_join(ALICE, BOB, &room, 25).await;
        net.quiet(&room).await;
        let heads = net.rooms("b.example").reader().extremities(&room).await.unwrap();
        let mut events = Vec::new();
        for n in 0..6 {
            let content = json!({ "body": n });
            events.push(
                net.forge(BOB, &room, heads.clone(), "m.room.message", None, content)
                    .await,
            );
        }
        let a = net.rooms("a.example");
        net.plan("a.example", commits, fault);
        let mut answered = Vec::new();
        for event in events {
            let id = event.pdu().event_id().to_owned();
            if a.receive(user(BOB).server_name(), vec![event]).await.is_ok() {
                answered.push(id);
            }
        }
        // If the fault did not occur yet, it must not occur during the restart.
        net.plan("a.example", u64::MAX, fault);
        net.power_loss("a.example", Tail::Lost).await;
        let a = net.rooms("a.example");
        a.recover().await.unwrap();
        for id in answered {
            net.until(|| async { a.reader().order(&room, &id).await.unwrap().is_some() })
                .await;
        }
    }
}

/// The server's power fails at any commit of its first join of a room; after another attempt it is joined and receives
/// later events.
#[tokio::test]
async fn a_join_interrupted_by_a_power_loss_can_be_repeated() {
    let faults = [
        Fault::PowerBeforeWrite,
        Fault::PowerBeforeSync(Tail::Lost),
        Fault::PowerBeforeSync(Tail::Torn(1)),
        Fault::PowerAfterSync,
    ];
    for (commits, fault) in (0..4).flat_map(|commits| faults.map(|fault| (commits, fault))) {
        let net = Net::new(&["a.example", "b.example"]).await;
        let room = net.document(ALICE, &RoomVersionId::V12).await;
        net.edit(ALICE, &room, 0, "before").await;
        net.invite(ALICE, BOB, &room).await;
        let answer = net.join_answer(BOB, &room).await;
        net.plan("b.example", commits, fault);
        let joined = net.rooms("b.example").adopt(answer).await.is_ok();
        net.plan("b.example", u64::MAX, fault);
        net.power_loss("b.example", Tail::Lost).await;
        net.rooms("b.example").recover().await.unwrap();
        let is_in = net.rooms("b.example").access(&room, &user(BOB)).await;
        let is_in = is_in.is_ok_and(|access| access.membership == MembershipState::Join);
        assert!(is_in || !joined, "{fault:?} at {commits}: the join was acknowledged");
        if !is_in {
            net.join(BOB, &room).await;
        }
        net.edit(ALICE, &room, 0, "after ").await;
        net.quiet(&room).await;
        net.assert_same(&room).await;
        assert_eq!(
            net.text("b.example", &room).await,
            "after before",
            "{fault:?} at {commits}"
        );
    }
}

#[tokio::test]
async fn a_late_member_can_read_the_earlier_history() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    let mut messages = Vec::new();
    for n in 0..5 {
        messages.push(net.message(ALICE, &room, &format!("{n}")).await);
        net.edit(ALICE, &room, 0, "x").await;
        net.seal(ALICE, &room).await;
    }
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    let reader = net.rooms("b.example").reader().clone();
    net.until(|| async { reader.order(&room, &messages[4]).await.unwrap().is_some() })
        .await;
    let mut orders = Vec::new();
    for id in &messages {
        orders.push(reader.order(&room, id).await.unwrap().unwrap());
    }
    assert!(
        orders.is_sorted() && orders.iter().all(|order| *order < 0),
        "{orders:?}"
    );
    // Backward from the newest event, page by page, to the first one.
    let (mut from, mut back) = (None, Vec::new());
    loop {
        let page = reader.timeline(&room, from, Direction::Backward, Types::WithoutUpdates, 3);
        let page = page.await.unwrap();
        back.extend(page.events.iter().map(|event| event.pdu.clone()));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(back.last().unwrap().kind(), "m.room.create");
    let seen = reader.visible_to_user(&room, &user(BOB), back).await.unwrap();
    let seen: Vec<_> = seen.iter().rev().filter(|pdu| pdu.kind() == "m.room.message").collect();
    assert_eq!(seen.iter().map(|pdu| pdu.event_id()).collect::<Vec<_>>(), messages);
}

#[tokio::test]
async fn a_redaction_received_before_its_target_applies_when_the_target_arrives() {
    for together in [false, true] {
        let net = Net::new(&["a.example", "b.example"]).await;
        let room = net.document(ALICE, &RoomVersionId::V12).await;
        net.invite_and_join(ALICE, BOB, &room, 25).await;
        net.quiet(&room).await;
        let a = net.rooms("a.example");
        let heads = a.reader().extremities(&room).await.unwrap();
        let target = net
            .forge(
                BOB,
                &room,
                heads.clone(),
                "m.room.message",
                None,
                json!({ "body": "secret" }),
            )
            .await;
        let id = target.pdu().event_id().to_owned();
        let redaction = net
            .forge(BOB, &room, heads, "m.room.redaction", None, json!({ "redacts": id }))
            .await;
        let redaction_id = redaction.pdu().event_id().to_owned();
        let b = user(BOB).server_name().to_owned();
        if together {
            a.receive(&b, vec![redaction, target]).await.unwrap();
        } else {
            a.receive(&b, vec![redaction]).await.unwrap();
            net.until(|| async { a.reader().order(&room, &redaction_id).await.unwrap().is_some() })
                .await;
            a.receive(&b, vec![target]).await.unwrap();
        }
        net.until(|| async { a.reader().order(&room, &id).await.unwrap().is_some() })
            .await;
        let stored = a.reader().event(Some(&room), &id).await.unwrap().unwrap();
        assert!(!stored.json().contains("secret"), "{}", stored.json());
    }
}

/// Any member may send a redaction of any event. Without the target, servers can't decide which redactions are
/// effective: many ineffective ones must not hide an effective one.
#[tokio::test]
async fn many_ineffective_redactions_do_not_hide_an_effective_one() {
    const CAROL: &str = "@carol:c.example";
    let net = Net::new(&["a.example", "b.example", "c.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.invite_and_join(ALICE, CAROL, &room, 25).await;
    net.quiet(&room).await;
    let a = net.rooms("a.example");
    let heads = a.reader().extremities(&room).await.unwrap();
    let secret = json!({ "body": "secret" });
    let target = net
        .forge(BOB, &room, heads.clone(), "m.room.message", None, secret)
        .await;
    let id = target.pdu().event_id().to_owned();
    let forge = async |sender, number: i32| {
        let content = json!({ "redacts": id, "reason": number.to_string() });
        net.forge(sender, &room, heads.clone(), "m.room.redaction", None, content)
            .await
    };
    let mut redactions = Vec::new();
    for number in 0..25 {
        redactions.push(forge(CAROL, number).await);
    }
    // They are stored in the order of their ids: the effective one must be the last.
    let last = redactions
        .iter()
        .map(|redaction| redaction.pdu().event_id().to_owned())
        .max();
    for number in 0.. {
        let effective = forge(BOB, number).await;
        if Some(effective.pdu().event_id()) > last.as_deref() {
            redactions.push(effective);
            break;
        }
    }
    for redaction in redactions {
        let (id, sender) = (
            redaction.pdu().event_id().to_owned(),
            redaction.pdu().sender().to_owned(),
        );
        a.receive(sender.server_name(), vec![redaction]).await.unwrap();
        net.until(|| async { a.reader().order(&room, &id).await.unwrap().is_some() })
            .await;
    }
    a.receive(user(BOB).server_name(), vec![target]).await.unwrap();
    net.until(|| async { a.reader().order(&room, &id).await.unwrap().is_some() })
        .await;
    let stored = a.reader().event(Some(&room), &id).await.unwrap().unwrap();
    assert!(!stored.json().contains("secret"), "{}", stored.json());
}

#[tokio::test]
async fn the_right_to_redact_follows_from_the_power_levels_at_the_redaction() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    net.quiet(&room).await;
    let target = net.message(ALICE, &room, "secret").await;
    net.quiet(&room).await;
    let heads = net.rooms("b.example").reader().extremities(&room).await.unwrap();
    let content = json!({ "redacts": target });
    let redaction = net.forge(BOB, &room, heads, "m.room.redaction", None, content).await;
    // One server receives it before Bob's loss of power, the other afterwards.
    net.network().cut();
    let b = net.rooms("b.example");
    b.receive(user(BOB).server_name(), vec![redaction.clone()])
        .await
        .unwrap();
    net.power(ALICE, &room, BOB, 25).await;
    net.heal(1).await;
    net.rooms("a.example")
        .receive(user(BOB).server_name(), vec![redaction.clone()])
        .await
        .unwrap();
    let id = redaction.pdu().event_id();
    for server in ["a.example", "b.example"] {
        let reader = net.rooms(server).reader().clone();
        net.until(|| async { reader.order(&room, id).await.unwrap().is_some() })
            .await;
        let stored = reader.event(Some(&room), &target).await.unwrap().unwrap();
        assert!(!stored.json().contains("secret"), "{server}: {}", stored.json());
    }
}

/// A server that joined recently and has no history yet can still accept joins: the text before a join is the current
/// text.
#[tokio::test]
async fn the_text_before_the_newest_events_needs_no_backfill() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.edit(ALICE, &room, 0, "Hello").await;
    net.seal(ALICE, &room).await;
    net.power(ALICE, &room, BOB, 25).await;
    net.invite(ALICE, BOB, &room).await;
    let joined = net.join_answer(BOB, &room).await;
    let join = joined.event.pdu().event_id().to_owned();
    net.network().cut();
    let b = net.rooms("b.example");
    b.adopt(joined).await.unwrap();
    net.message(BOB, &room, "hello").await;
    let before = b.content(&room, Some(std::slice::from_ref(&join))).await.unwrap();
    assert_eq!(before, b.content(&room, None).await.unwrap());
    // This does not hold if something was written since.
    net.heal(1).await;
    net.quiet(&room).await;
    net.edit(BOB, &room, 5, "!").await;
    net.quiet(&room).await;
    let after = b.content(&room, None).await.unwrap();
    if let Ok(then) = b.content(&room, Some(&[join])).await {
        assert!(then == before && then != after, "the text at the join");
    }
}

/// During a join, transactions of other servers wait for it: the resident server already treats this server as joined.
#[tokio::test]
async fn events_received_during_a_join_wait_for_it() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite(ALICE, BOB, &room).await;
    let b = net.rooms("b.example");
    b.until_joined(&room).await;
    let joining = b.joining(&room);
    let joined = net.join_answer(BOB, &room).await;
    let waiting = b.until_joined(&room);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    b.adopt(joined).await.unwrap();
    drop(joining);
    waiting.await;
    b.until_joined(&room).await;
    assert!(b.reader().version(&room).await.unwrap().is_some());
}

/// A join references events that this server misses, and the joining server, which isn't in the room yet, can't return
/// them: other servers in the room can.
#[tokio::test]
async fn a_join_over_a_gap_leaves_no_gap_in_the_text() {
    let net = Net::new(&["a.example", "b.example", "c.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    let public = json!({ "join_rule": "public" });
    net.state_event(ALICE, &room, "m.room.join_rules", public)
        .await
        .unwrap();
    net.quiet(&room).await;
    net.network().cut();
    net.edit(BOB, &room, 0, "missed ").await;
    net.seal(BOB, &room).await;
    net.topic(BOB, &room, "missed too").await;
    net.lose();
    net.heal(1).await;
    let heads = net.rooms("b.example").reader().extremities(&room).await.unwrap();
    let join = json!({ "membership": "join" });
    let event = net.forge(CAROL, &room, heads, "m.room.member", Some(CAROL), join).await;
    let a = net.rooms("a.example");
    a.accept_membership(user(CAROL).server_name(), event).await.unwrap();
    net.until(|| async { net.text("a.example", &room).await == "missed " })
        .await;
}

/// The history is fetched from another server in the room if the resident server does not return it.
#[tokio::test]
async fn the_history_is_fetched_from_another_server_if_one_refuses_it() {
    let net = Net::new(&["a.example", "b.example", "c.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    let message = net.message(ALICE, &room, "early").await;
    net.invite(ALICE, BOB, &room).await;
    let mut joined = net.join_answer(BOB, &room).await;
    joined.resident = user(CAROL).server_name().to_owned();
    let b = net.rooms("b.example");
    b.adopt(joined).await.unwrap();
    net.until(|| async { b.reader().order(&room, &message).await.unwrap().is_some() })
        .await;
}

/// A server without history can't decide by itself that an event is older than its join.
#[tokio::test]
async fn early_events_that_are_sent_again_are_not_extremities() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    for topic in ["old", "older than the join"] {
        net.topic(ALICE, &room, topic).await;
    }
    net.network().refuse_history(true);
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    let (a, b) = (net.rooms("a.example"), net.rooms("b.example"));
    let first = a
        .reader()
        .timeline(&room, None, Direction::Forward, Types::All, 12)
        .await
        .unwrap();
    let version = RoomVersion::new(&RoomVersionId::V12).unwrap();
    for event in first.events {
        let again = check(&event.pdu, &version);
        b.receive(user(ALICE).server_name(), vec![again]).await.unwrap();
    }
    let message = net.message(ALICE, &room, "new").await;
    net.until(|| async { b.reader().order(&room, &message).await.unwrap().is_some() })
        .await;
    assert_eq!(b.reader().extremities(&room).await.unwrap(), [message]);
    assert_eq!(net.state("a.example", &room).await, net.state("b.example", &room).await);
    net.network().refuse_history(false);
    net.edit(BOB, &room, 0, "written").await;
    net.seal(BOB, &room).await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
}

/// A server must not replace a complete event by a copy without content: with its create event it would lose the room.
#[tokio::test]
async fn a_redacted_copy_of_a_complete_event_changes_nothing() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V10).await;
    net.message(ALICE, &room, "before").await;
    net.network().redact_history();
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    let reader = net.rooms("b.example").reader().clone();
    let create = reader
        .state(&room)
        .await
        .unwrap()
        .unwrap()
        .create()
        .unwrap()
        .event_id()
        .to_owned();
    net.until(|| async { reader.order(&room, &create).await.unwrap().is_some() })
        .await;
    let stored = reader.stored_event(&room, &create).await.unwrap().unwrap();
    assert!(stored.is_visible() && !stored.pdu.rejected());
    assert!(
        stored.pdu.content().get().contains(r#""room_version":"10""#),
        "{}",
        stored.pdu.json()
    );
    net.leave(BOB, &room).await;
    net.quiet(&room).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.edit(BOB, &room, 0, "still here").await;
    net.seal(BOB, &room).await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
}

/// W16: a redaction of an event of another room has no effect there, and no timeline shows it.
#[tokio::test]
async fn a_redaction_of_another_rooms_event_is_not_shown() {
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let net = Net::new(&["a.example", "b.example"]).await;
        let (room, other) = (net.document(ALICE, &version).await, net.document(ALICE, &version).await);
        let secret = net.message(ALICE, &other, "kept").await;
        let own = net.message(ALICE, &room, "here").await;
        net.invite_and_join(ALICE, BOB, &room, 100).await;
        net.quiet(&room).await;
        let a = net.rooms("a.example");
        for (target, shown) in [(&secret, false), (&own, true)] {
            let heads = a.reader().extremities(&room).await.unwrap();
            let redaction = net.forge_redaction(BOB, &room, heads, target).await;
            let id = redaction.pdu().event_id().to_owned();
            a.receive(user(BOB).server_name(), vec![redaction]).await.unwrap();
            net.until(async || a.reader().stored_event(&room, &id).await.unwrap().is_some())
                .await;
            let page = a
                .reader()
                .timeline(&room, None, Direction::Backward, Types::All, 10)
                .await
                .unwrap();
            let events = page.events.into_iter().map(|event| event.pdu).collect();
            let seen = a.reader().visible_to_user(&room, &user(ALICE), events).await.unwrap();
            assert_eq!(seen.iter().any(|pdu| pdu.event_id() == id), shown, "{version}");
        }
        let kept = a.reader().event(Some(&other), &secret).await.unwrap().unwrap();
        assert!(kept.json().contains("kept"));
    }
}
