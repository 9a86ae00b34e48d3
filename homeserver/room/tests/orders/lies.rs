//! The lies, one by one.

use ruma::{OwnedEventId, RoomVersionId};
use serde_json::json;

use crate::theatre::{ALICE, BOB, CAROL, DAVE, Play, deletion, ends_equal, update};

fn play() -> Play {
    Play::new(&RoomVersionId::V12)
}

#[tokio::test(start_paused = true)]
async fn two_contents_for_one_clock() {
    let mut play = play();
    let start = play.start();
    let one = play.edit(&[&start], BOB, update(7, 'a', 0, 4));
    let two = play.edit(&[&start], BOB, update(7, 'b', 0, 4));
    play.edit(&[&one], BOB, update(7, 'a', 4, 6));
    let on_two = play.edit(&[&two], BOB, update(7, 'b', 4, 8));
    play.edit(&[&on_two], CAROL, update(8, 'c', 0, 2));
    let outcome = ends_equal("two contents", play).await;
    assert!(outcome.text.contains("cc"), "{}", outcome.text);
    assert!(
        outcome.text.contains('a') != outcome.text.contains('b'),
        "{}",
        outcome.text
    );
}

#[tokio::test(start_paused = true)]
async fn one_client_id_owned_on_two_branches() {
    for letter in ['a', 'b'] {
        let mut play = play();
        let start = play.start();
        let bobs = play.edit(&[&start], BOB, update(7, 'a', 0, 4));
        let carols = play.edit(&[&start], CAROL, update(7, letter, 0, 4));
        play.edit(&[&bobs], BOB, update(7, 'a', 4, 6));
        play.edit(&[&carols], CAROL, update(7, letter, 4, 9));
        let both = play.message(&[&bobs, &carols], DAVE);
        play.edit(&[&both], BOB, update(7, 'a', 4, 5));
        ends_equal(&format!("a and {letter}"), play).await;
    }
}

