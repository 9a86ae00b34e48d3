//! The scenarios, one test each. A malicious server must not make honest servers diverge.

use ruma::{OwnedEventId, RoomVersionId};
use serde_json::json;

use crate::scenario::{ALICE, BOB, CAROL, DAVE, Scenario, converges, converges_in_portion, deletion, update};

fn scenario() -> Scenario {
    Scenario::new(&RoomVersionId::V12)
}

#[tokio::test(start_paused = true)]
async fn two_contents_for_one_clock_give_one_text() {
    let mut scenario = scenario();
    let start = scenario.start();
    let one = scenario.edit(&[&start], BOB, update(7, 'a', 0, 4));
    let two = scenario.edit(&[&start], BOB, update(7, 'b', 0, 4));
    scenario.edit(&[&one], BOB, update(7, 'a', 4, 6));
    let on_two = scenario.edit(&[&two], BOB, update(7, 'b', 4, 8));
    scenario.edit(&[&on_two], CAROL, update(8, 'c', 0, 2));
    let outcome = converges("two contents", scenario).await;
    assert!(outcome.text.contains("cc"), "{}", outcome.text);
    assert!(
        outcome.text.contains('a') != outcome.text.contains('b'),
        "{}",
        outcome.text
    );
}

/// One of three portions of the orders of six events.
async fn a_client_id_with_owners_on_two_branches_gives_one_text(letter: char, portion: usize) {
    let mut scenario = scenario();
    let start = scenario.start();
    let bobs = scenario.edit(&[&start], BOB, update(7, 'a', 0, 4));
    let carols = scenario.edit(&[&start], CAROL, update(7, letter, 0, 4));
    scenario.edit(&[&bobs], BOB, update(7, 'a', 4, 6));
    scenario.edit(&[&carols], CAROL, update(7, letter, 4, 9));
    let both = scenario.message(&[&bobs, &carols], DAVE);
    scenario.edit(&[&both], BOB, update(7, 'a', 4, 5));
    converges_in_portion(&format!("a and {letter}"), scenario, (portion, 3)).await;
}

macro_rules! owners_on_two_branches {
    ($($name:ident: $letter:expr, $portion:expr;)*) => { $(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            a_client_id_with_owners_on_two_branches_gives_one_text($letter, $portion).await;
        }
    )* };
}

owners_on_two_branches! {
    owners_of_one_text_0: 'a', 0;
    owners_of_one_text_1: 'a', 1;
    owners_of_one_text_2: 'a', 2;
    owners_of_two_texts_0: 'b', 0;
    owners_of_two_texts_1: 'b', 1;
    owners_of_two_texts_2: 'b', 2;
}

#[tokio::test(start_paused = true)]
async fn edits_from_before_a_ban_that_are_referenced_later_give_one_text() {
    let mut scenario = scenario();
    let start = scenario.start();
    let ban = scenario.ban(&[&start], BOB);
    let one = scenario.edit(&[&start], BOB, update(7, 'a', 0, 4));
    let two = scenario.edit(&[&one], BOB, update(7, 'a', 4, 6));
    scenario.edit(&[&ban], BOB, update(9, 'z', 0, 2));
    scenario.edit(&[&ban, &two], CAROL, update(8, 'c', 0, 2));
    let outcome = converges("before a ban", scenario).await;
    assert!(outcome.text.contains("aaaaaa") && outcome.text.contains("cc") && !outcome.text.contains('z'));
}

