//! createRoom with all its options, in every supported room version.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ruma::{RoomId, RoomVersionId, events::room::member::MembershipState, room_alias_id};
use serde_json::{Map, Value, json};
use weft_dag::{RoomVersion, Unchecked, testing};
use weft_room_api::{CreateRefusal, CreateRoom, Preset, RoomError};
use weft_wire::{Role, document::DocumentKind, limits::MAX_INITIAL_STATE_EVENTS};

use crate::harness::{Server, alice, bob, user};

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[tokio::test]
async fn rooms_of_every_version_have_events_that_other_servers_accept() {
    let server = Server::new().await;
    for id in RoomVersion::ALL {
        let request = CreateRoom {
            version: Some(id.clone()),
            name: Some("A room".to_owned()),
            topic: Some("About things".to_owned()),
            preset: Some(Preset::TrustedPrivateChat),
            invite: vec![bob()],
            is_direct: true,
            ..CreateRoom::default()
        };
        let room = server.rooms.create(&alice(), request).await.unwrap();
        let state = server.rooms.reader().state(&room).await.unwrap().unwrap();
        assert_eq!(state.version().id(), &id);
        assert_eq!(state.membership(&alice()), MembershipState::Join);
        assert_eq!(state.membership(&bob()), MembershipState::Invite);
        assert!(state.user_power(&bob()) >= 100, "{id}: trusted_private_chat");
        assert!(state.user_power(&alice()) >= 100, "{id}");
        let invite = state.get("m.room.member", bob().as_str()).unwrap();
        assert_eq!(invite.content_as::<Value>().unwrap()["is_direct"], true);
        // Checked as another server checks received events.
        let version = RoomVersion::new(&id).unwrap();
        let keys = testing::verify_keys([ruma::owned_server_name!("alpha.test")]);
        for pdu in state.iter() {
            let unchecked = Unchecked::parse(pdu.json(), &version).unwrap();
            assert_eq!(unchecked.event_id(), pdu.event_id());
            unchecked.verify(&keys).unwrap();
        }
    }
}

/// In room version 12 the hash of the create event is the room id.
#[tokio::test]
async fn identical_concurrent_requests_create_different_rooms() {
    let server = Server::new().await;
    server.clock.stop();
    for id in RoomVersion::ALL {
        let mut rooms = BTreeSet::new();
        for _ in 0..3 {
            let request = CreateRoom {
                version: Some(id.clone()),
                // A client can't choose another room's id by setting the field.
                creation_content: object(json!({ "dev.weft.twin": 1 })),
                ..CreateRoom::default()
            };
            rooms.insert(server.rooms.create(&alice(), request).await.unwrap());
        }
        assert_eq!(rooms.len(), 3, "{id}");
    }
}

