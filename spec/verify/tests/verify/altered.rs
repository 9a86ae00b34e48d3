//! Files with one change: the first event that is wrong and the rule are named.

use ruma::{OwnedEventId, RoomVersionId};
use serde_json::{Value, json};
use weft_dag::testing::World;
use weft_verify::{Failed, Rule};

use crate::file::{ALICE, BOB, CAROL, File, broken, key, letter, line, log, room};

/// One change, and what must be found: the rule and the place of the event, if it is about one.
pub(crate) struct Alteration {
    pub(crate) about: &'static str,
    pub(crate) alter: fn(&mut File, &World),
    rule: Rule,
    /// The place of the event.
    at: fn(&File) -> Option<usize>,
}

/// Another letter in a text, so that its form stays.
fn flip(value: &mut Value, at: usize) {
    let mut text: Vec<char> = value.as_str().unwrap().chars().collect();
    text[at] = if text[at] == 'A' { 'B' } else { 'A' };
    *value = Value::String(text.into_iter().collect());
}

fn second_update(file: &File) -> Option<usize> {
    Some(file.place("dev.weft.update", 1))
}

fn pdu(file: &mut File, at: usize) -> &mut Value {
    &mut file.events[at]["pdu"]
}

pub(crate) const ALTERATIONS: &[Alteration] = &[
    Alteration {
        about: "a letter of an update",
        alter: |file, _| {
            let at = file.place("dev.weft.update", 1);
            flip(&mut pdu(file, at)["content"]["update"], 15);
        },
        rule: Rule::ContentHash,
        at: second_update,
    },
    Alteration {
        about: "a message",
        alter: |file, world| {
            let at = file.place("m.room.message", 0);
            let mut whole = line(&world.pdu(&world.order[at]));
            whole["pdu"]["content"]["body"] = json!("something else");
            file.events[at] = whole;
        },
        rule: Rule::ContentHash,
        at: |file| Some(file.place("m.room.message", 0)),
    },
    Alteration {
        about: "a membership, which the id covers",
        alter: |file, _| {
            let at = file.place("m.room.member", 3);
            pdu(file, at)["content"]["membership"] = json!("invite");
        },
        rule: Rule::EventId,
        at: |file| Some(file.place("m.room.member", 3)),
    },
    Alteration {
        about: "a signature",
        alter: |file, _| {
            let at = file.place("dev.weft.update", 1);
            flip(&mut pdu(file, at)["signatures"]["beta.example"]["ed25519:test"], 20);
        },
        rule: Rule::Signature,
        at: second_update,
    },
    Alteration {
        about: "no signature",
        alter: |file, _| {
            let at = file.place("dev.weft.update", 1);
            pdu(file, at)["signatures"] = json!({});
        },
        rule: Rule::Signature,
        at: second_update,
    },
    Alteration {
        about: "a content hash",
        alter: |file, _| {
            let at = file.place("dev.weft.update", 1);
            flip(&mut pdu(file, at)["hashes"]["sha256"], 20);
        },
        rule: Rule::EventId,
        at: second_update,
    },
    Alteration {
        about: "another predecessor",
        alter: |file, world| {
            let at = file.place("dev.weft.update", 1);
            pdu(file, at)["prev_events"] = json!([world.order[2]]);
        },
        rule: Rule::EventId,
        at: second_update,
    },
    Alteration {
        about: "the id of another event",
        alter: |file, world| {
            let at = file.place("dev.weft.update", 1);
            file.events[at]["event_id"] = json!(world.order[at + 1]);
        },
        rule: Rule::EventId,
        // The line names the event that it says.
        at: second_update,
    },
    Alteration {
        about: "two events in the wrong order",
        alter: |file, _| {
            let at = file.place("dev.weft.update", 1);
            file.events.swap(at, at - 1);
        },
        rule: Rule::Order,
        at: second_update,
    },
    Alteration {
        about: "an event is missing that others follow",
        alter: |file, _| {
            let at = file.place("dev.weft.update", 1);
            file.events.remove(at);
        },
        rule: Rule::Order,
        // The next event.
        at: |file| Some(file.place("m.room.topic", 0)),
    },
    Alteration {
        about: "an auth event is missing",
        alter: |file, world| {
            // Nothing follows it any more, but the events of its sender cite it.
            let at = file.place("m.room.power_levels", 0);
            file.events.remove(at);
            let next = line(&world.pdu(&world.order[at + 1]));
            file.events[at] = next;
        },
        rule: Rule::Order,
        at: |file| Some(file.place("m.room.join_rules", 0)),
    },
    Alteration {
        about: "the last event is missing",
        alter: |file, _| {
            file.events.pop();
        },
        rule: Rule::Count,
        at: |_| None,
    },
    Alteration {
        about: "the last event is missing and not counted",
        alter: |file, _| {
            file.events.pop();
            file.end["events"] = json!(file.events.len());
        },
        rule: Rule::Heads,
        at: |file| Some(file.events.len() - 2),
    },
    Alteration {
        about: "an event twice",
        alter: |file, _| {
            let at = file.place("dev.weft.update", 1);
            file.events.insert(at + 1, file.events[at].clone());
        },
        rule: Rule::Duplicate,
        at: second_update,
    },
    Alteration {
        about: "an event of another room",
        alter: |file, _| {
            let mut other = World::new(&RoomVersionId::V12, BOB);
            let foreign = other.message(BOB, "of another room");
            file.events.push(line(&foreign));
        },
        rule: Rule::Room,
        at: |file| Some(file.events.len() - 1),
    },
    Alteration {
        about: "a forged key",
        alter: |file, _| {
            let forged = key("mallory.example".try_into().unwrap());
            file.header["keys"]["beta.example"] = forged;
        },
        rule: Rule::Signature,
        at: |file| Some(file.place("m.room.member", 1)),
    },
    Alteration {
        about: "a key that was not valid any more",
        alter: |file, _| {
            file.header["keys"]["beta.example"]["ed25519:test"]["expired"] = json!(1_600_000_000_000_u64);
        },
        rule: Rule::Signature,
        at: |file| Some(file.place("m.room.member", 1)),
    },
    Alteration {
        about: "a key twice",
        alter: |file, _| {
            let mut other = key("beta.example".try_into().unwrap());
            other["ed25519:test"]["valid_until"] = json!(1_950_000_000_000_u64);
            file.events.insert(3, json!({ "keys": { "beta.example": other } }));
        },
        rule: Rule::Key,
        at: |_| None,
    },
    Alteration {
        about: "another text",
        alter: |file, _| file.end["state_hash"] = json!("A".repeat(43)),
        rule: Rule::StateHash,
        at: |_| None,
    },
    Alteration {
        about: "another head",
        alter: |file, world| file.end["heads"] = json!([world.order[3]]),
        rule: Rule::Heads,
        at: |file| Some(file.events.len() - 1),
    },
    Alteration {
        about: "no last line",
        alter: |file, _| file.end = file.events.pop().unwrap(),
        rule: Rule::Truncated,
        at: |_| None,
    },
    Alteration {
        about: "a line after the last one",
        alter: |file, _| {
            let end = file.end.clone();
            file.events.push(end);
        },
        rule: Rule::Form,
        at: |_| None,
    },
    Alteration {
        about: "no first line",
        alter: |file, _| file.header = file.events[0].clone(),
        rule: Rule::Form,
        at: |_| None,
    },
    Alteration {
        about: "an event with a field of the wrong type",
        alter: |file, _| {
            let at = file.place("dev.weft.update", 1);
            pdu(file, at)["depth"] = json!("7");
        },
        rule: Rule::Event,
        at: second_update,
    },
    Alteration {
        about: "an event of a user who may not send it",
        alter: |file, world| {
            let mut world = world.clone();
            let heads = world.head_list();
            let before = world.pdu(&heads[0]);
            let event = world.build_citing(
                &heads,
                before.auth_events().to_vec(),
                CAROL.try_into().unwrap(),
                "dev.weft.update",
                None,
                serde_json::from_value(letter(9, b'!')).unwrap(),
            );
            let event = world.accept(event);
            assert!(event.rejected());
            file.rejected.push(event.event_id().to_owned());
            file.events.push(line(&event));
            file.end = json!({ "heads": [event.event_id()], "events": file.events.len() });
        },
        rule: Rule::Authorisation,
        at: |file| Some(file.events.len() - 1),
    },
];

