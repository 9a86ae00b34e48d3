//! Runs every file of `spec/vectors/crdt` as its README prescribes for other implementations.

use crate::equivalence::KnownClients;
use crate::oracle::{from_hex, to_hex};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use weft_crdt::{
    Admission, Bounds, ClientId, LiveUpdate, Refusal, StateVector, Update, admit_bytes, compact, diff, merge, split,
    take_live,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/crdt")
}

fn cases(sub: &str) -> Vec<(String, Value)> {
    let mut all: Vec<_> = std::fs::read_dir(folder().join(sub))
        .expect("the vectors are in the repository")
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                serde_json::from_str(&text).unwrap(),
            )
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Hex, or a list of hex and `{"repeat": hex, "times": n}`.
fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(hex) => from_hex(hex),
        Value::Array(parts) => parts.iter().flat_map(bytes).collect(),
        part => from_hex(part["repeat"].as_str().unwrap()).repeat(part["times"].as_u64().unwrap() as usize),
    }
}

fn update(value: &Value) -> Update {
    Update::parse(bytes(value).into()).expect("an update")
}

fn ranges(update: &std::collections::BTreeMap<ClientId, (u32, u32)>) -> Value {
    update
        .iter()
        .map(|(c, (from, to))| (c.to_string(), json!([from, to])))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn known_clients(case: &Value) -> KnownClients {
    let mut known_clients = KnownClients::default();
    for (client, known) in case["known"].as_object().unwrap() {
        let client = ClientId::new(client.parse().unwrap()).unwrap();
        let entry = (
            known["end"].as_u64().unwrap() as u32,
            known["owner"].as_str().unwrap().to_owned(),
        );
        known_clients.clients.insert(client, entry);
    }
    known_clients
}

fn decide(case: &Value) -> Value {
    let known_clients = known_clients(case);
    match admit_bytes(
        bytes(&case["update"]).into(),
        case["sender"].as_str().unwrap(),
        &known_clients,
    ) {
        Ok(Admission::Admitted { ranges: new, update }) => {
            let mut answer = json!({ "result": "admitted", "ranges": ranges(&new) });
            if case["expect"].get("update").is_some() {
                answer["update"] = to_hex(&update.encode()).into();
            }
            answer
        }
        Ok(Admission::Known) => json!({ "result": "known" }),
        Ok(Admission::Gap {
            client,
            known_end,
            from,
        }) => {
            json!({ "result": "gap", "client": client.to_string(), "known_end": known_end, "from": from })
        }
        Err(refusal) => json!({ "result": "refused", "rule": refusal.code() }),
    }
}

#[test]
fn admission_agrees_with_the_vectors() {
    let mut wrong = Vec::new();
    for (name, case) in cases("admission") {
        let answer = decide(&case);
        if answer != case["expect"] {
            wrong.push(format!("{name}: {answer}, expected {}", case["expect"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn take(case: &Value) -> Result<Value, Refusal> {
    let bytes = bytes(&case["update"]);
    if bytes.len() > Bounds::LIVE.bytes {
        let (bytes, limit) = (bytes.len(), Bounds::LIVE.bytes);
        return Err(Refusal::TooLarge { bytes, limit });
    }
    let taken = take_live(
        &LiveUpdate::parse(bytes.into())?,
        case["sender"].as_str().unwrap(),
        &known_clients(case),
    )?;
    let refused = taken.refused.iter().map(|block| {
        json!({
            "client": block.at.client.to_string(),
            "clock": block.at.clock,
            "length": block.len,
            "rule": block.reason.code(),
        })
    });
    let foreign = taken.foreign.iter();
    let mut answer = json!({
        "result": "taken",
        "refused": refused.collect::<Vec<_>>(),
        "foreign": foreign.map(|(client, owner)| (client.to_string(), json!(owner))).collect::<serde_json::Map<_, _>>(),
        "missing": taken.waits,
    });
    let expect = &case["expect"];
    if expect.get("update").is_some() {
        answer["update"] = to_hex(&taken.update.encode()).into();
    }
    if expect.get("ranges").is_some() {
        answer["ranges"] = ranges(&taken.update.ranges());
    }
    Ok(answer)
}

#[test]
fn live_admission_agrees_with_the_vectors() {
    let mut wrong = Vec::new();
    for (name, case) in cases("live") {
        let answer = take(&case).unwrap_or_else(|refusal| json!({"result": "refused", "rule": refusal.code()}));
        if answer != case["expect"] {
            wrong.push(format!("{name}: {answer}, expected {}", case["expect"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_hostile_group_has_a_vector() {
    let have: BTreeSet<String> = cases("admission")
        .iter()
        .map(|(_, c)| c["tests"].as_str().unwrap().to_owned())
        .collect();
    for number in 90..=111 {
        assert!(have.contains(&format!("T{number}")), "T{number}");
    }
}

fn state_vector(case: &Value) -> Value {
    match StateVector::parse(&bytes(&case["bytes"])) {
        Ok(vector) => json!({ "result": "valid", "encoded": to_hex(&vector.encode()) }),
        Err(_) => json!({ "result": "malformed" }),
    }
}

#[test]
fn the_algebra_agrees_with_the_vectors() {
    for (name, case) in cases("algebra") {
        let expect = &case["expect"];
        match case["operation"].as_str().unwrap() {
            "parse" => {
                let update = update(&case["update"]);
                assert_eq!(ranges(&update.ranges()), expect["ranges"], "{name}");
                assert_eq!(
                    json!(to_hex(&update.state_vector().encode())),
                    expect["state_vector"],
                    "{name}"
                );
                assert_eq!(
                    json!(to_hex(&update.delete_set().encode())),
                    expect["deletes"],
                    "{name}"
                );
            }
            "state_vector" => assert_eq!(state_vector(&case), *expect, "{name}"),
            "state_hash" => {
                let hash = update(&case["update"]).state_hash();
                assert_eq!(json!(to_hex(hash.as_bytes())), *expect, "{name}");
            }
            "merge" => {
                let updates: Vec<Update> = case["updates"].as_array().unwrap().iter().map(update).collect();
                assert_eq!(json!(to_hex(&merge(&updates).unwrap().encode())), *expect, "{name}");
            }
            "diff" => {
                let sv = StateVector::parse(&bytes(&case["state_vector"])).unwrap();
                assert_eq!(
                    json!(to_hex(&diff(&update(&case["update"]), &sv).encode())),
                    *expect,
                    "{name}"
                );
            }
            "compact" => {
                assert_eq!(
                    json!(to_hex(&compact(&update(&case["update"])).encode())),
                    *expect,
                    "{name}"
                );
            }
            "split" => {
                let (whole, max) = (update(&case["update"]), case["max_bytes"].as_u64().unwrap() as usize);
                let parts = split(&whole, max).unwrap();
                assert!(
                    parts.len() as u64 <= expect["max_parts"].as_u64().unwrap(),
                    "{name}: {} parts",
                    parts.len()
                );
                assert_eq!(judged(&whole, &parts, max), "valid", "{name}");
            }
            "parts" => {
                let parts: Vec<Update> = case["parts"].as_array().unwrap().iter().map(update).collect();
                let (whole, max) = (update(&case["update"]), case["max_bytes"].as_u64().unwrap() as usize);
                assert_eq!(json!({ "result": judged(&whole, &parts, max) }), *expect, "{name}");
            }
            other => panic!("{name}: {other}"),
        }
    }
}

/// What is wrong with the parts of an update, by its name in the vectors.
fn judged(whole: &Update, parts: &[Update], max: usize) -> &'static str {
    if parts.iter().any(|part| part.encode().len() > max) {
        return "too_large";
    }
    if compact(&merge(parts).unwrap()) != compact(whole) {
        return "difference";
    }
    let mut known_clients = KnownClients::default();
    for part in parts {
        let admitted = admit_bytes(part.encode().into(), "@alice:alpha.example", &known_clients);
        let Ok(Admission::Admitted { ranges, .. }) = admitted else {
            return "not_admitted";
        };
        for (client, (_, end)) in ranges {
            known_clients
                .clients
                .insert(client, (end, "@alice:alpha.example".to_owned()));
        }
    }
    "valid"
}

/// The names that the docs promise: each refusal has one, and vectors use no others.
#[test]
fn vectors_name_only_existing_rules() {
    let rules: BTreeSet<&str> = [
        "malformed",
        "too_large",
        "too_many",
        "skip",
        "sub_document",
        "legacy_json",
        "xml_hook",
        "foreign_client",
        "unknown_origin",
        "origin_is_right_origin",
        "unknown_delete",
        "circle",
        "too_deep",
        "piece_too_large",
    ]
    .into();
    for (name, case) in cases("admission") {
        if let Some(rule) = case["expect"]["rule"].as_str() {
            assert!(rules.contains(rule), "{name}: {rule}");
        }
    }
    assert!(rules.contains(Refusal::TooLarge { bytes: 1, limit: 0 }.code()));
}
