//! Two servers over TLS on loopback: keys, events, handshakes, transactions; the second one can be malicious.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests fail by panicking, and a table of cases stays in one function"
)]

#[path = "servers/peer.rs"]
mod peer;
#[path = "servers/room.rs"]
mod room;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post, put},
};
use ruma::{CanonicalJsonObject, OwnedEventId, OwnedUserId, RoomVersionId};
use serde_json::{Value, json};
use weft_federation::{
    CallError, DiscoveryError, Initiator,
    handshake::{HandshakeError, PastMemberships, Wanted},
    verify_request,
};

use peer::{reserve, us, us_with};
use room::{Room, member, sign, signer_of, with};

fn alpha() -> &'static ruma::ServerName {
    ruma::server_name!("alpha.test")
}

/// The requester of a lookup.
fn initiator() -> Initiator {
    Initiator::User(ruma::user_id!("@alice:alpha.test").to_owned())
}

fn wanted(room: &Room, via: &ruma::ServerName) -> Wanted {
    Wanted {
        room_id: room.room_id(),
        via: vec![via.to_owned()],
        user: OwnedUserId::try_from("@alice:alpha.test").unwrap(),
        content: with(
            json!({ "displayname": "Alice", "join_authorised_via_users_server": "@x:y.test", "membership": "ban" }),
        ),
    }
}

/// The membership event of a membership that has ended.
const ENDED_STAY: &str = "$an-ended-stay-an-ended-stay-an-ended-stay-x";

/// Knows that this membership has ended.
struct Left;

#[async_trait]
impl PastMemberships for Left {
    async fn has_ended(&self, _: &Wanted, cited: &[OwnedEventId]) -> bool {
        cited.iter().any(|id| id == ENDED_STAY)
    }

    async fn deliver(&self, _: &ruma::ServerName) -> bool {
        false
    }
}

/// The responses of the second server to make_join and send_join.
#[derive(Clone)]
struct Joining {
    room: Arc<Room>,
    template: Value,
    version: Value,
    /// Changes the response to send_join.
    change_answer: fn(&Room, &mut Value),
    sent: Arc<std::sync::Mutex<Option<Value>>>,
}

async fn make_join(State(joining): State<Joining>) -> Json<Value> {
    Json(json!({ "room_version": joining.version, "event": joining.template }))
}

async fn send_join(State(joining): State<Joining>, Json(event): Json<Value>) -> Json<Value> {
    *joining.sent.lock().unwrap() = Some(event.clone());
    let mut answer = json!({
        "state": joining.room.state(), "auth_chain": joining.room.state(), "event": event, "origin": "x",
    });
    (joining.change_answer)(&joining.room, &mut answer);
    Json(answer)
}

fn join_router(joining: Joining) -> Router {
    Router::new()
        .route("/_matrix/federation/v1/make_join/{room}/{user}", get(make_join))
        .route("/_matrix/federation/v2/send_join/{room}/{event}", put(send_join))
        .route("/_weft/federation/v1/document/{room}", get(document))
        .merge(joining.room.keys())
        .with_state(joining)
}

async fn document(State(joining): State<Joining>) -> Json<Value> {
    Json(json!({ "room_id": joining.room.room_id(), "at": [], "update": "AAA" }))
}

async fn join(
    version: &RoomVersionId,
    change: impl FnOnce(&Room, &mut Value, &mut Value),
    change_answer: fn(&Room, &mut Value),
) -> (
    Result<weft_federation::handshake::Joined, HandshakeError>,
    Option<Value>,
) {
    let reserved = reserve();
    let name = reserved.name.clone();
    let room = Arc::new(Room::document(version, &name));
    let mut template = room.join_template("@alice:alpha.test");
    let mut named = json!(version);
    change(&room, &mut template, &mut named);
    let sent = Arc::default();
    let joining = Joining {
        room: Arc::clone(&room),
        template,
        version: named,
        change_answer,
        sent: Arc::clone(&sent),
    };
    let _peer = reserved.serve(&["127.0.0.1"], join_router(joining));
    let us = us(alpha());
    let result = us.handshake.join(&wanted(&room, &name), &Left).await;
    let sent = sent.lock().unwrap().take();
    (result, sent)
}

