//! W14, W16: what a client is told of a room of which events are missing, for good or for a while.

use serde_json::Value;

use super::{
    elsewhere::receive,
    peer::Peer,
    world::{Person, World, ids},
};

/// What the people say in a list of events.
fn said(events: &Value) -> Vec<&str> {
    let events = events.as_array().into_iter().flatten();
    events.filter_map(|event| event["content"]["body"].as_str()).collect()
}

async fn beside() -> (std::sync::Arc<Peer>, World, Person) {
    let peer = Peer::new();
    let world = World::beside(peer.clone()).await;
    let alice = world.person("alice").await;
    (peer, world, alice)
}

/// W14: before a gap that can't be filled the timeline of a sync begins anew, and says so.
#[tokio::test]
async fn a_sync_says_that_events_are_missing_before_a_gap() {
    let (peer, world, alice) = beside().await;
    peer.give_history();
    peer.say("long ago");
    peer.admit(&world, &alice.user).await;
    let room = peer.id();
    let first = peer.say("first");
    receive(&world, first).await;
    let since = world.sync(&alice, None, "").await["next_batch"]
        .as_str()
        .unwrap()
        .to_owned();
    let second = peer.say("second");
    let second = receive(&world, second).await;
    let whole = world.sync(&alice, Some(&since), "").await;
    let timeline = &whole["rooms"]["join"][room.as_str()]["timeline"];
    assert_eq!(
        (said(&timeline["events"]), &timeline["limited"]),
        (vec!["second"], &false.into())
    );

    let lost = peer.say("lost");
    peer.lose(lost.pdu().event_id());
    let (behind, last) = (peer.say("behind the gap"), peer.say("last"));
    let behind = receive(&world, behind).await;
    receive(&world, last).await;
    let news = world.sync(&alice, Some(&since), "").await;
    let timeline = &news["rooms"]["join"][room.as_str()]["timeline"];
    assert_eq!(said(&timeline["events"]), ["behind the gap", "last"]);
    assert_eq!(timeline["limited"], true, "{timeline}");
    assert!(!ids(&timeline["events"]).contains(&second.to_string()));
    // What is before the gap is found by paging back from there.
    let from = timeline["prev_batch"].as_str().unwrap();
    let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=100&from={from}");
    let page = world.get(&path, &alice).await;
    assert!(
        said(&page["chunk"]).starts_with(&["second", "first"]),
        "{timeline} {page}"
    );
    // After the gap nothing is missing.
    let since = whole["next_batch"].as_str().unwrap();
    let later = peer.say("later");
    receive(&world, later).await;
    let news = world.sync(&alice, Some(news["next_batch"].as_str().unwrap()), "").await;
    let timeline = &news["rooms"]["join"][room.as_str()]["timeline"];
    assert_eq!(
        (said(&timeline["events"]), &timeline["limited"]),
        (vec!["later"], &false.into())
    );
    let news = world.sync(&alice, Some(since), "").await;
    let timeline = &news["rooms"]["join"][room.as_str()]["timeline"];
    assert_eq!(ids(&timeline["events"])[0], behind.to_string());
    assert_eq!(timeline["limited"], true);
}

/// W16: the first page backward waits for history that is being fetched.
#[tokio::test]
async fn the_first_page_of_messages_waits_for_history_that_is_coming() {
    // A page waits for some seconds only. On a machine that stops for longer it is short and says where to go on: once
    // more then.
    for _ in 0..5 {
        let (peer, world, alice) = beside().await;
        for number in 0..5 {
            peer.say(&format!("old {number}"));
        }
        peer.admit(&world, &alice.user).await;
        peer.until_asked().await;
        let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100", peer.id());
        let request = world.get(&path, &alice);
        let others = async {
            // Requests that find the server as the page does, so that the page waits by now.
            for _ in 0..10 {
                world.get("/_matrix/client/v3/joined_rooms", &alice).await;
            }
            peer.give_history();
        };
        let (page, ()) = tokio::join!(request, others);
        if said(&page["chunk"]).is_empty() {
            assert!(page["end"].is_string(), "{page}");
            continue;
        }
        assert_eq!(said(&page["chunk"]), ["old 4", "old 3", "old 2", "old 1", "old 0"]);
        assert!(page["end"].is_null(), "{page}");
        return;
    }
    panic!("no page waited");
}

/// W16: where history does not come, the first page has what is from after the join, and the next one the history.
#[tokio::test]
async fn a_page_of_messages_goes_on_where_history_is_late() {
    let (peer, world, alice) = beside().await;
    peer.say("old");
    peer.admit(&world, &alice.user).await;
    let new = peer.say("new");
    receive(&world, new).await;
    peer.until_asked().await;
    // The time for which a page waits is over as soon as nothing else is to do.
    tokio::time::pause();
    let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100", peer.id());
    let page = world.get(&path, &alice).await;
    assert_eq!(said(&page["chunk"]), ["new"]);
    let end = page["end"].as_str().unwrap().to_owned();
    tokio::time::resume();
    peer.give_history();
    for _ in 0..1_000 {
        let page = world.get(&format!("{path}&from={end}"), &alice).await;
        if said(&page["chunk"]) == ["old"] {
            return;
        }
        assert!(page["end"].is_string(), "{page}");
    }
    panic!("the history is nowhere");
}
