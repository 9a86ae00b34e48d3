//! Messages, state events, redactions, transaction ids, memberships.

use ruma::{OwnedEventId, events::room::member::MembershipState, owned_device_id, owned_user_id};
use serde_json::{Value, json};
use weft_room_api::{Clock as _, CreateRoom, EventRefusal, RoomError, StateCondition, Template, TemplateKind};
use weft_store::{
    Lane,
    tables::rooms::{EVENT_TXN, SENT_REQUESTS, TRANSACTIONS},
};

use crate::harness::{Server, alice, bob, event, user};

#[tokio::test]
async fn a_transaction_id_makes_one_event_even_after_a_restart() {
    let server = Server::new().await;
    let room = server.rooms.create(&alice(), CreateRoom::default()).await.unwrap();
    let mut message = event(&alice(), "m.room.message", json!({ "body": "once" }));
    message.txn = Some((owned_device_id!("PHONE"), "t1".into()));
    let (first, second) = tokio::join!(
        server.rooms.send(&room, message.clone()),
        server.rooms.send(&room, message.clone())
    );
    let first = first.unwrap();
    assert_eq!(first, second.unwrap());
    let server = server.reboot().await;
    assert_eq!(server.rooms.send(&room, message.clone()).await.unwrap(), first);
    let elsewhere = server.rooms.create(&alice(), CreateRoom::default()).await.unwrap();
    let other = server.rooms.send(&elsewhere, message.clone()).await.unwrap();
    assert_ne!(other, first, "another room is another request");
    message.txn = Some((owned_device_id!("TABLET"), "t1".into()));
    assert_ne!(
        server.rooms.send(&room, message).await.unwrap(),
        first,
        "transaction ids are scoped to the device"
    );
}

#[tokio::test]
async fn old_transaction_ids_are_deleted_and_recent_ones_are_kept() {
    const DAY: u64 = 24 * 60 * 60 * 1_000;
    let server = Server::new().await;
    let room = server.rooms.create(&alice(), CreateRoom::default()).await.unwrap();
    let device = owned_device_id!("PHONE");
    let request = |number: usize| {
        let mut message = event(&alice(), "m.room.message", json!({ "body": "hello" }));
        message.txn = Some((device.clone(), format!("t{number}").into()));
        message
    };
    let mut sent = Vec::new();
    for number in 0..10 {
        sent.push(server.rooms.send(&room, request(number)).await.unwrap());
    }
    let rows = async || {
        let (user, store) = (alice(), &server.store);
        let transactions = store.scan_all(TRANSACTIONS.under(&(&user,))).await.unwrap().len();
        let echoes = store.scan_all(EVENT_TXN.under(&(&user,))).await.unwrap().len();
        let times = store
            .scan_all(SENT_REQUESTS.under(&(Lane::FIRST,)))
            .await
            .unwrap()
            .len();
        (transactions, echoes, times)
    };
    assert_eq!(rows().await, (10, 10, 10));
    server.clock.advance(6 * DAY);
    assert_eq!(
        server.rooms.send(&room, request(3)).await.unwrap(),
        sent[3],
        "within the retention time"
    );
    server.clock.advance(2 * DAY);
    for number in 10..14 {
        server.rooms.send(&room, request(number)).await.unwrap();
    }
    assert_eq!(rows().await, (4, 4, 4), "the old ones are gone");
    assert_ne!(server.rooms.send(&room, request(3)).await.unwrap(), sent[3]);
}

#[tokio::test]
async fn forbidden_requests_return_errors_and_write_nothing() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 0)]).await;
    let before = server.log(&room).await.len();
    for refused in [
        server.send_message(&room, &bob(), "viewers don't chat").await,
        server.send_message(&room, &user("stranger"), "hello").await,
        server
            .state(&room, &bob(), "m.room.name", "", json!({ "name": "mine" }))
            .await,
        server.member(&room, &bob(), &user("carol"), "invite").await,
        server.member(&room, &user("carol"), &user("carol"), "join").await,
        // The history of a document can't be hidden from users who join.
        server
            .state(
                &room,
                &alice(),
                "m.room.history_visibility",
                "",
                json!({ "history_visibility": "joined" }),
            )
            .await,
    ] {
        assert!(matches!(refused, Err(RoomError::Forbidden { .. })), "{refused:?}");
    }
    let float = server
        .rooms
        .send(&room, event(&alice(), "m.room.message", json!({ "n": 0.5 })))
        .await;
    assert!(matches!(float, Err(RoomError::Event(EventRefusal::BadContent { .. }))));
    let large = server.send_message(&room, &alice(), &"x".repeat(66_000)).await;
    assert!(matches!(large, Err(RoomError::Event(EventRefusal::TooLarge { .. }))));
    let unknown = server
        .send_message(ruma::room_id!("!none:alpha.test"), &alice(), "x")
        .await;
    assert!(matches!(unknown, Err(RoomError::UnknownRoom(_))));
    assert_eq!(server.log(&room).await.len(), before);
}