#[tokio::test]
async fn a_join_returns_state_event_and_document() {
    for version in [
        RoomVersionId::V6,
        RoomVersionId::V10,
        RoomVersionId::V11,
        RoomVersionId::V12,
    ] {
        let (joined, sent) = join(&version, |_, _, _| {}, |_, _| {}).await;
        let joined = joined.unwrap();
        assert_eq!(joined.version, version);
        assert_eq!(joined.state.len(), 4);
        assert_eq!(joined.snapshot.as_deref(), Some([0_u8, 0].as_slice()));
        let event = joined.event.pdu();
        assert_eq!(
            (event.sender().as_str(), event.state_key()),
            ("@alice:alpha.test", Some("@alice:alpha.test"))
        );
        let content: Value = event.content_as().unwrap();
        assert_eq!(content, json!({ "membership": "join", "displayname": "Alice" }));
        assert_eq!(
            sent.unwrap()["signatures"]
                .as_object()
                .unwrap()
                .keys()
                .collect::<Vec<_>>(),
            ["alpha.test"]
        );
    }
}

/// T33: whatever the template contains, this server signs its own user's join to that room.
#[tokio::test]
async fn a_template_is_never_signed_as_received() {
    let (joined, sent) = join(
        &RoomVersionId::V11,
        |_, template, _| {
            template["type"] = json!("m.room.power_levels");
            template["sender"] = json!("@root:alpha.test");
            template["state_key"] = json!("");
            template["room_id"] = json!("!other:alpha.test");
            template["origin_server_ts"] = json!(1);
            template["redacts"] = json!("$x");
            template["hashes"] = json!({ "sha256": "x" });
            template["signatures"] = json!({ "alpha.test": {} });
            template["content"] = json!({
                "membership": "ban", "users": { "@evil:beta.test": 100 }, "third_party_invite": {},
                "join_authorised_via_users_server": "@root:alpha.test",
            });
            template["unsigned"] = json!({ "a": 1 });
        },
        |_, _| {},
    )
    .await;
    let sent = sent.unwrap();
    assert_eq!(sent["type"], "m.room.member");
    assert_eq!(sent["sender"], "@alice:alpha.test");
    assert_eq!(sent["state_key"], "@alice:alpha.test");
    assert_eq!(sent["room_id"], joined.unwrap().state[0].pdu().room_id().as_str());
    assert_eq!(sent["content"], json!({ "membership": "join", "displayname": "Alice" }));
    assert!(sent.get("redacts").is_none() && sent.get("unsigned").is_none());
}

/// With a server that has not received the leave, the join would be concurrent with the leave. No join is sent to it.
#[tokio::test]
async fn no_join_is_sent_for_a_template_based_on_an_ended_membership() {
    let (joined, sent) = join(
        &RoomVersionId::V11,
        |_, template, _| template["auth_events"][0] = json!(ENDED_STAY),
        |_, _| {},
    )
    .await;
    assert!(matches!(joined, Err(HandshakeError::Behind { .. })), "{joined:?}");
    assert!(sent.is_none());
}

/// F9: events that are queued for the server are sent first, and a server that is still processing them is tried
/// again: the user gets an error only if the refusal is final.
#[tokio::test]
async fn a_join_is_retried_while_the_server_processes_the_end_of_the_previous_membership() {
    struct Queued(std::sync::Mutex<Vec<String>>);
    #[async_trait]
    impl PastMemberships for Queued {
        async fn has_ended(&self, _: &Wanted, cited: &[OwnedEventId]) -> bool {
            cited.iter().any(|id| id == ENDED_STAY)
        }

        async fn deliver(&self, _: &ruma::ServerName) -> bool {
            self.0.lock().unwrap().push("delivered".to_owned());
            true
        }
    }
    // Three responses of a server that has not processed the queued events: an old template and two refusals.
    let stale: [fn(&Room) -> Response; 3] = [
        |room| {
            let mut template = room.join_template("@alice:alpha.test");
            template["auth_events"][0] = json!(ENDED_STAY);
            Json(json!({ "room_version": "11", "event": template })).into_response()
        },
        |_| {
            (
                StatusCode::FORBIDDEN,
                Json(json!({ "errcode": "M_FORBIDDEN", "error": "already joined" })),
            )
                .into_response()
        },
        |_| {
            (
                StatusCode::FORBIDDEN,
                Json(json!({ "errcode": "M_FORBIDDEN", "error": "already joined" })),
            )
                .into_response()
        },
    ];
    let reserved = reserve();
    let name = reserved.name.clone();
    let room = Arc::new(Room::document(&RoomVersionId::V11, &name));
    let stays = Arc::new(Queued(std::sync::Mutex::default()));
    let (requested, there) = (Arc::clone(&stays), Arc::clone(&room));
    let make_join = move || {
        let mut log = requested.0.lock().unwrap();
        let number = log.iter().filter(|entry| *entry == "make_join").count();
        log.push("make_join".to_owned());
        let answer = stale.get(number).map_or_else(
            || Json(json!({ "room_version": "11", "event": there.join_template("@alice:alpha.test") })).into_response(),
            |stale| stale(&there),
        );
        async move { answer }
    };
    let joining = Joining {
        room: Arc::clone(&room),
        template: Value::Null,
        version: Value::Null,
        change_answer: |_, _| {},
        sent: Arc::default(),
    };
    let router = Router::new()
        .route("/_matrix/federation/v1/make_join/{room}/{user}", get(make_join))
        .route("/_matrix/federation/v2/send_join/{room}/{event}", put(send_join))
        .route("/_weft/federation/v1/document/{room}", get(document))
        .merge(room.keys())
        .with_state(joining);
    let _peer = reserved.serve(&["127.0.0.1"], router);
    us(alpha())
        .handshake
        .join(&wanted(&room, &name), &*stays)
        .await
        .unwrap();
    let log = stays.0.lock().unwrap().clone();
    assert_eq!(log, ["delivered", "make_join", "make_join", "make_join", "make_join"]);
}

