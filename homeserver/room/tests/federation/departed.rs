//! History visibility for users who left or were removed, after another user of their server causes a backfill.

use ruma::{OwnedEventId, RoomId, RoomVersionId};
use weft_room_read::{Direction, Types};
use weft_testkit::user;

use super::{ALICE, BOB, net::Net};

const DORA: &str = "@dora:b.example";

async fn visible(net: &Net, room: &RoomId, who: &str, ids: &[OwnedEventId]) -> Vec<OwnedEventId> {
    let reader = net.rooms("b.example").reader().clone();
    let events = reader.events(room, ids).await.unwrap();
    assert_eq!(events.len(), ids.len(), "all events are stored here");
    let events = events.into_iter().map(|event| event.pdu).collect();
    let seen = reader.visible_to_user(room, &user(who), events).await.unwrap();
    seen.iter().map(|pdu| pdu.event_id().to_owned()).collect()
}

/// All events of a server's timeline, including updates of the text.
async fn all_of(net: &Net, server: &str, room: &RoomId) -> Vec<OwnedEventId> {
    let reader = net.rooms(server).reader().clone();
    let page = reader
        .timeline(room, None, Direction::Forward, Types::All, 500)
        .await
        .unwrap();
    page.events
        .iter()
        .map(|event| event.pdu.event_id().to_owned())
        .collect()
}

#[tokio::test]
async fn a_departed_user_cannot_see_later_backfilled_events() {
    for version in [RoomVersionId::V12, RoomVersionId::V11, RoomVersionId::V6] {
        for end in ["leave", "kick", "ban", "unban"] {
            let net = Net::new(&["a.example", "b.example"]).await;
            let room = net.document(ALICE, &version).await;
            let before = net.message(ALICE, &room, "before the join").await;
            net.invite_and_join(ALICE, BOB, &room, 25).await;
            let during = net.message(ALICE, &room, "during the membership").await;
            net.quiet(&room).await;
            match end {
                "leave" => net.leave(BOB, &room).await,
                "kick" => {
                    net.member(ALICE, BOB, &room, "leave").await;
                    net.until_member(BOB, &room, "leave").await;
                }
                _ => {
                    net.member(ALICE, BOB, &room, "ban").await;
                    net.until_member(BOB, &room, "ban").await;
                }
            }
            let mut after = vec![net.message(ALICE, &room, "after the departure").await];
            net.edit(ALICE, &room, 0, "secret").await;
            net.seal(ALICE, &room).await;
            if end == "unban" {
                net.member(ALICE, BOB, &room, "leave").await;
                after.push(net.message(ALICE, &room, "after the unban").await);
            }
            net.invite(ALICE, DORA, &room).await;
            net.join(DORA, &room).await;
            let reader = net.rooms("b.example").reader().clone();
            for id in [&before, &after[0]] {
                net.until(|| async { reader.order(&room, id).await.unwrap().is_some() })
                    .await;
            }
            let all = all_of(&net, "b.example", &room).await;
            let dora = visible(&net, &room, DORA, &all).await;
            assert!(after.iter().all(|id| dora.contains(id)), "{version} {end}");
            let bob = visible(&net, &room, BOB, &all).await;
            for id in [&before, &during] {
                assert!(
                    bob.contains(id),
                    "{version} {end}: the history until the departure is visible"
                );
            }
            // Of the events after the departure, including updates of the text, only the user's own membership event is
            // visible.
            let late = all_of(&net, "a.example", &room).await;
            for id in late
                .iter()
                .skip_while(|id| **id != after[0])
                .filter(|id| bob.contains(*id))
            {
                let pdu = reader.event(Some(&room), id).await.unwrap().unwrap();
                assert_eq!(pdu.state_key(), Some(BOB), "{version} {end}: {}", pdu.json());
            }
        }
    }
}