#[tokio::test(start_paused = true)]
async fn a_soft_failed_update_with_claimed_clocks_gives_one_text() {
    for (held, other) in [('b', 'a'), ('a', 'b')] {
        let mut scenario = scenario();
        let start = scenario.start();
        let stands = scenario.edit(&[&start], BOB, update(7, other, 0, 4));
        let ban = scenario.ban(&[&stands], BOB);
        let lie = scenario.edit(&[&start], BOB, update(7, held, 0, 4));
        let on_lie = scenario.edit(&[&lie], BOB, update(7, held, 4, 6));
        scenario.edit(&[&ban, &on_lie], CAROL, update(8, 'c', 0, 2));
        converges(&format!("{held} is soft-failed"), scenario).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_soft_failed_update_behind_a_rejected_event_gives_one_text() {
    let mut scenario = scenario();
    let start = scenario.start();
    let ban = scenario.ban(&[&start], BOB);
    let held = scenario.edit(&[&start], BOB, update(7, 'a', 0, 4));
    let rejected = scenario.send(
        &[&held],
        CAROL,
        "m.room.topic",
        Some(""),
        json!({ "topic": "not allowed" }),
    );
    scenario.edit(&[&ban, &rejected], CAROL, update(8, 'c', 0, 2));
    let outcome = converges("referenced by a rejected event", scenario).await;
    assert!(outcome.text.contains("aaaa"), "{}", outcome.text);
    assert_eq!(outcome.rejected.len(), 1);
}

/// Not malicious, but the same in every order: Carol's pinned events replace Bob's. A server that soft-failed Carol's
/// event must not restore Bob's.
#[tokio::test(start_paused = true)]
async fn state_replaced_by_a_soft_failed_event_is_not_restored() {
    let mut scenario = scenario();
    let start = scenario.start();
    let pin = |scenario: &mut Scenario, after: &OwnedEventId, who: &str| {
        let content = json!({ "pinned": [format!("$by-{who}")] });
        scenario.send(&[after], who, "m.room.pinned_events", Some(""), content)
    };
    let alices = pin(&mut scenario, &start, ALICE);
    scenario.ban(&[&alices], CAROL);
    let bobs = pin(&mut scenario, &start, BOB);
    let carols = pin(&mut scenario, &bobs, CAROL);
    scenario.message(&[&carols], BOB);
    converges("replaced by a soft-failed event", scenario).await;
}

#[tokio::test(start_paused = true)]
async fn deletions_in_a_lost_update_give_one_text() {
    let mut scenario = scenario();
    let start = scenario.start();
    let one = scenario.edit(&[&start], BOB, update(7, 'a', 0, 4));
    let two = scenario.edit(&[&start], BOB, update(7, 'b', 0, 4));
    scenario.edit(&[&one], DAVE, deletion(7, 1, 3));
    scenario.edit(&[&two], CAROL, deletion(7, 0, 1));
    scenario.edit(&[&one, &two], ALICE, update(8, 'c', 0, 2));
    converges("deletions", scenario).await;
}

#[tokio::test(start_paused = true)]
async fn an_edit_between_a_demotion_and_a_promotion_gives_one_text() {
    let mut scenario = scenario();
    let start = scenario.start();
    let levels = |bob: i64| json!({ "users": { BOB: bob, CAROL: 25, DAVE: 25 }, "events": { "dev.weft.update": 25 } });
    let down = scenario.send(&[&start], ALICE, "m.room.power_levels", Some(""), levels(0));
    let up = scenario.send(&[&down], ALICE, "m.room.power_levels", Some(""), levels(25));
    let old = scenario.edit(&[&start], BOB, update(7, 'a', 0, 4));
    scenario.edit(&[&down], BOB, update(9, 'z', 0, 4));
    scenario.edit(&[&up, &old], BOB, update(7, 'a', 4, 6));
    let outcome = converges("demoted and promoted", scenario).await;
    assert!(outcome.text.contains("aaaaaa"), "{}", outcome.text);
}

/// A server that received both contents may continue the one that stands. An update that contains the blocks of a lost
/// update itself counts as if the lost one did not exist.
#[tokio::test(start_paused = true)]
async fn updates_on_both_contents_and_updates_that_contain_both_give_one_text() {
    let mut scenario = scenario();
    let start = scenario.start();
    let one = scenario.edit(&[&start], BOB, update(7, 'a', 0, 4));
    let two = scenario.edit(&[&start], BOB, update(7, 'b', 0, 4));
    scenario.edit(&[&one, &two], BOB, update(7, 'c', 4, 6));
    scenario.edit(&[&two, &one], BOB, update(7, 'd', 4, 7));
    scenario.edit(&[&two], BOB, update(7, 'a', 0, 8));
    converges("both contents", scenario).await;
}

/// An inadmissible update has its place in the graph, and the text at later events can still be read.
#[tokio::test(start_paused = true)]
async fn inadmissible_updates_keep_the_text_readable() {
    let mut scenario = scenario();
    let start = scenario.start();
    let one = scenario.edit(&[&start], BOB, update(7, 'a', 0, 4));
    let bad = scenario.edit(&[&one], BOB, json!({ "update": "!", "clients": {} }));
    let gap = scenario.edit(&[&bad], BOB, update(7, 'a', 6, 8));
    scenario.edit(&[&gap], CAROL, update(8, 'c', 0, 2));
    scenario.edit(&[&bad], CAROL, update(7, 'z', 0, 4));
    let outcome = converges("refused", scenario).await;
    assert!(
        outcome.text.contains("aaaa") && outcome.text.contains("cc") && outcome.text.len() == 6,
        "{}",
        outcome.text
    );
}