/// A user of another server may be named as authoriser; the authorisation rules check the name later.
#[tokio::test]
async fn the_authorising_user_of_a_restricted_join_is_copied_from_the_template() {
    let (joined, _) = join(
        &RoomVersionId::V11,
        |room, template, _| template["content"]["join_authorised_via_users_server"] = json!(room.creator()),
        |room, answer| answer["event"] = room.cosign(&answer["event"]),
    )
    .await;
    let joined = joined.unwrap();
    let event: Value = serde_json::from_str(joined.event.pdu().json()).unwrap();
    assert!(event["content"]["join_authorised_via_users_server"].is_string());
    assert_eq!(event["signatures"].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn invalid_templates_are_refused() {
    type Change = fn(&Room, &mut Value, &mut Value);
    let changes: [(&str, Change); 7] = [
        ("no version", |_, _, version| *version = Value::Null),
        ("version 1", |_, _, version| *version = json!("1")),
        ("a made-up version", |_, _, version| *version = json!("org.example.99")),
        ("21 previous events", |_, template, _| {
            template["prev_events"] = vec![format!("${}", "a".repeat(43)); 21].into();
        }),
        ("no previous events", |_, template, _| {
            template["prev_events"] = json!([])
        }),
        ("11 auth events", |_, template, _| {
            template["auth_events"] = vec![format!("${}", "a".repeat(43)); 11].into()
        }),
        ("not an event", |_, template, _| *template = json!("x")),
    ];
    for (name, change) in changes {
        let (joined, sent) = join(&RoomVersionId::V11, change, |_, _| {}).await;
        assert!(joined.is_err() && sent.is_none(), "{name}");
    }
}

/// T30, T34: each event in the response is checked, and the room must be the requested one.
#[tokio::test]
async fn forged_state_in_a_join_response_is_dropped() {
    let (joined, _) = join(
        &RoomVersionId::V11,
        |_, _, _| {},
        |room, answer| {
            let forged = room.forge(&answer["state"][0].clone());
            answer["state"].as_array_mut().unwrap().extend(forged.clone());
            answer["auth_chain"].as_array_mut().unwrap().extend(forged);
            answer["state"]
                .as_array_mut()
                .unwrap()
                .push(json!({ "type": "m.room.name" }));
        },
    )
    .await;
    let joined = joined.unwrap();
    assert_eq!((joined.state.len(), joined.auth_chain.len()), (4, 4));

    type ChangeAnswer = fn(&Room, &mut Value);
    let changes: [(&str, ChangeAnswer); 4] = [
        ("no create event", |_, answer| {
            _ = answer["state"].as_array_mut().unwrap().remove(0)
        }),
        ("two create events", |_, answer| {
            let twice = answer["state"][0].clone();
            answer["state"].as_array_mut().unwrap().push(twice);
        }),
        ("members omitted", |_, answer| answer["members_omitted"] = json!(true)),
        ("a room of version 10", |room, answer| {
            let server = room.server();
            let other = Room::document(&RoomVersionId::V10, &server);
            answer["state"] = json!(other.state());
        }),
    ];
    for (name, change_answer) in changes {
        let (joined, _) = join(&RoomVersionId::V11, |_, _, _| {}, change_answer).await;
        assert!(joined.is_err(), "{name}");
    }
    // The server returns another event than ours, or ours with a broken signature: our own copy is used.
    let (joined, sent) = join(
        &RoomVersionId::V11,
        |_, _, _| {},
        |room, answer| answer["event"] = room.state()[1].clone(),
    )
    .await;
    assert_eq!(joined.unwrap().event.pdu().sender(), "@alice:alpha.test");
    assert!(sent.is_some());
}

#[tokio::test]
async fn after_a_refusal_no_other_server_is_tried_and_after_a_failed_connection_one_is() {
    let dead = reserve().name;
    let reserved = reserve();
    let refusing = reserved.name.clone();
    let refuse = || async {
        (
            StatusCode::FORBIDDEN,
            Json(json!({ "errcode": "M_FORBIDDEN", "error": "You are not invited.\u{7}\n" })),
        )
    };
    let _peer = reserved.serve(&["127.0.0.1"], Router::new().fallback(refuse));
    let reserved = reserve();
    let never_asked = reserved.name.clone();
    let requested = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let note = Arc::clone(&requested);
    let noting = || async move { note.store(true, std::sync::atomic::Ordering::SeqCst) };
    let _other = reserved.serve(&["127.0.0.1"], Router::new().fallback(noting));
    let room = Room::document(&RoomVersionId::V11, ruma::server_name!("beta.test"));
    let mut wanted = wanted(&room, &dead);
    wanted.via = vec![alpha().to_owned(), dead, refusing.clone(), never_asked];
    let error = us(alpha()).handshake.join(&wanted, &Left).await.unwrap_err();
    let HandshakeError::Call(call) = &error else {
        panic!("{error}")
    };
    let refusal = call.refusal().unwrap();
    assert_eq!(
        (refusal.status, refusal.errcode.as_str(), refusal.message.as_str()),
        (403, "M_FORBIDDEN", "You are not invited.")
    );

    assert!(
        !requested.load(std::sync::atomic::Ordering::SeqCst),
        "requested after a refusal"
    );

    wanted.via = vec![alpha().to_owned()];
    assert!(matches!(
        us(alpha()).handshake.join(&wanted, &Left).await,
        Err(HandshakeError::NoServer)
    ));
}

/// T34: the same forged events through every request that returns events.
#[tokio::test]
async fn signatures_are_checked_on_every_path() {
    let reserved = reserve();
    let name = reserved.name.clone();
    let room = Arc::new(Room::document(&RoomVersionId::V11, &name));
    let good = room.state()[1].clone();
    let forged = room.forge(&good);
    let mut all = vec![good.clone()];
    all.extend(forged.clone());
    // Correctly signed, and of another room.
    all.push(Room::document(&RoomVersionId::V11, &name).other_room(&name));
    let lists = all.clone();
    let router = Router::new()
        .route(
            "/_matrix/federation/v1/event/{event}",
            get(
                |Path(which): Path<String>, State(all): State<Arc<Vec<Value>>>| async move {
                    // The requested id states which of the events is returned, as `$0...`.
                    let at: usize = which
                        .trim_start_matches('$')
                        .trim_start_matches('x')
                        .parse()
                        .unwrap_or(0);
                    Json(json!({ "origin": "x", "origin_server_ts": 1, "pdus": [all[at]] }))
                },
            ),
        )
        .route(
            "/_matrix/federation/v1/backfill/{room}",
            get(|State(all): State<Arc<Vec<Value>>>| async move {
                Json(json!({ "origin": "x", "origin_server_ts": 1, "pdus": *all }))
            }),
        )
        .route(
            "/_matrix/federation/v1/get_missing_events/{room}",
            post(|State(all): State<Arc<Vec<Value>>>| async move { Json(json!({ "events": *all })) }),
        )
        .route(
            "/_matrix/federation/v1/state/{room}",
            get(|State(all): State<Arc<Vec<Value>>>| async move { Json(json!({ "pdus": *all, "auth_chain": *all })) }),
        )
        .route(
            "/_matrix/federation/v1/event_auth/{room}/{event}",
            get(|State(all): State<Arc<Vec<Value>>>| async move { Json(json!({ "auth_chain": *all })) }),
        )
        .merge(room.keys())
        .with_state(Arc::new(lists));
    let _peer = reserved.serve(&["127.0.0.1"], router);
    let us = us(alpha());
    let (events, id, version) = (&us.events, room.room_id(), room.version());
    let good_id = room.event_id(&good);
    let ids = |list: &[weft_dag::Verified]| {
        list.iter()
            .map(|event| event.pdu().event_id().to_owned())
            .collect::<Vec<_>>()
    };

    let only = vec![good_id.clone()];
    assert_eq!(
        ids(&events.backfill(&id, &version, &name, &[], 50).await.unwrap()),
        only
    );
    assert_eq!(
        ids(&events.missing_events(&id, &version, &name, &[], &[], 50).await.unwrap()),
        only
    );
    assert_eq!(
        ids(&events.event_auth(&id, &version, &name, &good_id).await.unwrap()),
        only
    );
    let (state, chain) = events.state(&id, &version, &name, &good_id).await.unwrap();
    assert_eq!((ids(&state), ids(&chain)), (only.clone(), only.clone()));
    assert_eq!(
        ids(&events
            .events(&version, &name, std::slice::from_ref(&good_id))
            .await
            .unwrap()),
        only
    );
    for (at, event) in all.iter().enumerate().skip(1) {
        let requested = ruma::EventId::parse(format!("${at:x>43}")).unwrap();
        assert!(events.event(&version, &name, &requested).await.is_err(), "{event}");
        let raw = serde_json::value::to_raw_value(event).unwrap();
        let checked = events.check_one(&version, &raw).await;
        assert!(checked.is_err() || checked.unwrap().pdu().room_id() != id, "{event}");
    }
}

/// T32: what this server signs when another server requests a signature on an invite.
#[tokio::test]
async fn only_an_invite_from_the_requesting_server_to_our_user_is_signed() {
    use weft_federation::handshake::IncomingInvite;
    let reserved = reserve();
    let name = reserved.name.clone();
    let version = RoomVersionId::V11;
    let room = Arc::new(Room::document(&version, &name));
    let _peer = reserved.serve(&["127.0.0.1"], Router::new().merge(room.keys()).with_state(()));
    let us = us(alpha());
    let invitee = "@alice:alpha.test";
    let mut cases = vec![
        ("valid", member(&room, &room.creator(), invitee, "invite"), true),
        (
            "to another server",
            member(&room, &room.creator(), "@carl:gamma.test", "invite"),
            false,
        ),
        (
            "to an invalid user id",
            member(&room, &room.creator(), "nobody", "invite"),
            false,
        ),
    ];
    for membership in ["join", "leave", "ban", "knock", "xyz"] {
        cases.push((
            "another membership",
            member(&room, &room.creator(), invitee, membership),
            false,
        ));
        cases.push((
            "sent by our own user",
            member(&room, invitee, invitee, membership),
            false,
        ));
    }
    cases.push((
        "invite from our own user",
        member(&room, "@bob:alpha.test", invitee, "invite"),
        false,
    ));
    cases.push((
        "from a third server",
        member(&room, "@carl:gamma.test", invitee, "invite"),
        false,
    ));
    let mut kind = member(&room, &room.creator(), invitee, "invite");
    kind.insert("type".to_owned(), "m.room.power_levels".into());
    cases.push(("not a member event", kind, false));
    for (what, event, signed) in cases {
        let event = sign(event, &room.version(), &signer_of(&name));
        let event_id = room.event_id(&event);
        let raw = serde_json::value::to_raw_value(&event).unwrap();
        let id = room.room_id();
        let stripped = vec![serde_json::value::to_raw_value(&room.state()[0]).unwrap()];
        let incoming = IncomingInvite {
            origin: &name,
            room_id: &id,
            event_id: &event_id,
            version: &version,
            event: &raw,
            stripped,
        };
        let result = us.handshake.invited(incoming).await;
        assert_eq!(result.is_ok(), signed, "{what}: {event} {:?}", result.err());
        if let Ok(invited) = result {
            let json: CanonicalJsonObject = serde_json::from_str(invited.event.pdu().json()).unwrap();
            assert_eq!(json["signatures"].as_object().unwrap().len(), 2);
        }
    }
    // T35, T31: another room or event than in the path, a forged event, or a wrong or huge stripped state.
    let event = sign(
        member(&room, &room.creator(), invitee, "invite"),
        &room.version(),
        &signer_of(&name),
    );
    let event_id = room.event_id(&event);
    let other_room = ruma::RoomId::parse("!other:x.test").unwrap();
    let other_event = ruma::EventId::parse(format!("${}", "a".repeat(43))).unwrap();
    let create = room.state()[0].clone();
    let mut foreign = create.clone();
    foreign["room_id"] = json!("!other:x.test");
    let forged = room.forge(&event).remove(0);
    let many = vec![json!({ "type": "m.room.name", "content": {}, "sender": "@x:y", "state_key": "" }); 1_000];
    let huge = vec![json!({ "type": "x", "content": "x".repeat(5_000_000) })];
    let id = room.room_id();
    for (what, room_id, event_id, event, stripped) in [
        ("room", &other_room, &event_id, &event, vec![create.clone()]),
        ("event", &id, &other_event, &event, vec![create.clone()]),
        ("forged", &id, &room.event_id(&forged), &forged, vec![create.clone()]),
        ("many", &id, &event_id, &event, many),
        ("huge", &id, &event_id, &event, huge),
        ("foreign create", &id, &event_id, &event, vec![foreign]),
        ("two creates", &id, &event_id, &event, vec![create.clone(), create]),
        ("not an event", &id, &event_id, &event, vec![json!(5)]),
    ] {
        let raw = serde_json::value::to_raw_value(event).unwrap();
        let stripped = stripped
            .iter()
            .map(|state| serde_json::value::to_raw_value(state).unwrap())
            .collect();
        let incoming = IncomingInvite {
            origin: &name,
            room_id,
            event_id,
            version: &version,
            event: &raw,
            stripped,
        };
        assert!(us.handshake.invited(incoming).await.is_err(), "{what}");
    }
}

/// A request of the client passes the check of the receiver: signature, destination, path as sent.
#[tokio::test]
async fn request_signatures_match_the_received_requests() {
    let reserved = reserve();
    let name = reserved.name.clone();
    let alpha_ring = us(alpha());
    // The second server checks with its own copy of alpha's keys: alpha publishes them on a separate listener.
    let first = reserve();
    let first_name = first.name.clone();
    let us_one = us(&first_name);
    let ring = Arc::clone(&us_one.ring);
    let publish = move || {
        let ring = Arc::clone(&ring);
        async move { Json(ring.published(ruma::MilliSecondsSinceUnixEpoch::now()).unwrap()) }
    };
    let _first = first.serve(
        &["127.0.0.1"],
        Router::new().route("/_matrix/key/v2/server", get(publish)),
    );
    let us_two = us(&name);
    let keys = us_two.keys.clone();
    let check_name = name.clone();
    let check = move |request: axum::extract::Request| {
        let (keys, name) = (keys.clone(), check_name.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let request = axum::http::Request::from_parts(parts, body);
            match verify_request(&request, &name, &keys).await {
                Ok(origin) => Json(json!({
                    "room_id": "!r:x.test", "servers": [origin], "displayname": origin, "chunk": [], "events": [], "pdus": {},
                    "total_room_count_estimate": 0,
                }))
                .into_response(),
                Err(error) => (StatusCode::UNAUTHORIZED, error.to_string()).into_response(),
            }
        }
    };
    let _second = reserved.serve(&["127.0.0.1"], Router::new().fallback(check));
    let client = &us_one.client;
    for localpart in ["simple", "a/b", "ü ö", "%2F?&=#", "'quote'", "..", "%%"] {
        let Ok(alias) = ruma::OwnedRoomAliasId::try_from(format!("#{localpart}:{name}")) else {
            continue;
        };
        let answer = client
            .resolve_alias(&initiator(), alias)
            .await
            .unwrap_or_else(|error| panic!("{localpart}: {error}"));
        assert_eq!(answer.servers, std::slice::from_ref(&first_name));
    }
    client
        .public_rooms(&initiator(), &name, Some(5), Some("a b".to_owned()), None)
        .await
        .unwrap();
    client
        .send_transaction(
            &name,
            "id".into(),
            vec![],
            vec![],
            ruma::MilliSecondsSinceUnixEpoch::now(),
        )
        .await
        .unwrap();
    let id = ruma::RoomId::parse("!r/a:x.test").unwrap();
    let version = weft_dag::RoomVersion::new(&RoomVersionId::V11).unwrap();
    us_one
        .events
        .missing_events(&id, &version, &name, &[], &[], 10)
        .await
        .unwrap();
    // A server whose keys are unavailable is not authenticated.
    let refused = alpha_ring
        .client
        .public_rooms(&initiator(), &name, None, None, None)
        .await
        .unwrap_err();
    assert_eq!(refused.refusal().unwrap().status, 401);
}

/// T44, and other attacks by a server on its callers.
#[tokio::test]
async fn responses_are_bounded() {
    let reserved = reserve();
    let name = reserved.name.clone();
    let endless = || async {
        let chunks = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 1 << 20]));
        Response::new(Body::from_stream(chunks))
    };
    let announced = || async {
        Response::builder()
            .header(header::CONTENT_LENGTH, 1_u64 << 40)
            .body(Body::from_stream(futures_util::stream::pending::<
                Result<Vec<u8>, std::io::Error>,
            >()))
            .unwrap()
    };
    let router = Router::new()
        .route("/_matrix/key/v2/server", get(endless))
        .route("/_matrix/federation/v1/version", get(announced))
        .route(
            "/_matrix/federation/v1/publicRooms",
            get(|| async { Redirect::temporary("/_matrix/federation/v1/publicRooms") }),
        )
        .route("/_matrix/federation/v1/query/directory", get(|| async { "not json" }))
        .route(
            "/_matrix/federation/v1/query/profile",
            get(|| async { (StatusCode::IM_A_TEAPOT, "x".repeat(10_000_000)) }),
        )
        .route(
            "/_matrix/federation/v1/state_ids/{room}",
            get(std::future::pending::<()>),
        );
    let _peer = reserved.serve(&["127.0.0.1"], router);
    let us = us_with(
        alpha(),
        Duration::from_millis(700),
        vec!["127.0.0.1/32".parse().unwrap()],
    );
    assert!(
        us.keys
            .notarise(&name, ruma::MilliSecondsSinceUnixEpoch::now())
            .await
            .is_empty()
    );
    let error = us
        .client
        .public_rooms(&initiator(), &name, None, None, None)
        .await
        .unwrap_err();
    assert_eq!(error.refusal().unwrap().status, 307, "redirects are not followed");
    let alias = ruma::OwnedRoomAliasId::try_from(format!("#a:{name}")).unwrap();
    assert!(matches!(
        us.client.resolve_alias(&initiator(), alias).await,
        Err(CallError::BadAnswer { .. })
    ));
    let user = OwnedUserId::try_from(format!("@a:{name}")).unwrap();
    let error = us.client.profile(&initiator(), user, None).await.unwrap_err();
    assert_eq!(
        (
            error.refusal().unwrap().status,
            error.refusal().unwrap().errcode.as_str()
        ),
        (418, "M_UNKNOWN")
    );
    let room = ruma::RoomId::parse("!r:x.test").unwrap();
    let event = ruma::EventId::parse(format!("${}", "a".repeat(43))).unwrap();
    let error = us.events.state_ids(&room, &name, &event).await.unwrap_err();
    assert!(error.to_string().contains("timeout"), "{error}");
}

