//! The seam between the rooms and their callers: commands and answers are data.

use std::collections::BTreeSet;

use bytes::Bytes;
use ruma::RoomVersionId;
use weft_room_api::{EditToSend, EventOfText, RequestedEdit, RoomCommand};

use super::{ALICE, BOB, net::Net};

/// All servers of these tests are called over [`weft_room_api::testing::SerialisedRouter`]. This test makes sure that every
/// command has been, so that no command and no answer with something else than data can be added.
#[tokio::test]
async fn every_command_reaches_a_room_through_its_serialised_form() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.edit(ALICE, &room, 0, "Hello").await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.edit(BOB, &room, 5, " world").await;
    let rename = weft_testkit::new_event(
        &weft_testkit::user(ALICE),
        "m.room.name",
        Some(""),
        serde_json::json!({ "name": "Hello" }),
    );
    net.rooms("a.example").send_if(&room, rename, Vec::new()).await.unwrap();
    net.quiet(&room).await;
    let approval = EventOfText {
        event: weft_testkit::new_event(
            &weft_testkit::user(ALICE),
            "dev.weft.approval",
            Some(ALICE),
            serde_json::json!({}),
        ),
        conditions: Vec::new(),
        version: None,
        state_hash: None,
    };
    net.rooms("a.example").send_of_text(&room, approval).await.unwrap();
    net.quiet(&room).await;
    let rooms = net.rooms("b.example");
    rooms.open(&room).await.unwrap();
    rooms.current_text(&room).await.unwrap();
    rooms.seal(&room).await.unwrap();
    let nothing = RequestedEdit {
        user: weft_testkit::user(BOB),
        update: Bytes::from_static(&[0, 0]),
        if_version: None,
        key: None,
    };
    rooms.request_edit(&room, nothing).await.unwrap();
    let nothing = EditToSend {
        user: weft_testkit::user(BOB),
        update: Bytes::from_static(&[0, 0]),
        fields: serde_json::Map::new(),
    };
    assert!(rooms.send_edit(&room, nothing).await.unwrap().is_empty());
    assert_eq!(net.text("b.example", &room).await, "Hello world");
    net.assert_same(&room).await;
    assert_eq!(net.commands(), BTreeSet::from(RoomCommand::NAMES));
}
