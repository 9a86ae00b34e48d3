//! T15: graphs with many branches. Local events merge the forward extremities again.

use ruma::{RoomVersionId, UserId};
use serde_json::json;
use weft_dag::testing::object;

use crate::scenario::{BOB, Scenario};

/// 300 events with the same `prev_events`: each is a forward extremity, and each local event references ten of them.
#[tokio::test]
async fn t15_many_forward_extremities_are_merged_by_the_next_events() {
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
    let receiver = scenario.receiver().await;
    let counts = scenario.extremities_after(&receiver, fan, 34).await;
    assert_eq!(counts[0], FAN, "each of them is a forward extremity");
    let falls = counts.windows(2).all(|pair| pair[1] < pair[0] || pair[1] == 1);
    assert!(falls, "the number of forward extremities falls: {counts:?}");
    assert_eq!(*counts.last().unwrap(), 1, "{counts:?}");
}
