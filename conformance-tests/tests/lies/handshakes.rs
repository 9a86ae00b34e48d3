//! Attacks on joins, leaves, knocks and invitations: what a server is asked to sign, and what it receives about a room.
//! Must not use a client.

use anyhow::Result;
use reqwest::Method;
use ruma::RoomVersionId;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    malicious::{Room, json_reply},
};

use crate::stage::Stage;

async fn invite(
    stage: &Stage,
    room: &Room,
    event: &Value,
    state: Value,
) -> Result<weft_conformance_tests::client::Answer> {
    let path = format!(
        "/_matrix/federation/v2/invite/{}/{}",
        segment(&room.id),
        segment(&room.id_of(event)?)
    );
    let body = json!({ "room_version": room.version, "event": event, "invite_room_state": state });
    stage
        .malicious
        .ask(stage.server(), Method::PUT, &path, Some(&body))
        .await
}

fn create_of(room: &Room) -> Value {
    room.events[&room.state[&("m.room.create".to_owned(), String::new())]].clone()
}

/// T31: stripped state that is missing, too much, too large, or of another room is refused.
#[tokio::test]
async fn t31_an_invitation_with_malformed_stripped_state_is_refused() -> Result<()> {
    let stage = Stage::new().await?;
    let (_, room, mallory) = stage.room_of_mallory(&RoomVersionId::V12)?;
    let room = room.lock().clone();
    let other = Room::create(&stage.malicious, &RoomVersionId::V12, &mallory)?;
    let create = create_of(&room);
    let content = json!({ "membership": "invite" });
    let event = room.event(
        &stage.malicious,
        &mallory,
        "m.room.member",
        Some(&stage.alice.user),
        content,
    )?;
    let name = json!({ "type": "m.room.name", "state_key": "", "sender": mallory, "content": { "name": "x" } });
    let huge = json!({ "type": "m.room.name", "state_key": "", "sender": mallory, "content": { "name": "x".repeat(5_000_000) } });
    for (what, state) in [
        ("none", json!([])),
        ("no create event", json!([name])),
        ("another room's", json!([create_of(&other)])),
        ("two of them", json!([create, create_of(&other)])),
        (
            "stripped",
            json!([{ "type": "m.room.create", "state_key": "", "sender": mallory, "content": create["content"] }]),
        ),
        (
            "a thousand",
            Value::Array(
                std::iter::once(create.clone())
                    .chain(vec![name.clone(); 1_000])
                    .collect(),
            ),
        ),
        ("5 MB", json!([create, huge])),
        ("no events", json!([create, 5])),
    ] {
        let answer = invite(&stage, &room, &event, state).await?;
        assert!(
            answer.status.is_client_error(),
            "{what}: {} {}",
            answer.status,
            answer.body
        );
    }
    let sync = stage.alice.get("/_matrix/client/v3/sync?timeout=0").await?;
    assert!(!sync.to_string().contains(&room.id), "{sync}");
    // A malformed additional entry has no effect.
    let odd = json!({ "type": "m.room.name", "state_key": "", "sender": mallory, "content": { "name": ["x"] } });
    invite(&stage, &room, &event, json!([create, odd])).await?.ok()?;
    let sync = stage.alice.get("/_matrix/client/v3/sync?timeout=0").await?;
    assert!(sync["rooms"]["invite"][&room.id].is_object(), "{sync}");
    Ok(())
}

/// T32: only an invitation of a user of the origin to a user of this server is signed.
#[tokio::test]
async fn t32_only_an_invitation_is_signed() -> Result<()> {
    let stage = Stage::new().await?;
    let (_, room, mallory) = stage.room_of_mallory(&RoomVersionId::V12)?;
    let room = room.lock().clone();
    let (alice, eve) = (stage.alice.user.clone(), stage.malicious.user("eve"));
    let mut cases = Vec::new();
    for membership in ["leave", "ban", "join", "knock", "dancing"] {
        for (sender, target) in [(&mallory, &alice), (&alice, &alice)] {
            cases.push((sender.clone(), "m.room.member", target.clone(), membership));
        }
    }
    cases.push((alice.clone(), "m.room.member", alice.clone(), "invite"));
    cases.push((mallory.clone(), "m.room.member", eve, "invite"));
    cases.push((mallory.clone(), "m.room.power_levels", String::new(), "invite"));
    cases.push((mallory.clone(), "m.room.third_party_invite", alice.clone(), "invite"));
    for (sender, kind, key, membership) in cases {
        let content = json!({ "membership": membership });
        let mut event = room.draft(&sender, "m.room.member", Some(&key), content)?;
        event["type"] = json!(kind);
        let event = stage.malicious.sign(&event, &room.version)?;
        let answer = invite(&stage, &room, &event, json!([create_of(&room)])).await?;
        assert!(
            answer.status.is_client_error(),
            "{sender} {kind} {membership}: {}",
            answer.status
        );
        assert!(!answer.body.to_string().contains("ed25519:"), "signed: {}", answer.body);
    }
    Ok(())
}

