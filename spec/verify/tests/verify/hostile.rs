//! Files that are made to cost much: they end with a clear error.

use ruma::RoomVersionId;
use serde_json::json;
use weft_dag::testing::World;
use weft_verify::{Failed, Rule};

use crate::file::{ALICE, BOB, CAROL, File, broken, check, letter, room};

#[test]
fn anything_but_a_file_is_refused() {
    for text in ["", "\n", "{}", "null\n", "{\"weft_audit\":1}\n", "\0\0\0\0"] {
        assert!(matches!(check(text.as_bytes()), Err(Failed::Wrong(_))), "{text:?}");
    }
    let nested = format!("{{\"weft_audit\":{}", "[".repeat(1_000_000));
    assert!(matches!(check(nested.as_bytes()), Err(Failed::Wrong(_))));
}

#[test]
fn deep_and_large_events_are_refused() {
    let world = room(&RoomVersionId::V12);
    for content in [
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("\"{}\"", "x".repeat(1_000_000)),
    ] {
        let file = File::of(&world);
        let mut text = file.text();
        let id = &world.order[0];
        let event = format!("{{\"event_id\":\"{id}\",\"pdu\":{{\"content\":{content}}}}}\n");
        let at = text.find('\n').unwrap() + 1;
        text.insert_str(at, &event);
        let (rule, at, _) = broken(check(text.as_bytes()));
        assert_eq!((rule, at), (Rule::Event, 2));
    }
}

/// Two events that reference each other can't be made, because ids are hashes. A file can only say so.
#[test]
fn cycles_are_an_error() {
    let world = room(&RoomVersionId::V12);
    let mut file = File::of(&world);
    let last = file.events.len() - 1;
    file.events[last]["pdu"]["prev_events"] = json!([world.order[last]]);
    assert_eq!(broken(file.verify()).0, Rule::EventId);
    let mut file = File::of(&world);
    file.events.swap(last, last - 1);
    assert_eq!(broken(file.verify()).0, Rule::Order);
}

#[test]
fn cuts_that_say_nothing_true_are_refused() {
    let world = room(&RoomVersionId::V12);
    let file = File::of(&world);
    let state: Vec<_> = world.current().map().0.values().cloned().collect();
    let absent = format!("${}", "A".repeat(43));
    for (cut, rule) in [
        // An event of the file, unknown state, state that is no state, not an id.
        (json!({ "cut": [world.order[1]], "state": state }), Rule::Duplicate),
        (json!({ "cut": [absent], "state": [absent] }), Rule::Order),
        (json!({ "cut": ["$x"], "state": state }), Rule::Form),
    ] {
        let mut file = file.clone();
        file.events.push(cut);
        assert_eq!(broken(file.verify()).0, rule);
    }
    let mut file = file.clone();
    file.events
        .insert(0, json!({ "cut": [absent], "state": [world.order[0]] }));
    assert_eq!(broken(file.verify()).0, Rule::Order);
}

/// A server may cite any event in `auth_events`: the event is a rejected one, and nothing else happens.
#[test]
fn auth_events_that_are_no_state_events_are_rejected() {
    let mut world = room(&RoomVersionId::V12);
    let said = world.message(BOB, "no state");
    let heads = world.head_list();
    let mut cited = said.auth_events().to_vec();
    cited.push(said.event_id().to_owned());
    let content = serde_json::from_value(letter(1, b'a')).unwrap();
    let rejected = world.build_citing(&heads, cited, BOB.try_into().unwrap(), "dev.weft.update", None, content);
    let rejected = world.accept(rejected);
    assert!(rejected.rejected());
    world.send_after(
        &[rejected.event_id().to_owned()],
        CAROL,
        "dev.weft.update",
        None,
        letter(2, b'b'),
    );
    let report = File::of(&world).verify().unwrap();
    assert!(report.is_good());
    assert_eq!((report.rejected, report.updates), (1, 1));
}

/// Thousands of branches of a room, each with another state, and events that join some of them: a bounded amount of work.
#[test]
fn many_heads_are_counted_and_compared() {
    let mut world = room(&RoomVersionId::V12);
    let fork = world.head_list();
    let branches = 300;
    for n in 0..branches {
        let content = json!({ "n": n });
        world.send_after(&fork, ALICE, "m.room.topic", Some(""), content);
    }
    let file = File::of(&world);
    let report = file.verify().unwrap();
    assert!(report.is_good());
    assert_eq!((report.heads.len(), report.servers), (branches, None));
    // Events that join some of them.
    let heads = world.head_list();
    for (n, some) in heads.chunks(20).enumerate() {
        let client = u8::try_from(n + 1).unwrap();
        world.send_after(some, BOB, "dev.weft.update", None, letter(client, b'a'));
    }
    let report = File::of(&world).verify().unwrap();
    assert_eq!((report.heads.len(), report.updates), (branches / 20, 15));
    assert!(report.servers.is_some());
}

/// A log whose branches alternate, so that no state is ever the newest: states are read again and stay right.
#[test]
fn branches_that_alternate_are_judged() {
    let mut world = World::public(&RoomVersionId::V12, ALICE, &[(BOB, 50), (CAROL, 50)]);
    let fork = world.head_list();
    let mut tips: Vec<_> = (0..20).map(|_| fork.clone()).collect();
    for n in 0..10_u8 {
        for (branch, tip) in tips.iter_mut().enumerate() {
            let sender = [ALICE, BOB, CAROL][branch % 3];
            let key = format!("{branch}.{n}");
            let event = world.send_after(tip, sender, "org.example.setting", Some(&key), json!({ "n": n }));
            *tip = vec![event.event_id().to_owned()];
        }
    }
    let report = File::of(&world).verify().unwrap();
    assert!(report.is_good());
    assert_eq!((report.rejected, report.heads.len()), (0, 20));
}
