//! Fences: rows that are read and written outside a room's worker. A concurrent change is not overwritten.

use ruma::{RoomVersionId, events::room::member::MembershipState, room_alias_id};
use weft_room_api::{DirectoryRefusal, RoomError};
use weft_store::tables::rooms::{ALIASES, MEMBERSHIP};
use weft_testkit::user;

use super::{ALICE, BOB, net::Net};

#[tokio::test]
async fn forgetting_a_room_keeps_a_concurrent_invitation() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.invite_and_join(ALICE, BOB, &room, 25).await;
    net.leave(BOB, &room).await;
    let (b, gate, bob) = (net.rooms("b.example"), net.gate("b.example"), user(BOB));
    gate.hold_next_read(MEMBERSHIP.physical(&(&bob, &room)));
    let forgetting = tokio::spawn({
        let (b, room, bob) = (b.clone(), room.clone(), bob.clone());
        async move { b.forget(&room, &bob).await }
    });
    gate.reached().await;
    net.invite(ALICE, BOB, &room).await;
    gate.open();
    let forgotten = forgetting.await.unwrap();
    assert!(
        matches!(forgotten, Err(RoomError::Directory(DirectoryRefusal::StillIn))),
        "{forgotten:?}"
    );
    let row = b.reader().room_of_user(&bob, &room).await.unwrap().unwrap();
    assert_eq!((row.membership, row.row.forgotten), (MembershipState::Invite, false));
}

#[tokio::test]
async fn deleting_an_alias_keeps_a_concurrent_alias_of_another_room() {
    let net = Net::new(&["a.example"]).await;
    let one = net.document(ALICE, &RoomVersionId::V12).await;
    let other = net.document(ALICE, &RoomVersionId::V12).await;
    let alias = room_alias_id!("#alias:a.example");
    let (a, gate) = (net.rooms("a.example"), net.gate("a.example"));
    a.put_alias(alias, &one, &user(ALICE)).await.unwrap();
    gate.hold_next_read(ALIASES.physical(&(alias,)));
    let deleting = tokio::spawn({
        let a = a.clone();
        async move { a.delete_alias(alias).await }
    });
    gate.reached().await;
    a.delete_alias(alias).await.unwrap();
    a.put_alias(alias, &other, &user(ALICE)).await.unwrap();
    gate.open();
    let deleted = deleting.await.unwrap();
    assert!(
        matches!(deleted, Err(RoomError::Directory(DirectoryRefusal::UnknownAlias(_)))),
        "{deleted:?}"
    );
    assert_eq!(a.reader().alias(alias).await.unwrap().unwrap().room, other);
    assert_eq!(a.reader().aliases_of(&other).await.unwrap(), [alias.to_owned()]);
}