#[tokio::test]
async fn private_addresses_unknown_certificates_and_our_own_name_get_no_requests() {
    let reserved = reserve();
    let name = reserved.name.clone();
    let _peer = reserved.serve(&["127.0.0.1"], Router::new());
    let alias = ruma::OwnedRoomAliasId::try_from(format!("#a:{name}")).unwrap();

    let strict = us_with(alpha(), Duration::from_secs(5), Vec::new());
    let error = strict
        .client
        .resolve_alias(&initiator(), alias.clone())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Discovery {
                error: DiscoveryError::Denied { .. },
                ..
            }
        ),
        "{error}"
    );

    let itself = us(&name);
    assert!(matches!(
        itself.client.resolve_alias(&initiator(), alias).await,
        Err(CallError::Ourselves)
    ));

    // A certificate for another name.
    let reserved = reserve();
    let name = reserved.name.clone();
    let _peer = reserved.serve(&["other.test"], Router::new());
    let alias = ruma::OwnedRoomAliasId::try_from(format!("#a:{name}")).unwrap();
    let error = us(alpha()).client.resolve_alias(&initiator(), alias).await.unwrap_err();
    assert!(
        matches!(error, CallError::Unreachable { .. }) && error.to_string().contains("certificate"),
        "{error}"
    );
}