#[test]
fn each_alteration_is_found_and_named() {
    let world = log(&RoomVersionId::V12);
    assert!(File::of(&world).verify().unwrap().is_good());
    for Alteration { about, alter, rule, at } in ALTERATIONS {
        let mut file = File::of(&world);
        alter(&mut file, &world);
        let (found, _, event) = broken(file.verify());
        assert_eq!(found, *rule, "{about}");
        let expected = at(&if *rule == Rule::Heads {
            File::of(&world)
        } else {
            file.clone()
        });
        let expected: Option<OwnedEventId> = expected.map(|at| {
            serde_json::from_value(
                file.events
                    .get(at)
                    .map_or_else(|| json!(world.order[at]), |line| line["event_id"].clone()),
            )
            .unwrap()
        });
        assert_eq!(event, expected, "{about}");
    }
    // Every rule is broken by one of them, except the one about a second create event.
    let rules: std::collections::BTreeSet<Rule> = ALTERATIONS.iter().map(|alteration| alteration.rule).collect();
    assert_eq!(rules.len(), 14);
}

#[test]
fn the_first_wrong_line_is_named_whatever_follows_it() {
    let world = log(&RoomVersionId::V12);
    let mut file = File::of(&world);
    let (update, message) = (file.place("dev.weft.update", 1), file.place("m.room.message", 0));
    flip(&mut file.events[update]["pdu"]["content"]["update"], 15);
    file.events.swap(message, message - 1);
    file.end = json!(1);
    let (rule, at, _) = broken(file.verify());
    // The header is line 1.
    assert_eq!((rule, at), (Rule::Order, message as u64 + 1));
}

