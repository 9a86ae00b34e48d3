//! Reads: pages, new events, states at events and positions, walks for other servers, visibility.

use ruma::events::room::member::MembershipState;
use serde_json::json;
use weft_room_api::CreateRoom;
use weft_room_read::{Direction, Types};
use weft_testkit::Editor;

use crate::harness::{Server, alice, bob, user};

#[tokio::test]
async fn pages_are_contiguous_and_can_leave_updates_out() {
    let server = Server::new().await;
    let room = server.document().await;
    let mut editor = Editor::new(7);
    for n in 0..5 {
        server.edit(&room, &alice(), editor.append("x")).await.unwrap();
        server.send_message(&room, &alice(), &n.to_string()).await.unwrap();
    }
    let reader = server.rooms.reader();
    let all = reader
        .timeline(&room, None, Direction::Forward, Types::All, 500)
        .await
        .unwrap();
    let mut paged = Vec::new();
    let mut from = None;
    loop {
        let page = reader
            .timeline(&room, from, Direction::Backward, Types::All, 3)
            .await
            .unwrap();
        paged.extend(page.events.iter().map(|event| event.order));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    paged.reverse();
    assert_eq!(paged, all.events.iter().map(|event| event.order).collect::<Vec<_>>());
    let without_updates = reader
        .timeline(&room, None, Direction::Forward, Types::WithoutUpdates, 500)
        .await
        .unwrap();
    assert_eq!(all.events.len() - without_updates.events.len(), 5);
    assert!(
        without_updates
            .events
            .iter()
            .all(|event| event.pdu.kind() != "dev.weft.update")
    );
}

#[tokio::test]
async fn since_returns_the_newest_events_and_whether_it_is_limited() {
    let server = Server::new().await;
    let room = server.document().await;
    let since = server.store.positions_of(&*room).visible();
    for n in 0..5 {
        server.send_message(&room, &alice(), &n.to_string()).await.unwrap();
    }
    let now = server.store.positions_of(&*room).visible();
    let reader = server.rooms.reader();
    let new = reader.since(&room, since, now, Types::All, 10).await.unwrap();
    assert!(!new.limited);
    assert_eq!(new.events.len(), 5);
    let newest = reader.since(&room, since, now, Types::All, 2).await.unwrap();
    assert!(newest.limited);
    assert_eq!(newest.events[1].order, new.events[4].order);
    assert!(
        reader
            .since(&room, now, now, Types::All, 2)
            .await
            .unwrap()
            .events
            .is_empty()
    );
}

#[tokio::test]
async fn past_states_are_unchanged() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let reader = server.rooms.reader();
    let position = server.store.positions_of(&*room).visible();
    let sent = server.send_message(&room, &bob(), "still here").await.unwrap();
    let left = server.member(&room, &bob(), &bob(), "leave").await.unwrap();
    // A long history, so that state groups form chains with whole groups in between.
    for n in 0..230 {
        server
            .state(&room, &alice(), "m.room.name", "", json!({ "name": n.to_string() }))
            .await
            .unwrap();
    }
    let at = async |id: &ruma::EventId| reader.state_at(&room, id).await.unwrap().unwrap();
    assert_eq!(at(&sent).await.membership(&bob()), MembershipState::Join);
    assert_eq!(at(&left).await.membership(&bob()), MembershipState::Join);
    let after = reader.state_after(&room, &left).await.unwrap().unwrap();
    assert_eq!(after.membership(&bob()), MembershipState::Leave);
    let then = reader.state_at_position(&room, position).await.unwrap().unwrap();
    assert_eq!(then.membership(&bob()), MembershipState::Join);
    let now = reader.state(&room).await.unwrap().unwrap();
    let also = reader.state_at_position(&room, u64::MAX).await.unwrap().unwrap();
    assert_eq!(now.map(), also.map());
    let server = server.reboot().await;
    assert_eq!(
        server.rooms.reader().state(&room).await.unwrap().unwrap().map(),
        now.map()
    );
}

#[tokio::test]
async fn other_servers_can_read_the_graph_and_the_auth_chain() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let first = server.send_message(&room, &alice(), "1").await.unwrap();
    let second = server.send_message(&room, &bob(), "2").await.unwrap();
    let third = server.send_message(&room, &alice(), "3").await.unwrap();
    let reader = server.rooms.reader();
    let ids = |events: Vec<std::sync::Arc<weft_dag::Pdu>>| {
        events.iter().map(|pdu| pdu.event_id().to_owned()).collect::<Vec<_>>()
    };
    let between = reader
        .missing_events(&room, std::slice::from_ref(&first), std::slice::from_ref(&third), 10)
        .await;
    assert_eq!(ids(between.unwrap()), std::slice::from_ref(&second));
    let back = reader.backfill(&room, std::slice::from_ref(&third), 2).await.unwrap();
    assert_eq!(ids(back), [third.clone(), second]);
    assert_eq!(reader.extremities(&room).await.unwrap(), std::slice::from_ref(&third));
    let around = reader.state_ids(&room, &third).await.unwrap().unwrap();
    assert_eq!(
        around.state.len(),
        reader.state(&room).await.unwrap().unwrap().map().0.len()
    );
    let create = reader.state_event(&room, "m.room.create", "").await.unwrap().unwrap();
    // In room version 12 no event cites the create event, and every event depends on it.
    assert!(around.auth_chain.iter().any(|id| id == create.event_id()));
    assert!(around.auth_chain.len() > 3);
}