/// T33: for any template, the signed event is alice's own join of that room, or nothing.
#[tokio::test]
async fn t33_a_template_is_not_signed_unchecked() -> Result<()> {
    let stage = Stage::new().await?;
    let alice = stage.alice.user.clone();
    let changes = [
        json!({ "type": "m.room.power_levels", "state_key": "" }),
        json!({ "sender": "@admin:example.org" }),
        json!({ "state_key": "@admin:example.org" }),
        json!({ "room_id": "!elsewhere:example.org" }),
        json!({ "content": { "membership": "ban", "users": { "@x:example.org": 100 } } }),
        json!({ "content": { "membership": "join", "reason": "signed for me", "third_party_invite": {} } }),
        json!({ "redacts": "$x", "unsigned": { "a": 1 }, "hashes": { "sha256": "x" } }),
    ];
    for change in changes {
        let (id, room, _) = stage.room_of_mallory(&RoomVersionId::V12)?;
        let (hosted, changed) = (room.clone(), change.clone());
        stage
            .malicious
            .answers("/_matrix/federation/v1/make_join/", move |asked| {
                let mut template = hosted.lock().join_template(&asked.segment_from_end(0)).unwrap();
                for (field, value) in changed.as_object().unwrap() {
                    template["event"][field] = value.clone();
                }
                json_reply(&template)
            });
        let via = segment(stage.malicious.name().as_str());
        let path = format!("/_matrix/client/v3/join/{}?via={via}&server_name={via}", segment(&id));
        stage.alice.request(Method::POST, &path, Some(json!({}))).await?;
        for asked in stage.malicious.asked("/_matrix/federation/v2/send_join/") {
            let event = &asked.body;
            assert_eq!(
                (&event["type"], &event["sender"], &event["state_key"]),
                (&json!("m.room.member"), &json!(alice), &json!(alice)),
                "{change}"
            );
            assert_eq!(event["room_id"], json!(asked.segment_from_end(1)), "{change}");
            let content = event["content"].as_object().unwrap();
            assert_eq!(content["membership"], "join", "{change}");
            assert!(
                content
                    .keys()
                    .all(|key| ["membership", "displayname", "avatar_url"].contains(&key.as_str())),
                "{event}"
            );
            assert!(
                event.get("redacts").is_none() && event.get("unsigned").is_none(),
                "{event}"
            );
        }
        stage.malicious.answers_no_more("/_matrix/federation/v1/make_join/");
        stage.malicious.forget();
    }
    Ok(())
}

/// T30: a room has the version of its create event, whatever else is claimed.
#[tokio::test]
async fn t30_a_room_whose_version_differs_from_the_claimed_one_is_not_joined() -> Result<()> {
    let stage = Stage::new().await?;
    for (real, claimed) in [
        ("11", "10"),
        ("11", "12"),
        ("12", "11"),
        ("10", "1"),
        ("10", "org.example.new"),
    ] {
        let (id, room, _) = stage.room_of_mallory(&RoomVersionId::try_from(real)?)?;
        let hosted = room.clone();
        stage
            .malicious
            .answers("/_matrix/federation/v1/make_join/", move |asked| {
                let mut template = hosted.lock().join_template(&asked.segment_from_end(0)).unwrap();
                template["room_version"] = json!(claimed);
                json_reply(&template)
            });
        let via = segment(stage.malicious.name().as_str());
        let path = format!("/_matrix/client/v3/join/{}?via={via}&server_name={via}", segment(&id));
        let answer = stage.alice.request(Method::POST, &path, Some(json!({}))).await?;
        assert!(!answer.status.is_success(), "{real} as {claimed}: {}", answer.body);
        let rooms = stage.alice.get("/_matrix/client/v3/joined_rooms").await?;
        assert!(!rooms.to_string().contains(&id), "{rooms}");
        stage.malicious.answers_no_more("/_matrix/federation/v1/make_join/");
    }
    Ok(())
}