#[tokio::test]
async fn memberships_are_in_every_member_list() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let reader = server.rooms.reader();
    assert_eq!(reader.joined_members(&room).await.unwrap(), [alice(), bob()]);
    assert_eq!(
        reader.rooms_of(&bob()).await.unwrap()[0].membership,
        MembershipState::Join
    );
    let removed = server.member(&room, &alice(), &bob(), "ban").await.unwrap();
    assert_eq!(reader.membership(&room, &bob()).await.unwrap(), MembershipState::Ban);
    assert_eq!(reader.rooms_of(&bob()).await.unwrap()[0].row.event, removed);
    let commits = server.sink.all();
    let last = commits.last().unwrap();
    assert!(last.access_changed);
    assert!(last.users.contains(&bob()) && last.users.contains(&alice()));
    assert!(server.rooms.forget(&room, &alice()).await.is_err());
    server.rooms.forget(&room, &bob()).await.unwrap();
    assert!(reader.rooms_of(&bob()).await.unwrap()[0].row.forgotten);
}

#[tokio::test]
async fn a_redaction_removes_the_content() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 10)]).await;
    let sent = server.send_message(&room, &bob(), "secret").await.unwrap();
    let theirs = server.send_message(&room, &alice(), "not yours").await.unwrap();
    let redaction = |who: &ruma::UserId, id: &ruma::EventId| {
        let mut redaction = event(who, "m.room.redaction", json!({}));
        redaction.redacts = Some(id.to_owned());
        redaction
    };
    let refused = server.rooms.send(&room, redaction(&bob(), &theirs)).await;
    assert!(matches!(refused, Err(RoomError::Forbidden { .. })), "{refused:?}");
    server.rooms.send(&room, redaction(&bob(), &sent)).await.unwrap();
    let stored = server.rooms.reader().event(Some(&room), &sent).await.unwrap().unwrap();
    assert_eq!(stored.content_as::<Value>().unwrap(), json!({}));
    assert_eq!(stored.event_id(), sent);
    let unknown = server
        .rooms
        .send(&room, redaction(&bob(), ruma::event_id!("$none")))
        .await;
    assert!(matches!(unknown, Err(RoomError::UnknownEvent(_))));
}

#[tokio::test]
async fn an_unsent_invitation_is_signed_and_not_in_the_room() {
    let server = Server::new().await;
    let room = server.document().await;
    let before = server.log(&room).await.len();
    let mut invite = event(&alice(), "m.room.member", json!({ "membership": "invite" }));
    invite.state_key = Some("@carol:beta.test".to_owned());
    let draft = server.rooms.draft(&room, invite).await.unwrap();
    assert_eq!(draft.event.state_key(), Some("@carol:beta.test"));
    assert!(!draft.stripped.is_empty());
    assert_eq!(server.log(&room).await.len(), before);
}

/// The event's timestamp, and the newest timestamp of its auth events.
async fn claimed_and_cited(server: &Server, event: &Value) -> (u64, u64) {
    let cited: Vec<OwnedEventId> = serde_json::from_value(event["auth_events"].clone()).unwrap();
    let mut newest = 0;
    for id in cited {
        let pdu = server.rooms.reader().event(None, &id).await.unwrap().unwrap();
        newest = newest.max(pdu.origin_server_ts().get().into());
    }
    (event["origin_server_ts"].as_u64().unwrap(), newest)
}

/// The rule of `spec/vectors/templates`, with a clock that was set back.
#[tokio::test]
async fn events_and_templates_have_timestamps_after_their_auth_events() {
    for (back, is_reachable) in [(60_000, true), (6 * 60_000, false)] {
        let server = Server::new().await;
        let room = server.document().await;
        let public = json!({ "join_rule": "public" });
        server
            .state(&room, &alice(), "m.room.join_rules", "", public)
            .await
            .unwrap();
        server.clock.stop();
        server.clock.set_back(back);
        let now = u64::from(server.clock.now().get());
        let sent = server.send_message(&room, &alice(), "when?").await.unwrap();
        let sent = server.rooms.reader().event(None, &sent).await.unwrap().unwrap();
        let join = Template {
            user: owned_user_id!("@bob:beta.test"),
            kind: TemplateKind::Join,
        };
        let (_, template) = server.rooms.template(&room, join).await.unwrap();
        for event in [serde_json::from_str(sent.json()).unwrap(), json!(template)] {
            let (claimed, cited) = claimed_and_cited(&server, &event).await;
            assert!(cited > now, "{event}");
            assert_eq!(claimed, if is_reachable { cited + 1 } else { now }, "{event}");
        }
    }
}

#[tokio::test]
async fn an_event_is_sent_only_if_the_state_is_as_the_caller_read_it() {
    let server = Server::new().await;
    let room = server.document().await;
    let named = |name: &str| weft_room_api::NewEvent {
        state_key: Some(String::new()),
        ..event(&alice(), "m.room.name", json!({ "name": name }))
    };
    let unnamed = vec![StateCondition {
        kind: "m.room.name".to_owned(),
        state_key: String::new(),
        event: None,
    }];
    let first = server
        .rooms
        .send_if(&room, named("first"), unnamed.clone())
        .await
        .unwrap();
    let second = server.rooms.send_if(&room, named("second"), unnamed.clone()).await;
    let kind = "m.room.name".to_owned();
    assert_eq!(second, Err(RoomError::StateChanged { kind }));
    let after_first = vec![StateCondition {
        event: Some(first),
        ..unnamed[0].clone()
    }];
    server.rooms.send_if(&room, named("third"), after_first).await.unwrap();
    let name = server.rooms.reader().state_event(&room, "m.room.name", "").await;
    let name: Value = name.unwrap().unwrap().content_as().unwrap();
    assert_eq!(name["name"], "third");
}
