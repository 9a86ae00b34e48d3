//! Sync tokens over several lanes, over restarts and over a loss: each event is sent exactly once, whatever its lane.
//!
//! The three faults that Synapse had with tokens of several writers are among them: entries below the lowest position
//! (element-hq/synapse#17438), a writer that had no row yet (matrix-org/synapse#16473), and a stream that went back after a
//! restart (element-hq/synapse#17386).

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::world::{Person, World, ids, kinds};

const LANES: u16 = 16;

/// Syncs once; returns the token and the ids of the events of all timelines.
async fn sync(world: &World, who: &Person, since: Option<&str>) -> (String, Vec<String>) {
    let body = world.sync(who, since, "").await;
    (token(&body), events(&body))
}

fn token(body: &Value) -> String {
    body["next_batch"].as_str().unwrap().to_owned()
}

fn events(body: &Value) -> Vec<String> {
    let rooms = body["rooms"]["join"].as_object().into_iter().flatten();
    rooms.flat_map(|(_, room)| ids(&room["timeline"]["events"])).collect()
}

async fn rooms(world: &World, who: &Person, count: usize) -> Vec<String> {
    let mut rooms = Vec::new();
    for _ in 0..count {
        rooms.push(world.room(who, json!({})).await);
    }
    rooms
}

#[tokio::test]
async fn each_message_is_sent_once_whatever_the_lane_of_its_room() {
    let world = World::with_lanes(LANES).await;
    let alice = world.person("alice").await;
    let mut all = rooms(&world, &alice, 3).await;
    let (mut since, _) = sync(&world, &alice, None).await;
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    for round in 0..30 {
        for index in [round, round * 7 + 1] {
            let room = &all[index % all.len()];
            sent.push(world.send_text(room, &alice, &round.to_string()).await);
        }
        // Some are in lanes without a room of the user, or without any commit.
        all.extend(rooms(&world, &alice, usize::from(round % 2 == 0)).await);
        let (next, events) = sync(&world, &alice, Some(&since)).await;
        let (again, nothing) = sync(&world, &alice, Some(&next)).await;
        assert_eq!((again, nothing), (next.clone(), vec![]), "round {round}");
        received.extend(events);
        since = next;
    }
    let unique: BTreeSet<&String> = received.iter().collect();
    assert_eq!(unique.len(), received.len(), "nothing is sent twice");
    assert!(sent.iter().all(|event| unique.contains(event)), "nothing is missed");
}

#[tokio::test]
async fn account_data_and_receipts_arrive_although_their_positions_are_of_other_lanes() {
    let world = World::with_lanes(LANES).await;
    let alice = world.person("alice").await;
    let all = rooms(&world, &alice, 6).await;
    let (mut since, _) = sync(&world, &alice, None).await;
    for (number, room) in all.iter().enumerate() {
        let path = format!("/_matrix/client/v3/user/{}/account_data/x.test", alice.user);
        world.ok("PUT", &path, &alice, json!({"n": number})).await;
        let event = world.send_text(room, &alice, "read this").await;
        let receipt = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{event}");
        world.ok("POST", &receipt, &alice, json!({})).await;
        let body = world.sync(&alice, Some(&since), "").await;
        assert_eq!(body["account_data"]["events"][0]["content"]["n"], json!(number));
        let ephemeral = &body["rooms"]["join"][room]["ephemeral"]["events"];
        assert!(ephemeral[0]["content"][&event]["m.read"].is_object(), "{ephemeral}");
        since = token(&body);
        let nothing = world.sync(&alice, Some(&since), "").await;
        assert!(
            nothing.get("rooms").is_none() && nothing.get("account_data").is_none(),
            "{nothing}"
        );
    }
}

#[tokio::test]
async fn a_waiting_sync_is_woken_by_a_message_in_any_lane() {
    let world = World::with_lanes(LANES).await;
    let alice = world.person("alice").await;
    let all = rooms(&world, &alice, 6).await;
    let (mut since, _) = sync(&world, &alice, None).await;
    for room in &all {
        let waiting = {
            let (world, alice, since) = (world.clone(), alice.clone(), since.clone());
            tokio::spawn(async move { world.sync(&alice, Some(&since), "timeout=50000").await })
        };
        tokio::task::yield_now().await;
        let sent = world.send_text(room, &alice, "wake up").await;
        let body = waiting.await.unwrap();
        assert_eq!(events(&body), [sent]);
        since = token(&body);
    }
}

#[tokio::test]
async fn a_token_is_valid_after_a_restart_and_nothing_is_repeated() {
    for lanes in [1, LANES] {
        let mut world = World::with_lanes(lanes).await;
        let alice = world.person("alice").await;
        let all = rooms(&world, &alice, 5).await;
        let (mut since, _) = sync(&world, &alice, None).await;
        for round in 0..3 {
            let before = world.send_text(&all[round], &alice, "before").await;
            world = World::start(&world.server.disk, false).await;
            let after = world.send_text(&all[round + 1], &alice, "after").await;
            let (next, events) = sync(&world, &alice, Some(&since)).await;
            let events: BTreeSet<String> = events.into_iter().collect();
            assert_eq!(events, BTreeSet::from([before, after]));
            since = next;
        }
    }
}

