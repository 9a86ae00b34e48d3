//! A disk that can't be read or written: 503 with the standard code and text, never 500 and never a wrong answer.

use serde_json::{Value, json};

use super::world::World;

#[tokio::test]
async fn a_failing_disk_gives_503_until_it_works_again() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.room(&alice, json!({})).await;
    let event = world.send_text(&room, &alice, "before").await;
    let paths = [
        "/_matrix/client/v3/account/whoami".to_owned(),
        "/_matrix/client/v3/sync".to_owned(),
        format!("/_matrix/client/v3/rooms/{room}/messages?dir=b"),
        format!("/_matrix/client/v3/rooms/{room}/event/{event}"),
        format!("/_matrix/client/v3/rooms/{room}/state"),
        format!("/_matrix/client/v3/profile/{}", alice.user),
    ];
    world.server.disk.fail_reads(true);
    for path in &paths {
        let (status, answer) = world.ask("GET", path, Some(&alice.token), Value::Null).await;
        assert_eq!(
            (status, &answer["errcode"]),
            (503, &json!("M_UNKNOWN")),
            "{path}: {answer}"
        );
    }
    world.server.disk.fail_reads(false);
    for path in &paths {
        world.get(path, &alice).await;
    }
}

#[tokio::test]
async fn after_a_failed_fsync_reads_work_and_writes_are_503() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.room(&alice, json!({})).await;
    world.server.disk.fail_next_sync();
    let message = json!({"msgtype": "m.text", "body": "lost"});
    let writes = [
        (
            "PUT",
            format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/1"),
            message,
        ),
        (
            "PUT",
            format!("/_matrix/client/v3/rooms/{room}/state/m.room.topic"),
            json!({"topic": "t"}),
        ),
        ("POST", "/_matrix/client/v3/createRoom".to_owned(), json!({})),
        (
            "PUT",
            format!("/_matrix/client/v3/profile/{}/displayname", alice.user),
            json!({"displayname": "A"}),
        ),
    ];
    for _ in 0..2 {
        for (method, path, body) in &writes {
            let (status, answer) = world.ask(method, path, Some(&alice.token), body.clone()).await;
            assert_eq!(
                (status, &answer["errcode"]),
                (503, &json!("M_UNKNOWN")),
                "{path}: {answer}"
            );
            assert!(
                answer["error"].as_str().unwrap().contains("cannot write to its disk"),
                "{path}: {answer}"
            );
        }
    }
    world
        .get(&format!("/_matrix/client/v3/rooms/{room}/state"), &alice)
        .await;
}