/// T124: each endpoint has its own limit on its response, far below that of a room's state.
#[tokio::test]
async fn a_response_is_read_up_to_the_limit_of_its_endpoint() {
    async fn filler(State(big): State<bytes::Bytes>) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], big).into_response()
    }
    // Large and cheap to send: a stated length over the limit is refused before the body is read.
    let big = bytes::Bytes::from(vec![b' '; 20 * 1024 * 1024]);
    let reserved = reserve();
    let name = reserved.name.clone();
    let router = Router::new()
        .route("/_matrix/federation/v1/{*path}", get(filler).post(filler).put(filler))
        .with_state(big);
    let _peer = reserved.serve(&["127.0.0.1"], router);
    let us = us(alpha());
    let initiator = Initiator::Stranger(None);
    let user = OwnedUserId::try_from(format!("@bob:{name}")).unwrap();
    let alias = ruma::OwnedRoomAliasId::try_from(format!("#a:{name}")).unwrap();
    let room = ruma::room_id!("!r:x");
    let id = ruma::event_id!("$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    let version = weft_dag::RoomVersion::new(&RoomVersionId::V11).unwrap();
    let too_large = |error: &str| assert!(error.contains("more than"), "{error}");
    too_large(&us.client.profile(&initiator, user, None).await.unwrap_err().to_string());
    too_large(
        &us.client
            .resolve_alias(&initiator, alias)
            .await
            .unwrap_err()
            .to_string(),
    );
    let rooms = us.client.public_rooms(&initiator, &name, None, None, None).await;
    too_large(&rooms.unwrap_err().to_string());
    too_large(&us.events.event(&version, &name, id).await.unwrap_err().to_string());
    too_large(&us.events.state_ids(room, &name, id).await.unwrap_err().to_string());
    let ids = [id.to_owned()];
    let missing = us.events.missing_events(room, &version, &name, &[], &ids, 10).await;
    too_large(&missing.unwrap_err().to_string());
    let before = us.events.backfill(room, &version, &name, &ids, 10).await;
    too_large(&before.unwrap_err().to_string());
    let wanted = wanted(&Room::document(&RoomVersionId::V11, &name), &name);
    too_large(&us.handshake.join(&wanted, &Left).await.unwrap_err().to_string());
}