#[tokio::test]
async fn in_a_new_era_the_client_begins_anew() {
    for lanes in [1, LANES] {
        let world = World::with_lanes(lanes).await;
        let alice = world.person("alice").await;
        let all = rooms(&world, &alice, 3).await;
        let (since, _) = sync(&world, &alice, None).await;
        let world = World::start(&world.server.disk, true).await;
        let body = world.sync(&alice, Some(&since), "").await;
        let joined = body["rooms"]["join"].as_object().unwrap();
        assert_eq!(joined.len(), all.len());
        // From the beginning: the rooms are short.
        let is_whole = |room: &Value| kinds(&room["timeline"]["events"]).contains(&"m.room.create");
        assert!(joined.values().all(is_whole), "{body}");
        let (_, nothing) = sync(&world, &alice, Some(&token(&body))).await;
        assert_eq!(nothing, [""; 0]);
    }
}

/// The process has not read what another one has sent to the client.
#[tokio::test]
async fn a_token_ahead_of_the_process_waits_and_does_not_begin_anew() {
    let world = World::with_lanes(LANES).await;
    let alice = world.person("alice").await;
    let room = rooms(&world, &alice, 1).await.remove(0);
    let behind = world.server.disk.copy();
    let world = World::start(&world.server.disk, false).await;
    world.send_text(&room, &alice, "ahead").await;
    let (since, _) = sync(&world, &alice, None).await;

    let world = World::start(&behind, false).await;
    let body = world.sync(&alice, Some(&since), "timeout=10").await;
    assert_eq!((token(&body), body.get("rooms")), (since.clone(), None));
    let waiting = {
        let (world, alice, since) = (world.clone(), alice.clone(), since.clone());
        tokio::spawn(async move { world.sync(&alice, Some(&since), "timeout=50000").await })
    };
    tokio::time::sleep(Duration::from_millis(1)).await;
    world.send_text(&room, &alice, "the one that the client has").await;
    let sent = world.send_text(&room, &alice, "the next one").await;
    assert_eq!(events(&waiting.await.unwrap()), [sent]);
}

#[tokio::test]
async fn typing_is_told_anew_after_a_restart_and_no_user_types_for_ever() {
    let world = World::with_lanes(LANES).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = rooms(&world, &alice, 1).await.remove(0);
    world.invite_and_join(&room, &alice, &bob).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/typing/{}", bob.user);
    let (quiet, _) = sync(&world, &alice, None).await;
    world
        .ok("PUT", &path, &bob, json!({"typing": true, "timeout": 30_000}))
        .await;
    let body = world.sync(&alice, Some(&quiet), "").await;
    let list = |body: &Value| body["rooms"]["join"][&room]["ephemeral"]["events"][0]["content"]["user_ids"].clone();
    assert_eq!(list(&body), json!([bob.user]));
    let typing = token(&body);

    let world = World::start(&world.server.disk, false).await;
    let body = world.sync(&alice, Some(&typing), "").await;
    assert_eq!(
        list(&body),
        json!([]),
        "the list of the earlier process is cleared, once"
    );
    let cleared = world.sync(&alice, Some(&token(&body)), "").await;
    assert!(cleared.get("rooms").is_none(), "{cleared}");
    let body = world.sync(&alice, Some(&quiet), "").await;
    assert!(
        body.get("rooms").is_none(),
        "no list was shown, so none is cleared: {body}"
    );
    world
        .ok("PUT", &path, &bob, json!({"typing": true, "timeout": 30_000}))
        .await;
    for since in [&typing, &quiet, &token(&cleared)] {
        assert_eq!(list(&world.sync(&alice, Some(since), "").await), json!([bob.user]));
    }
}

#[tokio::test]
async fn a_token_of_an_earlier_version_is_valid_in_a_deployment_with_one_lane() {
    let world = World::with_lanes(1).await;
    let alice = world.person("alice").await;
    let room = rooms(&world, &alice, 1).await.remove(0);
    let sent = world.send_text(&room, &alice, "after the token").await;
    let body = world.sync(&alice, Some("s1_0_0"), "").await;
    assert!(events(&body).contains(&sent) && body["rooms"]["join"][&room]["timeline"].is_object());
    for wrong in ["s1", "w1.1", "w2.1..AAAAAA", "x"] {
        let path = format!("/_matrix/client/v3/sync?since={wrong}");
        let refused = world.refused("GET", &path, &alice, Value::Null).await;
        assert_eq!(refused, (400, "M_INVALID_PARAM".to_owned()), "{wrong}");
    }
    let world = World::with_lanes(LANES).await;
    let alice = world.person("alice").await;
    let all = rooms(&world, &alice, 4).await;
    let body = world.sync(&alice, Some("s1_0_0"), "").await;
    assert_eq!(
        body["rooms"]["join"].as_object().unwrap().len(),
        all.len(),
        "with several lanes it is an initial sync"
    );
}