#[tokio::test]
async fn history_is_visible_to_current_and_former_members() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let before = server.send_message(&room, &alice(), "before").await.unwrap();
    server.member(&room, &alice(), &bob(), "leave").await.unwrap();
    let after = server.send_message(&room, &alice(), "after").await.unwrap();
    let reader = server.rooms.reader();
    let sees = async |who: &ruma::UserId| {
        let events = reader.events(&room, &[before.clone(), after.clone()]).await.unwrap();
        let events: Vec<_> = events.into_iter().map(|event| event.pdu).collect();
        reader.visible_to_user(&room, who, events).await.unwrap().len()
    };
    assert_eq!(sees(&alice()).await, 2);
    assert_eq!(sees(&bob()).await, 1, "visible until the end of the membership");
    assert_eq!(sees(&user("stranger")).await, 0);
    let visibility = json!({ "history_visibility": "world_readable" });
    server
        .state(&room, &alice(), "m.room.history_visibility", "", visibility)
        .await
        .unwrap();
    let open = server.send_message(&room, &alice(), "open").await.unwrap();
    let events = reader.events(&room, &[open]).await.unwrap();
    let events: Vec<_> = events.into_iter().map(|event| event.pdu).collect();
    assert_eq!(
        reader
            .visible_to_user(&room, &user("stranger"), events)
            .await
            .unwrap()
            .len(),
        1
    );
}

/// All ways to leave and to get another membership afterwards, with events before, during and after.
#[tokio::test]
async fn visible_history_ends_with_the_last_join_whatever_membership_follows() {
    let endings: [&[(&str, &str)]; 6] = [
        &[("bob", "leave")],
        &[("alice", "leave"), ("alice", "ban")],
        &[("alice", "ban")],
        &[("alice", "ban"), ("alice", "leave")],
        &[("bob", "leave"), ("alice", "invite")],
        &[("bob", "leave"), ("alice", "invite"), ("bob", "leave")],
    ];
    for visibility in ["shared", "invited", "joined"] {
        for ending in endings {
            let server = Server::new().await;
            let room = server.rooms.create(&alice(), CreateRoom::default()).await.unwrap();
            let content = json!({ "history_visibility": visibility });
            let kind = "m.room.history_visibility";
            server.state(&room, &alice(), kind, "", content).await.unwrap();
            let mut sent = vec![server.send_message(&room, &alice(), "before").await.unwrap()];
            server.member(&room, &alice(), &bob(), "invite").await.unwrap();
            sent.push(server.send_message(&room, &alice(), "invited").await.unwrap());
            server.member(&room, &bob(), &bob(), "join").await.unwrap();
            sent.push(server.send_message(&room, &alice(), "joined").await.unwrap());
            for (who, membership) in ending {
                server.member(&room, &user(who), &bob(), membership).await.unwrap();
                sent.push(server.send_message(&room, &alice(), "after").await.unwrap());
            }
            let reader = server.rooms.reader();
            let sees = async || {
                let events = reader.events(&room, &sent).await.unwrap();
                let events: Vec<_> = events.into_iter().map(|event| event.pdu).collect();
                let seen = reader.visible_to_user(&room, &bob(), events).await.unwrap();
                let seen: Vec<_> = seen.iter().map(|pdu| pdu.event_id().to_owned()).collect();
                sent.iter().map(|id| seen.contains(id)).collect::<Vec<bool>>()
            };
            let stay = [visibility == "shared", visibility != "joined", true];
            let mut expected = stay.to_vec();
            expected.resize(sent.len(), false);
            let steps: Vec<&str> = ending.iter().map(|(_, membership)| *membership).collect();
            let last = *steps.last().unwrap();
            assert_eq!(sees().await, expected, "{visibility} {steps:?}");

            // With `shared` history, a second join makes the events before it visible.
            if last != "invite" {
                if last == "ban" {
                    server.member(&room, &alice(), &bob(), "leave").await.unwrap();
                }
                server.member(&room, &alice(), &bob(), "invite").await.unwrap();
            }
            server.member(&room, &bob(), &bob(), "join").await.unwrap();
            server.member(&room, &bob(), &bob(), "leave").await.unwrap();
            let seen = sees().await;
            assert_eq!(seen[..3], stay, "{visibility} {steps:?}");
            let of_the_invited = visibility == "invited" && last == "invite";
            let opened = visibility == "shared" || of_the_invited;
            assert_eq!(*seen.last().unwrap(), opened, "{visibility} {steps:?}");
        }
    }
}
