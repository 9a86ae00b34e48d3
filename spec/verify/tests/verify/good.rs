//! Files in which nothing is wrong, or which can't be judged.

use ruma::RoomVersionId;
use serde_json::json;
use weft_dag::{RoomVersion, testing::World};
use weft_verify::{Doubt, Failed, Options, Rule, pinned_keys, verify};

use crate::file::{ALICE, BOB, CAROL, File, broken, check, key, letter, line, locked_log, log, room};

const VERSIONS: [RoomVersionId; 2] = [RoomVersionId::V11, RoomVersionId::V12];

#[test]
fn a_good_log_is_good() {
    for version in VERSIONS {
        let world = log(&version);
        let mut file = File::of(&world);
        let report = file.verify().unwrap();
        assert!(report.is_good(), "{:?}", report.doubts);
        assert_eq!(
            (report.events, report.rejected, report.redacted),
            (world.order.len() as u64, 1, 1)
        );
        // The letters of four clients and a deletion.
        assert_eq!(
            (report.updates, report.disputed, report.state_hash_stated),
            (5, false, false)
        );
        let servers = report.servers.unwrap();
        assert_eq!(servers, ["alpha.example", "beta.example"], "gamma's user is banned");
        let witness = |server: &str| {
            report
                .witnesses
                .iter()
                .find(|(name, _)| *name == server)
                .unwrap()
                .1
                .events
        };
        assert_eq!(witness("beta.example"), report.events);
        assert_eq!(witness("alpha.example"), report.events - 1);
        assert!(witness("gamma.example") < witness("alpha.example"));

        file.end["state_hash"] = json!(report.state_hash.unwrap());
        assert!(file.verify().unwrap().state_hash_stated);
    }
}

#[test]
fn updates_that_follow_a_lock_are_no_part_of_the_text() {
    for version in VERSIONS {
        let mut file = File::of(&locked_log(&version));
        let report = file.verify().unwrap();
        assert!(report.is_good(), "{:?}", report.doubts);
        assert_eq!((report.updates, report.rejected, report.disputed), (3, 2, false));
        // A file that ends with one of them is wrong: it would have no effect on any server.
        let late = file.place("dev.weft.update", 2);
        file.events.truncate(late + 1);
        let end =
            json!({"heads": [file.events[late]["event_id"], file.events[late - 1]["event_id"]], "events": late + 1});
        file.end = end;
        let (rule, _, event) = broken(file.verify());
        assert_eq!(rule, Rule::Authorisation);
        assert_eq!(json!(event), file.events[late]["event_id"]);
    }
}

#[test]
fn every_room_version_is_read() {
    for version in RoomVersion::ALL {
        let mut world = room(&version);
        world.send(BOB, "dev.weft.update", None, letter(1, b'a'));
        world.member(ALICE, CAROL, "leave");
        assert!(File::of(&world).verify().unwrap().is_good(), "{version}");
    }
    let mut file = File::of(&room(&RoomVersionId::V11));
    file.header["room_version"] = json!("org.example.unknown");
    assert!(matches!(file.verify(), Err(Failed::Unjudged(Doubt::RoomVersion(_)))));
    file.header["weft_audit"] = json!(2);
    assert!(matches!(file.verify(), Err(Failed::Unjudged(Doubt::Format(2)))));
}

#[test]
fn keys_may_follow_and_missing_ones_leave_events_unjudged() {
    let mut file = File::of(&log(&RoomVersionId::V12));
    let keys = file.header["keys"].take();
    file.header.as_object_mut().unwrap().remove("keys");
    let mut later = file.clone();
    later.events.insert(0, json!({ "keys": keys }));
    assert!(later.verify().unwrap().is_good());

    file.header["keys"] = keys.clone();
    file.header["keys"].as_object_mut().unwrap().remove("beta.example");
    let report = file.verify().unwrap();
    let [Doubt::Key { server, events, .. }] = report.doubts.as_slice() else {
        panic!("{:?}", report.doubts);
    };
    assert_eq!((server.as_str(), *events), ("beta.example", 5));

    // Pinned keys replace those of the file.
    let pinned = |json: serde_json::Value| Options {
        pinned: Some(pinned_keys(json.to_string().as_bytes()).unwrap()),
        keep_events: false,
        keep_text: false,
    };
    let report = verify(file.text().as_bytes(), pinned(keys), |_| {}).unwrap();
    assert!(report.is_good());
    let fewer = pinned(json!({ "alpha.example": key("alpha.example".try_into().unwrap()) }));
    assert_eq!(verify(file.text().as_bytes(), fewer, |_| {}).unwrap().doubts.len(), 2);
}