/// T124: the requests of one stranger are limited, requests of accounts don't wait for them, and cached data needs no
/// request.
#[tokio::test]
async fn a_stranger_has_few_requests_in_flight_and_accounts_have_their_own_limit() {
    let reserved = reserve();
    let name = reserved.name.clone();
    let open = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&open);
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let profile = move || {
        let (gate, arrived) = (Arc::clone(&gate), arrived.clone());
        async move {
            arrived.send(()).unwrap();
            gate.acquire().await.unwrap().forget();
            Json(json!({ "displayname": "Bob" }))
        }
    };
    let router = Router::new().route("/_matrix/federation/v1/query/profile", get(profile));
    let _peer = reserved.serve(&["127.0.0.1"], router);
    let us = us(alpha());
    let user = OwnedUserId::try_from(format!("@bob:{name}")).unwrap();
    let ask = |initiator: Initiator| {
        let (client, user) = (us.client.clone(), user.clone());
        tokio::spawn(async move { client.profile(&initiator, user, None).await })
    };
    let stranger = || Initiator::Stranger(Some("192.0.2.1".parse().unwrap()));
    let mut waiting = Vec::new();
    for _ in 0..weft_wire::limits::MAX_OUTGOING_PER_STRANGER {
        waiting.push(ask(stranger()));
        arrivals.recv().await.unwrap();
    }
    let refused = ask(stranger()).await.unwrap();
    assert!(matches!(refused, Err(CallError::Busy)), "{refused:?}");
    waiting.push(ask(Initiator::User("@alice:alpha.test".try_into().unwrap())));
    arrivals.recv().await.unwrap();
    open.add_permits(waiting.len());
    for requested in waiting {
        requested.await.unwrap().unwrap();
    }
    open.add_permits(1);
    ask(stranger()).await.unwrap().unwrap();
}

