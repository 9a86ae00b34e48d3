//! The export of the signed log, verified by the verifier: with history that is not here, with soft-failed events that others
//! follow, and from any event on.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ruma::{EventId, OwnedEventId, RoomId, RoomVersionId, ServerName};
use serde_json::{Value, json};
use weft_dag::testing::signer;
use weft_room_read::AuditItem;
use weft_verify::{Doubt, Options, Report, verify};

use super::{ALICE, BOB, net::Net};

const CAROL: &str = "@carol:b.example";

fn keys() -> Value {
    let of = |name: &str| {
        let signer = signer(&ServerName::parse(name).unwrap());
        json!({ signer.key_id(): { "key": STANDARD_NO_PAD.encode(signer.public_key()) } })
    };
    json!({ "a.example": of("a.example"), "b.example": of("b.example") })
}

/// The file that a server exports, as the document API writes it.
async fn export(net: &Net, server: &str, room: &RoomId, from: Option<&EventId>) -> String {
    let reader = net.rooms(server).reader().clone();
    let mut log = reader.audit_log(room, from).await.unwrap();
    let mut lines = vec![json!({
        "weft_audit": 1, "room_id": room, "room_version": "12", "exported_at": 0, "server": server, "keys": keys(),
    })];
    let (mut heads, mut events) = (BTreeSet::new(), 0);
    while let Some(items) = log.next().await.unwrap() {
        for item in items {
            let line = |pdu: &weft_dag::Pdu| {
                let json: Value = serde_json::from_str(pdu.json()).unwrap();
                json!({ "event_id": pdu.event_id(), "pdu": json })
            };
            lines.push(match item {
                AuditItem::Cut { cut, state } => json!({ "cut": cut, "state": state }),
                AuditItem::Before(pdu) => {
                    let mut line = line(&pdu);
                    line["before"] = json!(true);
                    line
                }
                AuditItem::Event { pdu, .. } => {
                    for id in pdu.prev_events().iter().chain(pdu.auth_events()) {
                        heads.remove(id);
                    }
                    heads.insert(pdu.event_id().to_owned());
                    events += 1;
                    line(&pdu)
                }
            });
        }
    }
    lines.push(json!({ "heads": heads, "events": events }));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn check(file: &str) -> Report {
    verify(file.as_bytes(), Options::default(), |_| {}).unwrap_or_else(|error| panic!("{error}\n{file}"))
}

/// A document of Alice with Bob and Carol on the other server, and some edits.
async fn written(net: &Net) -> ruma::OwnedRoomId {
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.edit(ALICE, &room, 0, "alice").await;
    net.seal(ALICE, &room).await;
    for topic in ["one", "two"] {
        net.topic(ALICE, &room, topic).await;
        net.edit(ALICE, &room, 0, topic).await;
        net.seal(ALICE, &room).await;
    }
    room
}

#[tokio::test]
async fn a_server_without_the_history_exports_it_cut_off() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = written(&net).await;
    net.invite(ALICE, BOB, &room).await;
    let joined = net.join_answer(BOB, &room).await;
    net.network().cut();
    net.rooms("b.example").adopt(joined).await.unwrap();
    let report = check(&export(&net, "b.example", &room, None).await);
    assert!(
        matches!(report.doubts[..], [Doubt::Cut { events: 1 }]),
        "{:?}",
        report.doubts
    );
    assert_eq!((report.events, report.state_hash.clone()), (1, None));
    assert!(report.before > 5);
}

#[tokio::test]
async fn soft_failed_events_that_others_follow_are_exported() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = written(&net).await;
    net.invite_and_join(ALICE, BOB, &room, 50).await;
    net.member(ALICE, CAROL, &room, "invite").await;
    net.until_member(CAROL, &room, "invite").await;
    net.member(CAROL, CAROL, &room, "join").await;
    net.until_member(CAROL, &room, "join").await;
    net.power(ALICE, &room, CAROL, 50).await;
    net.quiet(&room).await;
    net.network().cut();
    net.member(ALICE, BOB, &room, "ban").await;
    net.edit(BOB, &room, 0, "bob").await;
    net.seal(BOB, &room).await;
    net.edit(CAROL, &room, 0, "carol").await;
    net.seal(CAROL, &room).await;
    net.heal(0).await;
    net.until_member(BOB, &room, "ban").await;
    net.edit(CAROL, &room, 0, "after").await;
    net.quiet(&room).await;
    net.assert_same(&room).await;
    let mut reports = Vec::new();
    for server in ["a.example", "b.example"] {
        let file = export(&net, server, &room, None).await;
        let report = check(&file);
        assert!(report.is_good() && file.contains(BOB));
        reports.push((report.heads, report.events, report.state_hash, report.updates));
    }
    assert_eq!(reports[0], reports[1]);
    // Bob's edit is part of the text: their server accepted it, and Carol's follows it.
    assert_eq!(reports[0].3, 6);
    let a = net.rooms("a.example");
    let text = a.content(&room, Some(&reports[0].0)).await.unwrap();
    let hash = weft_crdt::Update::parse(text).unwrap().state_hash();
    let stated = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash.as_bytes());
    assert_eq!(reports[0].2, Some(stated));

    // From every event on, nothing is wrong on either server.
    let whole = export(&net, "a.example", &room, None).await;
    let ids = whole.lines().filter_map(|line| {
        let line: BTreeMap<String, Value> = serde_json::from_str(line).ok()?;
        EventId::parse(line.get("event_id")?.as_str()?).ok()
    });
    let ids: Vec<OwnedEventId> = ids.collect();
    let reader = a.reader();
    for id in ids.iter().skip(1) {
        if !reader.stored_event(&room, id).await.unwrap().unwrap().is_visible() {
            continue;
        }
        for server in ["a.example", "b.example"] {
            let report = check(&export(&net, server, &room, Some(id)).await);
            assert!(matches!(report.doubts.first(), Some(Doubt::Cut { .. })));
            assert_eq!(report.heads, reports[0].0);
        }
    }
    let unknown = reader
        .audit_log(&room, Some(&EventId::parse("$nothing").unwrap()))
        .await;
    assert!(unknown.is_err());
}
