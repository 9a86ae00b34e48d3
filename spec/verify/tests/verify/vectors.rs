//! The vectors of `spec/vectors/audit`: what a verifier finds in each file.

use std::{collections::BTreeMap, fs, path::PathBuf};

use ruma::{OwnedEventId, RoomVersionId};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_verify::{Failed, Options, pinned_keys, verify};
use weft_wire::update::UpdateContent;

use crate::{
    altered::ALTERATIONS,
    file::{ALICE, BOB, CAROL, File, key, letter, locked_log, log, room},
};

#[derive(Deserialize)]
struct Vector {
    lines: Vec<Value>,
    #[serde(default)]
    pinned: Option<Value>,
    expect: BTreeMap<String, Value>,
}

fn found(vector: &Vector) -> BTreeMap<String, Value> {
    let text: String = vector.lines.iter().map(|line| format!("{line}\n")).collect();
    let pinned = vector
        .pinned
        .as_ref()
        .map(|keys| pinned_keys(keys.to_string().as_bytes()).unwrap());
    let options = Options {
        pinned,
        keep_events: true,
        keep_text: false,
    };
    let mut found = BTreeMap::new();
    let mut put = |name: &str, value: Value| drop(found.insert(name.to_owned(), value));
    match verify(text.as_bytes(), options, |_| {}) {
        Ok(report) => {
            put(
                "result",
                if report.is_good() {
                    "good".into()
                } else {
                    "not judged".into()
                },
            );
            put("events", report.events.into());
            put("rejected", report.rejected.into());
            put("redacted", report.redacted.into());
            put("state_hash", report.state_hash.into());
            let confirmed = report
                .witnesses
                .iter()
                .map(|(server, witness)| (server.to_string(), witness.events.into()));
            put("confirmed", Value::Object(confirmed.collect()));
        }
        Err(Failed::Wrong(wrong)) => {
            put("result", "wrong".into());
            put("rule", wrong.rule.name().into());
            put("line", wrong.line.into());
            put("event", wrong.event.map_or(Value::Null, |id| id.as_str().into()));
        }
        Err(error) => put("result", format!("not judged: {error}").into()),
    }
    found
}

#[test]
fn the_vectors_of_the_specification_hold() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../vectors/audit");
    let (mut count, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let vector: Vector = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let found = found(&vector);
        if found != vector.expect {
            wrong.push(format!("{}: {found:?}, expected {:?}", path.display(), vector.expect));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 12, "{count} vectors");
}

fn vector(about: &str, file: &File, pinned: Option<Value>) -> Value {
    let lines: Vec<Value> = [&file.header]
        .into_iter()
        .chain(&file.events)
        .chain([&file.end])
        .cloned()
        .collect();
    let mut vector = json!({ "about": about, "lines": lines, "rejected_by_matrix": file.rejected, "expect": {} });
    if let Some(pinned) = pinned {
        vector["pinned"] = pinned;
    }
    let expect = found(&serde_json::from_value(vector.clone()).unwrap());
    vector["expect"] = json!(expect);
    vector
}

/// Writes the vectors again, after a change of the format. What they expect must then be read by a person.
#[test]
#[ignore = "writes spec/vectors/audit"]
fn write_the_vectors() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../vectors/audit");
    fs::create_dir_all(&folder).unwrap();
    let write = |about: &str, vector: &Value| {
        let letters = about.chars().map(|c| if c.is_alphanumeric() { c } else { '-' });
        let name: String = letters.collect::<String>().replace("--", "-").to_lowercase();
        fs::write(folder.join(format!("{name}.json")), format!("{vector:#}\n")).unwrap();
    };
    for version in [RoomVersionId::V11, RoomVersionId::V12] {
        let mut file = File::of(&log(&version));
        file.end["state_hash"] = json!(file.verify().unwrap().state_hash);
        let about = format!("good version {version}");
        write(&about, &vector(&about, &file, None));
    }
    let world = log(&RoomVersionId::V12);
    for alteration in ALTERATIONS {
        let mut file = File::of(&world);
        (alteration.alter)(&mut file, &world);
        write(alteration.about, &vector(alteration.about, &file, None));
    }
    let file = File::of(&world);
    let other = json!({ "beta.example": key("mallory.example".try_into().unwrap()) });
    write(
        "a key that is not the pinned one",
        &vector("a key that is not the pinned one", &file, Some(other)),
    );
    write_more(&write);
}

fn write_more(write: &impl Fn(&str, &Value)) {
    let mut world = room(&RoomVersionId::V12);
    let fork = world.head_list();
    world.send_after(&fork, BOB, "dev.weft.update", None, letter(7, b'x'));
    world.send_after(&fork, CAROL, "dev.weft.update", None, letter(7, b'y'));
    world.send(ALICE, "dev.weft.update", None, letter(8, b'z'));
    // Another user's client id.
    let update = [1, 1, 8, 1, 0x84, 8, 0, 1, b'q', 0];
    let foreign = serde_json::to_value(UpdateContent::new(&update, [(8, (1, 2))])).unwrap();
    world.send(CAROL, "dev.weft.update", None, foreign);
    // A membership event of a server confirms nothing.
    world.member(BOB, BOB, "join");
    let about = "updates that are not part of the text";
    write(about, &vector(about, &File::of(&world), None));

    let mut file = File::of(&locked_log(&RoomVersionId::V12));
    file.end["state_hash"] = json!(file.verify().unwrap().state_hash);
    // The lock rejects them, which is no rule of Matrix.
    file.rejected.clear();
    let about = "updates that follow a lock";
    write(about, &vector(about, &file, None));
    let late = file.place("dev.weft.update", 2);
    file.events.truncate(late + 1);
    let heads = [&file.events[late]["event_id"], &file.events[late - 1]["event_id"]];
    file.end = json!({ "heads": heads, "events": late + 1 });
    let about = "a head that a lock rejects";
    write(about, &vector(about, &file, None));

    // An auth event that is no ancestor of the event that cites it.
    let mut world = room(&RoomVersionId::V12);
    let fork = world.head_list();
    let levels = json!({ "users": { BOB: 25, CAROL: 26 }, "events": { "dev.weft.update": 25 } });
    let levels = world.send_after(&fork, ALICE, "m.room.power_levels", Some(""), levels);
    let earlier = world.build(&fork, BOB, "dev.weft.update", None, letter(1, b'a'));
    let is_levels = |id: &&OwnedEventId| world.pdu(id).kind() != "m.room.power_levels";
    let mut cited: Vec<OwnedEventId> = earlier.pdu().auth_events().iter().filter(is_levels).cloned().collect();
    cited.push(levels.event_id().to_owned());
    let content = serde_json::from_value(letter(1, b'a')).unwrap();
    let event = world.build_citing(&fork, cited, BOB.try_into().unwrap(), "dev.weft.update", None, content);
    assert!(!world.accept(event).rejected());
    let mut file = File::of(&world);
    assert_eq!(file.end["heads"].as_array().unwrap().len(), 1);
    let about = "an auth event that nothing follows";
    write(about, &vector(about, &file, None));
    let last = file.events.len() - 1;
    file.events.swap(last, last - 1);
    let about = "an auth event that comes later";
    write(about, &vector(about, &file, None));
}