#[test]
fn content_that_nobody_redacted_is_missing() {
    let world = log(&RoomVersionId::V12);
    let mut file = File::of(&world);
    let bare = |at: usize| {
        let id = &world.order[at];
        line(&weft_dag::redact::redact(&world.pdu(id), &world.version).unwrap())
    };
    let at = file.place("dev.weft.update", 1);
    file.events[at] = bare(at);
    let report = file.verify().unwrap();
    assert!(matches!(&report.doubts[..], [Doubt::Content { events: 1, first }] if *first == world.order[at]));
    assert_eq!((report.redacted, report.state_hash), (1, None), "the text needs it");
}

#[test]
fn what_is_behind_a_cut_is_not_judged() {
    for version in VERSIONS {
        let world = log(&version);
        let whole = File::of(&world);
        // From the update of the third client on.
        let from = whole.place("dev.weft.update", 2);
        let cut = world.order[from - 1].clone();
        let state = world.state_after(world.order[from - 2].as_ref()).clone();
        let mut file = whole.clone();
        let states = |world: &World| state.0.values().map(|id| world.pdu(id)).collect::<Vec<_>>();
        let mut before: Vec<serde_json::Value> = weft_dag::order::order(
            {
                let mut events = states(&world);
                events.sort_by_key(|pdu| pdu.kind() != "m.room.create");
                events
            },
            weft_dag::order::Links::Auth,
            |pdu| pdu,
        )
        .iter()
        .map(|pdu| line(pdu))
        .collect();
        before.iter_mut().for_each(|line| line["before"] = json!(true));
        let prev: Vec<_> = world.pdu(&world.order[from]).prev_events().to_vec();
        before.push(json!({ "cut": prev, "state": state.0.values().collect::<Vec<_>>() }));
        // Everything after the fork follows it.
        assert!(prev.contains(&cut) || prev.contains(&world.order[from - 2]));
        file.events = whole.events[from..].to_vec();
        let events = file.events.len();
        // The other branch begins at the same events.
        let other: Vec<usize> = (0..from)
            .filter(|at| world.pdu(&world.order[*at]).prev_events() == prev)
            .collect();
        for at in other.iter().rev() {
            file.events.insert(0, whole.events[*at].clone());
        }
        file.events.splice(0..0, before);
        file.end["events"] = json!(events + other.len());
        let report = file.verify().unwrap();
        assert!(
            matches!(report.doubts.first(), Some(Doubt::Cut { events: 1 })),
            "{:?}",
            report.doubts
        );
        assert_eq!(
            (report.state_hash, report.events),
            (None, (events + other.len()) as u64)
        );
        assert!(report.before > 5);
    }
}

#[test]
fn claims_to_the_same_clocks_need_all_events() {
    let mut world = room(&RoomVersionId::V12);
    let fork = world.head_list();
    world.send_after(&fork, BOB, "dev.weft.update", None, letter(7, b'x'));
    world.send_after(&fork, CAROL, "dev.weft.update", None, letter(7, b'y'));
    world.send(ALICE, "dev.weft.update", None, letter(8, b'z'));
    let file = File::of(&world);
    assert!(matches!(file.verify(), Err(Failed::ClaimedTwice)));
    let keeps = || Options {
        pinned: None,
        keep_events: true,
        keep_text: false,
    };
    let report = verify(file.text().as_bytes(), keeps(), |_| {}).unwrap();
    assert!(report.is_good() && report.disputed);
    assert_eq!(report.updates, 2);
    // Without conflicting claims the result is the same, kept or not.
    let file = File::of(&log(&RoomVersionId::V12));
    let kept = verify(file.text().as_bytes(), keeps(), |_| {}).unwrap();
    assert_eq!(kept.state_hash, check(file.text().as_bytes()).unwrap().state_hash);
}