#[test]
fn a_room_has_one_create_event() {
    // Until version 11 two create events may name one room.
    let mut world = room(&RoomVersionId::V11);
    let again = World::with_create(&RoomVersionId::V11, ALICE, json!({ "again": true }));
    let second = again.pdu(&again.order[0]);
    assert_eq!(second.room_id(), world.room_id);
    world.send(BOB, "dev.weft.update", None, letter(1, b'a'));
    let mut file = File::of(&world);
    file.events.push(line(&second));
    let (rule, _, event) = broken(file.verify());
    assert_eq!((rule, event.unwrap()), (Rule::Create, second.event_id().to_owned()));
}

/// Every byte of a file, one at a time: nothing is found to be good that is not the same log.
#[test]
fn no_flipped_byte_is_accepted() {
    let world = log(&RoomVersionId::V12);
    let mut file = File::of(&world);
    file.end["state_hash"] = json!(file.verify().unwrap().state_hash.unwrap());
    let (text, good) = (file.text(), file.verify().unwrap());
    let line_of = |at: usize| text[..at].bytes().filter(|byte| *byte == b'\n').count();
    let mut accepted = Vec::new();
    for at in (0..text.len()).step_by(17) {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        if let Ok(report) = crate::file::check(&bytes) {
            // The content of the log is the same.
            assert_eq!((&report.heads, &report.events), (&good.heads, &good.events));
            if report.is_good() {
                assert_eq!(report.state_hash, good.state_hash);
                accepted.push((
                    line_of(at),
                    text[at.saturating_sub(20)..(at + 10).min(text.len())].to_owned(),
                ));
            }
        }
    }
    // What is not signed: times and names in the first line, the validity of keys, and names of unknown fields.
    let events = accepted
        .iter()
        .filter(|(line, _)| *line > 0 && *line <= file.events.len());
    let events: Vec<_> = events.filter(|(_, part)| !part.contains("unsigned")).collect();
    assert!(events.is_empty(), "{events:#?}");
}

#[test]
fn a_good_file_with_an_unreadable_tail_is_not_good() {
    let text = File::of(&log(&RoomVersionId::V12)).text();
    for tail in ["x", "\n", "{}\n"] {
        let (rule, ..) = broken(crate::file::check(format!("{text}{tail}").as_bytes()));
        assert_eq!(rule, Rule::Form, "{tail:?}");
    }
    let cut = &text[..text.len() - 20];
    assert!(matches!(crate::file::check(cut.as_bytes()), Err(Failed::Wrong(_))));
    // The last line end may be missing.
    assert!(crate::file::check(text.trim_end().as_bytes()).unwrap().is_good());
}