#[tokio::test(start_paused = true)]
async fn edits_from_before_a_ban_that_are_cited_later() {
    let mut play = play();
    let start = play.start();
    let ban = play.ban(&[&start], BOB);
    let one = play.edit(&[&start], BOB, update(7, 'a', 0, 4));
    let two = play.edit(&[&one], BOB, update(7, 'a', 4, 6));
    play.edit(&[&ban], BOB, update(9, 'z', 0, 2));
    play.edit(&[&ban, &two], CAROL, update(8, 'c', 0, 2));
    let outcome = ends_equal("before a ban", play).await;
    assert!(outcome.text.contains("aaaaaa") && outcome.text.contains("cc") && !outcome.text.contains('z'));
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_and_claims_the_clocks_of_what_stands() {
    for (held, other) in [('b', 'a'), ('a', 'b')] {
        let mut play = play();
        let start = play.start();
        let stands = play.edit(&[&start], BOB, update(7, other, 0, 4));
        let ban = play.ban(&[&stands], BOB);
        let lie = play.edit(&[&start], BOB, update(7, held, 0, 4));
        let on_lie = play.edit(&[&lie], BOB, update(7, held, 4, 6));
        play.edit(&[&ban, &on_lie], CAROL, update(8, 'c', 0, 2));
        ends_equal(&format!("{held} is held back"), play).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_and_cited_by_what_is_rejected() {
    let mut play = play();
    let start = play.start();
    let ban = play.ban(&[&start], BOB);
    let held = play.edit(&[&start], BOB, update(7, 'a', 0, 4));
    let rejected = play.say(
        &[&held],
        CAROL,
        "m.room.topic",
        Some(""),
        json!({ "topic": "not hers to set" }),
    );
    play.edit(&[&ban, &rejected], CAROL, update(8, 'c', 0, 2));
    let outcome = ends_equal("cited by what is rejected", play).await;
    assert!(outcome.text.contains("aaaa"), "{}", outcome.text);
    assert_eq!(outcome.rejected.len(), 1);
}

/// No lie, but the same in every order: what bob pinned is replaced by what carol pinned, and must not be there again for a
/// server that held carol's back.
#[tokio::test(start_paused = true)]
async fn state_that_was_replaced_by_what_is_held_back() {
    let mut play = play();
    let start = play.start();
    let pin = |play: &mut Play, after: &OwnedEventId, who: &str| {
        let content = json!({ "pinned": [format!("$by-{who}")] });
        play.say(&[after], who, "m.room.pinned_events", Some(""), content)
    };
    let alices = pin(&mut play, &start, ALICE);
    play.ban(&[&alices], CAROL);
    let bobs = pin(&mut play, &start, BOB);
    let carols = pin(&mut play, &bobs, CAROL);
    play.message(&[&carols], BOB);
    ends_equal("replaced by what is held back", play).await;
}

#[tokio::test(start_paused = true)]
async fn deletions_of_what_loses() {
    let mut play = play();
    let start = play.start();
    let one = play.edit(&[&start], BOB, update(7, 'a', 0, 4));
    let two = play.edit(&[&start], BOB, update(7, 'b', 0, 4));
    play.edit(&[&one], DAVE, deletion(7, 1, 3));
    play.edit(&[&two], CAROL, deletion(7, 0, 1));
    play.edit(&[&one, &two], ALICE, update(8, 'c', 0, 2));
    ends_equal("deletions", play).await;
}

#[tokio::test(start_paused = true)]
async fn a_demotion_and_a_promotion_around_an_edit() {
    let mut play = play();
    let start = play.start();
    let levels = |bob: i64| json!({ "users": { BOB: bob, CAROL: 25, DAVE: 25 }, "events": { "dev.weft.update": 25 } });
    let down = play.say(&[&start], ALICE, "m.room.power_levels", Some(""), levels(0));
    let up = play.say(&[&down], ALICE, "m.room.power_levels", Some(""), levels(25));
    let old = play.edit(&[&start], BOB, update(7, 'a', 0, 4));
    play.edit(&[&down], BOB, update(9, 'z', 0, 4));
    play.edit(&[&up, &old], BOB, update(7, 'a', 4, 6));
    let outcome = ends_equal("demoted and promoted", play).await;
    assert!(outcome.text.contains("aaaaaa"), "{}", outcome.text);
}

/// Whoever saw both contents may go on from the one that stands, and what carries the blocks of a loser by itself is as good
/// as if the loser had never been.
#[tokio::test(start_paused = true)]
async fn what_follows_both_contents_and_what_carries_all_of_it() {
    let mut play = play();
    let start = play.start();
    let one = play.edit(&[&start], BOB, update(7, 'a', 0, 4));
    let two = play.edit(&[&start], BOB, update(7, 'b', 0, 4));
    play.edit(&[&one, &two], BOB, update(7, 'c', 4, 6));
    play.edit(&[&two, &one], BOB, update(7, 'd', 4, 7));
    play.edit(&[&two], BOB, update(7, 'a', 0, 8));
    ends_equal("both contents", play).await;
}

/// An update that no rule admits has its place in the graph, and does not make the text of then unreadable.
#[tokio::test(start_paused = true)]
async fn updates_that_are_refused_and_the_text_of_then() {
    let mut play = play();
    let start = play.start();
    let one = play.edit(&[&start], BOB, update(7, 'a', 0, 4));
    let bad = play.edit(&[&one], BOB, json!({ "update": "!", "clients": {} }));
    let gap = play.edit(&[&bad], BOB, update(7, 'a', 6, 8));
    play.edit(&[&gap], CAROL, update(8, 'c', 0, 2));
    play.edit(&[&bad], CAROL, update(7, 'z', 0, 4));
    let outcome = ends_equal("refused", play).await;
    assert!(
        outcome.text.contains("aaaa") && outcome.text.contains("cc") && outcome.text.len() == 6,
        "{}",
        outcome.text
    );
}