/// Both are commands of one turn: the second one is refused, and the first one is not lost with it.
#[tokio::test]
async fn of_two_concurrent_requests_for_one_room_id_one_succeeds() {
    let server = Server::new().await;
    let creator = alice();
    let id = RoomId::parse(format!("!chosen:{}", creator.server_name())).unwrap();
    let request = || CreateRoom {
        version: Some(RoomVersionId::V11),
        room_id: Some(id.clone()),
        ..CreateRoom::default()
    };
    let (one, two) = tokio::join!(
        server.rooms.create(&creator, request()),
        server.rooms.create(&creator, request())
    );
    assert_eq!(one.unwrap(), id);
    assert!(two.unwrap_err().to_string().contains("already exists"));
    assert!(server.rooms.reader().version(&id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_document_has_a_type_a_kind_and_roles() {
    let server = Server::new().await;
    let room = server
        .document_with(&[(&bob(), Role::Editor.power()), (&user("vera"), 0)])
        .await;
    let reader = server.rooms.reader();
    assert!(reader.is_document(&room).await.unwrap());
    assert_eq!(reader.version(&room).await.unwrap().unwrap().id(), &RoomVersionId::V12);
    let kind = reader
        .state_event(&room, "dev.weft.document", "")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(kind.content_as::<Value>().unwrap()["kind"], "text");
    for (who, role, can_edit) in [
        (alice(), Role::Owner, true),
        (bob(), Role::Editor, true),
        (user("vera"), Role::Viewer, false),
    ] {
        let access = server.rooms.access(&room, &who).await.unwrap();
        assert_eq!((access.role, access.can_edit), (role, can_edit), "{who}");
    }
    let stranger = server.rooms.access(&room, &user("nobody")).await.unwrap();
    assert_eq!(
        (stranger.membership, stranger.can_edit),
        (MembershipState::Leave, false)
    );
}

#[tokio::test]
async fn initial_events_follow_the_order_of_the_specification() {
    let server = Server::new().await;
    let request = CreateRoom {
        preset: Some(Preset::PublicChat),
        public: true,
        name: Some("by name".to_owned()),
        alias: Some(room_alias_id!("#things:alpha.test").to_owned()),
        initial_state: vec![
            weft_room_api::InitialState {
                kind: "m.room.name".to_owned(),
                state_key: String::new(),
                content: json!({ "name": "by initial_state" }),
            },
            weft_room_api::InitialState {
                kind: "m.room.join_rules".to_owned(),
                state_key: String::new(),
                content: json!({ "join_rule": "knock" }),
            },
        ],
        power_level_content_override: Some(object(json!({ "events_default": 7 }))),
        ..CreateRoom::default()
    };
    let room = server.rooms.create(&alice(), request).await.unwrap();
    let kinds: Vec<String> = server.log(&room).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(
        kinds,
        [
            "m.room.create",
            "m.room.member",
            "m.room.power_levels",
            "m.room.canonical_alias",
            "m.room.join_rules",
            "m.room.history_visibility",
            "m.room.guest_access",
            "m.room.name",
            "m.room.join_rules",
            "m.room.name"
        ]
    );
    let reader = server.rooms.reader();
    let state = reader.state(&room).await.unwrap().unwrap();
    assert_eq!(
        state.get("m.room.name", "").unwrap().content_as::<Value>().unwrap()["name"],
        "by name"
    );
    assert_eq!(state.join_rule().as_str(), "knock");
    assert_eq!(state.needed_power("m.room.message", false), 7);
    assert!(reader.is_public(&room).await.unwrap());
    assert_eq!(
        reader
            .alias(room_alias_id!("#things:alpha.test"))
            .await
            .unwrap()
            .unwrap()
            .room,
        room
    );
    assert_eq!(
        reader.aliases_of(&room).await.unwrap(),
        [room_alias_id!("#things:alpha.test")]
    );
}

#[tokio::test]
async fn a_requested_room_id_is_used_once_and_must_be_of_this_server() {
    let server = Server::new().await;
    let named = async |version: RoomVersionId, id: &str| {
        let request = CreateRoom {
            version: Some(version),
            room_id: Some(RoomId::parse(id).unwrap()),
            ..CreateRoom::default()
        };
        server.rooms.create(&alice(), request).await
    };
    let made = named(RoomVersionId::V11, "!here:alpha.test").await.unwrap();
    assert_eq!(made, "!here:alpha.test");
    for (version, id) in [
        (RoomVersionId::V11, "!here:alpha.test"),
        (RoomVersionId::V11, "!there:beta.test"),
        (RoomVersionId::V12, "!other:alpha.test"),
    ] {
        let refused = named(version, id).await;
        assert!(
            matches!(refused, Err(RoomError::Create(CreateRefusal::Invalid { ref field, .. })) if field == "room_id"),
            "{id}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn invalid_requests_are_refused_and_create_nothing() {
    let server = Server::new().await;
    let create = async |request| server.rooms.create(&alice(), request).await;
    let taken = CreateRoom {
        alias: Some(room_alias_id!("#a:alpha.test").to_owned()),
        ..CreateRoom::default()
    };
    create(taken.clone()).await.unwrap();
    assert!(matches!(
        create(taken).await,
        Err(RoomError::Create(CreateRefusal::AliasTaken(_)))
    ));
    let foreign = CreateRoom {
        alias: Some(room_alias_id!("#a:beta.test").to_owned()),
        ..CreateRoom::default()
    };
    assert!(matches!(
        create(foreign).await,
        Err(RoomError::Create(CreateRefusal::Invalid { .. }))
    ));
    let old = CreateRoom {
        version: Some(RoomVersionId::V5),
        ..CreateRoom::default()
    };
    assert!(matches!(create(old).await, Err(RoomError::UnsupportedVersion(_))));
    // In room version 12 a creator's power level is not in the power levels event; setting it there is an error.
    let levels = CreateRoom {
        power_level_content_override: Some(object(json!({ "users": { "@alice:alpha.test": 100 } }))),
        ..CreateRoom::default()
    };
    assert!(matches!(
        create(levels).await,
        Err(RoomError::Create(CreateRefusal::Invalid { .. }))
    ));
    let floats = CreateRoom {
        creation_content: object(json!({ "x": 1.5 })),
        ..CreateRoom::default()
    };
    assert!(matches!(
        create(floats).await,
        Err(RoomError::Create(CreateRefusal::Event { .. }))
    ));
    let late = CreateRoom {
        document: Some(DocumentKind::Text),
        initial_state: vec![weft_room_api::InitialState {
            kind: "m.room.create".to_owned(),
            state_key: String::new(),
            content: json!({}),
        }],
        ..CreateRoom::default()
    };
    assert!(matches!(
        create(late).await,
        Err(RoomError::Create(CreateRefusal::Event { .. }))
    ));
    let rooms = server.rooms.reader().rooms_of(&alice()).await.unwrap();
    assert_eq!(rooms.len(), 1, "only the first room was created");
}

fn with_initial_state(events: usize) -> CreateRoom {
    let event = |number: usize| weft_room_api::InitialState {
        kind: "org.example.entry".to_owned(),
        state_key: number.to_string(),
        content: json!({ "number": number }),
    };
    CreateRoom {
        initial_state: (0..events).map(event).collect(),
        ..CreateRoom::default()
    }
}

#[tokio::test]
async fn the_number_of_initial_events_is_limited() {
    let server = Server::new().await;
    let room = server
        .rooms
        .create(&alice(), with_initial_state(MAX_INITIAL_STATE_EVENTS))
        .await
        .unwrap();
    let state = server.rooms.reader().state(&room).await.unwrap().unwrap();
    assert_eq!(state.of_type("org.example.entry").count(), MAX_INITIAL_STATE_EVENTS);
    let more = with_initial_state(MAX_INITIAL_STATE_EVENTS + 1);
    let refused = server.rooms.create(&alice(), more).await;
    assert!(
        matches!(
            refused,
            Err(RoomError::Create(CreateRefusal::Invalid { ref field, .. })) if field == "initial_state"
        ),
        "{refused:?}"
    );
}

/// While a room with many initial events is created, other tasks of the same thread run.
#[tokio::test]
async fn creating_a_room_with_many_initial_events_yields_to_other_tasks() {
    let turns_during = async |events: usize| {
        let server = Server::new().await;
        let commits = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&commits);
        let other = tokio::spawn(async move {
            loop {
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        server.rooms.create(&alice(), with_initial_state(events)).await.unwrap();
        other.abort();
        commits.load(Ordering::Relaxed)
    };
    let (few, many) = (turns_during(1).await, turns_during(MAX_INITIAL_STATE_EVENTS).await);
    assert!(
        many >= few + 10,
        "other tasks had {few} turns during a small room, {many} during a large one"
    );
}

#[tokio::test]
async fn an_entry_of_a_past_state_equals_the_entry_of_the_whole_state() {
    let server = Server::new().await;
    let room = server.rooms.create(&alice(), with_initial_state(120)).await.unwrap();
    let reader = server.rooms.reader();
    let last = server.sink.all().last().unwrap().position;
    for position in 0..=last {
        let whole = reader.state_at_position(&room, position).await.unwrap();
        for (kind, key) in [
            ("m.room.create", ""),
            ("org.example.entry", "7"),
            ("org.example.entry", "119"),
            ("no", ""),
        ] {
            let one = reader.state_entries_at(&room, position, &[(kind, key)]).await.unwrap();
            let one = one.and_then(|state| state.get(kind, key).cloned());
            let expected = whole.as_ref().and_then(|state| state.get(kind, key));
            assert_eq!(
                one.map(|pdu| pdu.event_id().to_owned()),
                expected.map(|pdu| pdu.event_id().to_owned()),
                "{kind} {key} at {position}"
            );
        }
    }
}

/// In room version 12 no event cites the create event, and every event depends on it.
#[tokio::test]
async fn the_auth_chain_contains_the_create_event_in_every_version() {
    let server = Server::new().await;
    for id in RoomVersion::ALL {
        let request = CreateRoom {
            version: Some(id.clone()),
            ..CreateRoom::default()
        };
        let room = server.rooms.create(&alice(), request).await.unwrap();
        let reader = server.rooms.reader();
        let state = reader.state(&room).await.unwrap().unwrap();
        let create = state.create().unwrap().event_id().to_owned();
        for kind in ["m.room.power_levels", "m.room.join_rules"] {
            let of = [state.get(kind, "").unwrap().event_id().to_owned()];
            let chain = reader.auth_chain(&room, &of).await.unwrap();
            let found = chain.iter().filter(|pdu| pdu.event_id() == create).count();
            assert_eq!(found, 1, "version {id}: {kind}");
            assert!(!chain.iter().any(|pdu| of.contains(&pdu.event_id().to_owned())), "{id}");
        }
        assert!(
            reader.auth_chain(&room, &[create]).await.unwrap().is_empty(),
            "version {id}"
        );
    }
}
