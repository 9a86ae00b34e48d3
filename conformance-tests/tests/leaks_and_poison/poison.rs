//! T65 (and T37): a room with malformed state affects neither the sync of other rooms nor the room itself. Must not
//! rely on a client to ignore it.

use anyhow::Result;
use reqwest::Method;
use ruma::RoomVersionId;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    malicious::Room,
};

use crate::stage::Stage;

/// State that the authorization rules allow, and that is malformed in every other way.
fn poison() -> Vec<(&'static str, &'static str, Value)> {
    let mut nested = json!(1);
    for _ in 0..100 {
        nested = json!([nested]);
    }
    vec![
        ("m.room.name", "", json!({ "name": 5 })),
        ("m.room.topic", "", json!({ "topic": nested })),
        ("m.room.avatar", "", json!({ "url": [], "info": "x" })),
        ("m.room.canonical_alias", "", json!({ "alias": 7, "alt_aliases": "x" })),
        ("m.room.guest_access", "", json!({ "guest_access": {} })),
        ("m.room.encryption", "", json!({ "algorithm": null })),
        ("m.room.pinned_events", "", json!({ "pinned": { "a": 1 } })),
        ("m.room.tombstone", "", json!({ "replacement_room": 5, "body": [] })),
        (
            "m.room.history_visibility",
            "",
            json!({ "history_visibility": "dev.weft.unknown" }),
        ),
        ("m.space.child", "!x:y", json!({ "via": "x", "order": 5 })),
        (
            "dev.weft.document",
            "",
            json!({ "kind": 3, "schema_version": "x", "format": [] }),
        ),
        ("m.room.third_party_invite", "t", json!({ "display_name": 1 })),
        ("m.room.name", "not empty", json!({ "name": "x" })),
        ("\u{202e}\u{0}", "\u{0}", json!({ "": { "": null } })),
    ]
}

async fn poisoned(stage: &Stage, version: &RoomVersionId) -> Result<String> {
    let mallory = stage.malicious.user("mallory");
    let mut room = Room::create(&stage.malicious, version, &mallory)?;
    for (kind, key, content) in poison() {
        room.send(&stage.malicious, &mallory, kind, Some(key), content)?;
    }
    let odd = json!({ "membership": "join", "displayname": { "a": 1 }, "avatar_url": 3, "reason": [] });
    room.send(&stage.malicious, &mallory, "m.room.member", Some(&mallory), odd)?;
    let id = room.id.clone();
    let room = stage.malicious.host(room);
    stage.alice.join(&id, Some(stage.malicious.name().as_str())).await?;
    let mut events = Vec::new();
    {
        let mut room = room.lock();
        for content in [
            json!({}),
            json!({ "msgtype": 1, "body": {} }),
            json!({ "m.relates_to": "x", "m.new_content": 5 }),
        ] {
            let event_id = room.send(&stage.malicious, &mallory, "m.room.message", None, content)?;
            events.push(room.events[&event_id].clone());
        }
        let updates = json!({ "update": 5, "clients": "x" });
        let event_id = room.send(&stage.malicious, &mallory, "dev.weft.update", None, updates)?;
        events.push(room.events[&event_id].clone());
        // The unknown join rule is last: it would have prevented alice's join.
        let rule = room.send(
            &stage.malicious,
            &mallory,
            "m.room.join_rules",
            Some(""),
            json!({ "join_rule": "dev.weft.x" }),
        )?;
        events.push(room.events[&rule].clone());
    }
    stage.malicious.transaction(stage.server(), &events, &[]).await?.ok()?;
    Ok(id)
}

/// An invitation with malformed stripped state.
async fn odd_invitation(stage: &Stage) -> Result<()> {
    let mallory = stage.malicious.user("mallory");
    let room = Room::create(&stage.malicious, &RoomVersionId::V11, &mallory)?;
    let alice = &stage.alice.user;
    let event = room.event(
        &stage.malicious,
        &mallory,
        "m.room.member",
        Some(alice),
        json!({ "membership": "invite" }),
    )?;
    let shown = json!([
        { "type": "m.room.name", "state_key": "", "sender": "x", "content": { "name": 5 } },
        { "type": "m.room.member", "state_key": alice, "sender": mallory, "content": 3 },
        { "type": "m.room.topic" },
        { "type": "", "content": {} },
        { "type": "dev.weft.document", "state_key": "", "sender": mallory, "content": { "kind": [] } },
    ]);
    let body = json!({ "room_version": "11", "event": event, "invite_room_state": shown });
    let path = format!(
        "/_matrix/federation/v2/invite/{}/{}",
        segment(&room.id),
        segment(&room.id_of(&event)?)
    );
    let answer = stage
        .malicious
        .ask(stage.server(), Method::PUT, &path, Some(&body))
        .await?;
    assert!(
        matches!(answer.status.as_u16(), 200 | 400),
        "{}: {}",
        answer.status,
        answer.body
    );
    Ok(())
}

#[tokio::test]
async fn t65_poisoned_rooms_affect_no_other_and_can_be_left() -> Result<()> {
    let stage = Stage::new().await?;
    let alice = &stage.alice;
    let (good, ..) = stage.room_of_alice("12").await?;
    let document = alice.create_document("Good").await?;
    let mut since = None;
    alice
        .sync_until("the good room", &mut since, |sync| {
            sync["rooms"]["join"].get(&good).map(|_| ())
        })
        .await?;
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let bad = poisoned(&stage, &version).await?;
        odd_invitation(&stage).await?;
        alice.say(&good, &format!("beside {version}")).await?;
        let word = format!("beside {version}");
        alice
            .sync_until("new events of the good room", &mut since, |sync| {
                sync["rooms"]["join"][&good].to_string().contains(&word).then_some(())
            })
            .await?;
        let first = alice.get("/_matrix/client/v3/sync?timeout=0").await?;
        for room in [&good, &document, &bad] {
            assert!(first["rooms"]["join"].get(room).is_some(), "{room} is missing");
        }
        let list = alice.get("/_weft/client/v1/documents").await?;
        assert!(list.to_string().contains(&document), "{list}");
        alice.get("/_matrix/client/v3/joined_rooms").await?;
        alice
            .post(
                "/_matrix/client/v3/user_directory/search",
                json!({ "search_term": "m" }),
            )
            .await?;
        for what in [
            "state",
            "members",
            "joined_members",
            "messages?dir=b&limit=100",
            "aliases",
        ] {
            alice.get(&Client::in_room(&bad, what)).await?;
        }
        let shown = alice
            .request(
                Method::GET,
                &format!("/_weft/client/v1/documents/{}", segment(&bad)),
                None,
            )
            .await?;
        assert!(!shown.status.is_server_error(), "{}", shown.body);
        alice.post(&Client::in_room(&bad, "leave"), json!({})).await?;
        alice
            .sync_until("having left", &mut since, |sync| {
                sync["rooms"]["leave"].get(&bad).map(|_| ())
            })
            .await?;
    }
    Ok(())
}