/// T22: the response to a join contains half of the state, or only what the join needs.
#[tokio::test]
async fn t22_a_join_response_with_half_of_the_state_is_refused_or_gives_a_usable_room() -> Result<()> {
    let stage = Stage::new().await?;
    for kept in [
        vec![],
        vec!["m.room.create"],
        vec!["m.room.create", "m.room.join_rules"],
    ] {
        let (id, room, mallory) = stage.room_of_mallory(&RoomVersionId::V12)?;
        let hosted = room.clone();
        let keep = kept.clone();
        stage
            .malicious
            .answers("/_matrix/federation/v2/send_join/", move |asked| {
                let mut room = hosted.lock();
                let mut state = room.state_events();
                let chain = room.auth_chain(&state);
                state.retain(|event| keep.contains(&event["type"].as_str().unwrap()));
                room.take(&asked.body).unwrap();
                json_reply(&json!({ "origin": "x", "state": state, "auth_chain": chain, "event": asked.body }))
            });
        let via = segment(stage.malicious.name().as_str());
        let path = format!("/_matrix/client/v3/join/{}?via={via}&server_name={via}", segment(&id));
        let answer = stage.alice.request(Method::POST, &path, Some(json!({}))).await?;
        if answer.status.is_success() {
            let levels = Client::in_room(&id, "state/m.room.power_levels");
            let levels = stage.alice.request(Method::GET, &levels, None).await?;
            assert_eq!(levels.status, 404, "missing state is not invented: {}", levels.body);
        } else {
            let rooms = stage.alice.get("/_matrix/client/v3/joined_rooms").await?;
            assert!(!rooms.to_string().contains(&id), "{rooms}");
        }
        stage.malicious.answers_no_more("/_matrix/federation/v2/send_join/");
        // Alice's server is not affected: another room of the same server can be joined.
        let (id, room, _) = stage.room_of_mallory(&RoomVersionId::V12)?;
        stage.alice.join(&id, Some(stage.malicious.name().as_str())).await?;
        let mut seen = room.lock().clone();
        stage.goes_on(&mut seen, &mallory).await?;
    }
    Ok(())
}

/// T35: the room or event of the URL differs from that of the body.
#[tokio::test]
async fn t35_a_path_that_differs_from_the_body_is_refused() -> Result<()> {
    let stage = Stage::new().await?;
    let (_, room, _) = stage.room_of_alice("11").await?;
    let (other, _, _) = stage.room_of_alice("11").await?;
    let eve = stage.malicious.user("eve");
    let content = json!({ "membership": "join" });
    let event = room.event(&stage.malicious, &eve, "m.room.member", Some(&eve), content)?;
    let id = room.id_of(&event)?;
    let elsewhere = format!("${}", "x".repeat(43));
    for endpoint in ["v2/send_join", "v2/send_leave", "v1/send_knock"] {
        for (room, event_id) in [(&other, &id), (&room.id, &elsewhere)] {
            let path = format!("/_matrix/federation/{endpoint}/{}/{}", segment(room), segment(event_id));
            let answer = stage
                .malicious
                .ask(stage.server(), Method::PUT, &path, Some(&event))
                .await?;
            assert!(answer.status.is_client_error(), "{path}: {}", answer.status);
        }
    }
    for room in [&room.id, &other] {
        assert_eq!(stage.alice.membership_of(room, &eve).await?, None);
    }
    Ok(())
}

/// T38: a restricted join that is authorised by a server that isn't in the room, or by none.
#[tokio::test]
async fn t38_a_restricted_join_authorised_by_the_wrong_server_is_refused() -> Result<()> {
    let stage = Stage::new().await?;
    let allowed = stage.alice.create_room(json!({ "preset": "private_chat" })).await?;
    let (id, mut room, mallory) = stage.room_of_alice("12").await?;
    let rule = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": allowed }] });
    stage
        .alice
        .put(&Client::in_room(&id, "state/m.room.join_rules"), rule)
        .await?;
    room.catch_up(&stage.malicious, stage.server(), &mallory).await?;
    let eve = stage.malicious.user("eve");
    let stranger = "@authoriser:127.0.0.1:1".to_owned();
    for authoriser in [None, Some(stranger), Some(stage.alice.user.clone()), Some(eve.clone())] {
        let mut content = json!({ "membership": "join" });
        if let Some(authoriser) = &authoriser {
            content["join_authorised_via_users_server"] = json!(authoriser);
        }
        let event = room.event(&stage.malicious, &eve, "m.room.member", Some(&eve), content)?;
        let path = format!(
            "/_matrix/federation/v2/send_join/{}/{}",
            segment(&id),
            segment(&room.id_of(&event)?)
        );
        let answer = stage
            .malicious
            .ask(stage.server(), Method::PUT, &path, Some(&event))
            .await?;
        assert!(
            answer.status.is_client_error(),
            "{authoriser:?}: {} {}",
            answer.status,
            answer.body
        );
        stage.malicious.transaction(stage.server(), &[event], &[]).await?.ok()?;
    }
    stage.goes_on(&mut room, &mallory).await?;
    assert_eq!(stage.alice.membership_of(&id, &eve).await?, None);
    Ok(())
}
