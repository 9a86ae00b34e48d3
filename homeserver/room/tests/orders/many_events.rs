//! T15: graphs that fan out. What comes in is gathered again by what is said here.

use ruma::{RoomVersionId, UserId};
use serde_json::json;
use weft_dag::testing::object;

use crate::scenario::{BOB, Scenario};

/// Three hundred events that follow the same one: each is an end of the graph, and what is said here takes ten at a time
/// together.
#[tokio::test]
async fn t15_a_fan_of_ends_is_gathered_by_what_is_said_next() {
    const FAN: usize = 300;
    let mut scenario = Scenario::new(&RoomVersionId::V12);
    let start = scenario.start();
    let bob = UserId::parse(BOB).unwrap();
    let before = scenario.world.view_before(std::slice::from_ref(&start));
    let auth = before
        .auth_events("m.room.message", &bob, None, &object(json!({})))
        .unwrap();
    let fan: Vec<_> = (0..FAN)
        .map(|number| {
            let content = object(json!({ "body": number }));
            scenario.world.build_citing(
                std::slice::from_ref(&start),
                auth.clone(),
                &bob,
                "m.room.message",
                None,
                content,
            )
        })
        .collect();
    let audience = scenario.audience().await;
    let ends = scenario.gathers(&audience, fan, 34).await;
    assert_eq!(ends[0], FAN, "each of them is an end");
    let falls = ends.windows(2).all(|pair| pair[1] < pair[0] || pair[1] == 1);
    assert!(falls, "what is said here takes ends together: {ends:?}");
    assert_eq!(*ends.last().unwrap(), 1, "{ends:?}");
}
