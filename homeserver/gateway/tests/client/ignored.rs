//! Ignored users and forgotten rooms: data that is not sent to a client.

use serde_json::{Value, json};

use super::world::{Person, World, ids, kinds};

async fn ignore(world: &World, who: &Person, whom: &[&Person]) {
    let users: serde_json::Map<String, Value> = whom.iter().map(|who| (who.user.to_string(), json!({}))).collect();
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", who.user);
    world.ok("PUT", &path, who, json!({"ignored_users": users})).await;
}

#[tokio::test]
async fn messages_of_ignored_users_are_not_sent_but_their_state_events_are() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let options = json!({"preset": "public_chat", "power_level_content_override": {"state_default": 0}});
    let room = world.room(&alice, options).await;
    let base = format!("/_matrix/client/v3/rooms/{room}");
    world.ok("POST", &format!("{base}/join"), &bob, json!({})).await;
    let own = world.send_text(&room, &alice, "own").await;
    let since = world.sync(&alice, None, "").await["next_batch"]
        .as_str()
        .unwrap()
        .to_owned();
    ignore(&world, &alice, &[&bob, &alice]).await;
    let annoying = world.send_text(&room, &bob, "annoying").await;
    let reaction = json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": own, "key": "x"}});
    let path = format!("{base}/send/m.reaction/1");
    let reaction = world.ok("PUT", &path, &bob, reaction).await["event_id"].clone();
    let topic = world
        .set_state(&room, &bob, "m.room.topic", "", json!({"topic": "t"}))
        .await;
    let last = world.send_text(&room, &alice, "last").await;
    for since in [Some(since.as_str()), None] {
        let synced = world.sync(&alice, since, "").await;
        let shown = ids(&synced["rooms"]["join"][&room]["timeline"]["events"]);
        assert!(shown.contains(&topic) && shown.contains(&last), "{since:?} {shown:?}");
        assert!(!shown.contains(&annoying), "{since:?} {shown:?}");
    }
    for path in [
        "messages?dir=b&limit=50".to_owned(),
        "messages?dir=f&limit=50".to_owned(),
        format!("context/{own}?limit=20"),
    ] {
        let synced = world.get(&format!("{base}/{path}"), &alice).await.to_string();
        assert!(
            synced.contains(&topic) && !synced.contains(&annoying),
            "{path}: {synced}"
        );
    }
    let relations = world
        .get(&format!("/_matrix/client/v1/rooms/{room}/relations/{own}"), &alice)
        .await;
    assert_eq!(relations["chunk"], json!([]));
    // An event that is requested by its id is returned, and other users receive everything.
    world.get(&format!("{base}/event/{annoying}"), &alice).await;
    let relations = world
        .get(&format!("/_matrix/client/v1/rooms/{room}/relations/{own}"), &bob)
        .await;
    assert_eq!(relations["chunk"][0]["event_id"], reaction);
    ignore(&world, &alice, &[]).await;
    let synced = world.sync(&alice, Some(&since), "").await;
    assert!(ids(&synced["rooms"]["join"][&room]["timeline"]["events"]).contains(&annoying));
}

#[tokio::test]
async fn invitations_of_ignored_users_are_hidden_until_they_are_unignored() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&bob, json!({"preset": "private_chat"})).await;
    ignore(&world, &alice, &[&bob]).await;
    let first = world.sync(&alice, None, "").await;
    let invite = format!("/_matrix/client/v3/rooms/{room}/invite");
    world.ok("POST", &invite, &bob, json!({"user_id": alice.user})).await;
    let ignored = world.sync(&alice, first["next_batch"].as_str(), "").await;
    assert!(ignored["rooms"].get("invite").is_none(), "{ignored}");
    assert!(world.sync(&alice, None, "").await["rooms"].get("invite").is_none());
    ignore(&world, &alice, &[]).await;
    let synced = world.sync(&alice, ignored["next_batch"].as_str(), "").await;
    assert!(synced["rooms"]["invite"].get(&room).is_some(), "{synced}");
}

/// W3: a room that was forgotten on one device leaves the lists of the others, once.
#[tokio::test]
async fn a_forgotten_room_is_sent_as_left_to_other_devices() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    for declines in [false, true] {
        let room = world.room(&alice, json!({"preset": "private_chat"})).await;
        let base = format!("/_matrix/client/v3/rooms/{room}");
        if declines {
            let invite = json!({"user_id": bob.user});
            world.ok("POST", &format!("{base}/invite"), &alice, invite).await;
        } else {
            world.invite_and_join(&room, &alice, &bob).await;
        }
        let before = world.sync(&bob, None, "").await;
        let since = before["next_batch"].as_str();
        for action in ["leave", "forget"] {
            world.ok("POST", &format!("{base}/{action}"), &bob, json!({})).await;
        }
        world.send_text(&room, &alice, "later").await;
        let synced = world.sync(&bob, since, "").await;
        let left = &synced["rooms"]["leave"][&room];
        assert_eq!(
            kinds(&left["timeline"]["events"]).last(),
            Some(&"m.room.member"),
            "{declines}: {synced}"
        );
        assert!(!left.to_string().contains("later"));
        let next = world.sync(&bob, synced["next_batch"].as_str(), "").await;
        assert!(next.get("rooms").is_none(), "{next}");
        let include = "filter=%7B%22room%22%3A%7B%22include_leave%22%3Atrue%7D%7D";
        let initial = world.sync(&bob, None, include).await;
        assert!(initial["rooms"]["leave"].get(&room).is_none(), "{initial}");
    }
}