/// T124: of sixty requests that name sixty servers with unknown keys, only a few cause a request at a time.
#[tokio::test]
async fn keys_named_by_strangers_are_fetched_a_few_at_a_time() {
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let mut peers = Vec::new();
    let mut names = Vec::new();
    for _ in 0..20 {
        let reserved = reserve();
        names.push(reserved.name.clone());
        let arrived = arrived.clone();
        let keys = move || {
            let arrived = arrived.clone();
            async move {
                arrived.send(()).unwrap();
                std::future::pending::<()>().await;
            }
        };
        let router = Router::new().route("/_matrix/key/v2/server", get(keys));
        peers.push(reserved.serve(&["127.0.0.1"], router));
    }
    let us = us(alpha());
    let keys = us
        .keys
        .on_behalf_of(Initiator::Stranger(Some("192.0.2.1".parse().unwrap())));
    let now = keys.now();
    let mut requested = tokio::task::JoinSet::new();
    for name in names.clone() {
        let keys = keys.clone();
        requested.spawn(async move { keys.notarise(&name, now).await });
    }
    let few = weft_wire::limits::MAX_OUTGOING_PER_STRANGER;
    // The requests over the limit return at once and empty, while the others still wait.
    for _ in few..20 {
        assert!(requested.join_next().await.unwrap().unwrap().is_empty());
    }
    for _ in 0..few {
        arrivals.recv().await.unwrap();
    }
    assert!(arrivals.try_recv().is_err());
    requested.abort_all();
}
