//! The indexes of members and documents: kept by every change of the state, and built for a store without them.

use ruma::{OwnedUserId, RoomId};
use serde_json::json;
use weft_room::{RoomConfig, build_indexes};
use weft_store::{
    Batch,
    memory::Fault,
    tables::{
        documents::{DOCUMENT_CHANGES, DOCUMENTS, DOCUMENTS_OF},
        meta::{IndexBuild, SCHEMA, UNBUILT_INDEXES},
        rooms::{LOCAL_MEMBERS, ROOM_SERVERS},
    },
};
use weft_testkit::Editor;
use weft_wire::Role;

use crate::harness::{Server, alice, bob, event, user};

#[tokio::test]
async fn a_document_is_listed_with_its_title_role_and_last_change() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let reader = server.rooms.reader();
    let title = server
        .state(&room, &alice(), "m.room.name", "", json!({"name": "Plan"}))
        .await
        .unwrap();
    server.edit(&room, &bob(), Editor::new(7).append("x")).await.unwrap();
    server.rooms.seal(&room).await.unwrap();
    let of_bob = reader.documents_of(&bob()).await.unwrap();
    let newest = reader.newest_change(&room).await.unwrap().unwrap();
    assert_eq!(of_bob.len(), 1);
    assert_eq!((&*of_bob[0].title, of_bob[0].role), ("Plan", Role::Editor));
    assert_eq!(of_bob[0].version, reader.document_version(&room).await.unwrap());
    assert_eq!(of_bob[0].last_modified, u64::from(newest.pdu.origin_server_ts().get()));
    assert_eq!(of_bob[0].owner_id, alice());

    // Redacting the title removes it, and another role is another role.
    let mut redaction = event(&alice(), "m.room.redaction", json!({"redacts": title}));
    redaction.redacts = Some(title);
    server.rooms.send(&room, redaction).await.unwrap();
    let mut levels = weft_wire::document::power_levels();
    levels["users"] = json!({ bob().to_string(): 50 });
    server
        .state(&room, &alice(), "m.room.power_levels", "", levels)
        .await
        .unwrap();
    let one = reader.document_of(&bob(), &room).await.unwrap().unwrap();
    assert_eq!((&*one.title, one.role), ("", Role::Manager));

    server.member(&room, &bob(), &bob(), "leave").await.unwrap();
    assert!(reader.documents_of(&bob()).await.unwrap().is_empty());
    assert_eq!(reader.local_members(&room).await.unwrap(), [alice()]);
    assert_eq!(reader.joined_count(&room).await.unwrap(), 1);
    server.member(&room, &alice(), &alice(), "leave").await.unwrap();
    assert!(reader.servers_in(&room).await.unwrap().is_empty());
}

/// Makes a store of schema version 8 of one of the current version: no room has indexes.
async fn without_indexes(server: &Server, rooms: &[&RoomId], members: &[OwnedUserId]) {
    let mut batch = Batch::new();
    for room in rooms {
        batch.delete_range(&ROOM_SERVERS, &(*room,));
        batch.delete_range(&LOCAL_MEMBERS, &(*room,));
        batch.delete(&DOCUMENTS, &(*room,));
        batch.delete(&DOCUMENT_CHANGES, &(*room,));
        for user in members {
            batch.delete(&DOCUMENTS_OF, &(user, *room));
        }
    }
    batch.put(&SCHEMA, &(), &8);
    server.store.commit(batch).await.unwrap();
}

async fn restart(server: Server) -> Server {
    let disk = server.disk.clone();
    server.store.close().await;
    Server::boot(&disk, RoomConfig::default()).await
}

#[tokio::test]
async fn the_indexes_of_a_store_of_version_8_are_built() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25), (&user("carol"), 0)]).await;
    server
        .state(&room, &alice(), "m.room.name", "", json!({"name": "Plan"}))
        .await
        .unwrap();
    server.member(&room, &bob(), &bob(), "leave").await.unwrap();
    let before = server.rooms.reader().documents_of(&user("carol")).await.unwrap();
    assert_eq!(before.len(), 1);
    without_indexes(&server, &[&room], &[alice(), user("carol")]).await;

    let server = restart(server).await;
    assert!(server.store.contains(&UNBUILT_INDEXES, &()).await.unwrap());
    let reader = server.rooms.reader();
    assert!(reader.documents_of(&user("carol")).await.unwrap().is_empty());
    build_indexes(&server.store, alice().server_name()).await.unwrap();
    assert_eq!(reader.documents_of(&user("carol")).await.unwrap(), before);
    assert_eq!(reader.documents_of(&bob()).await.unwrap(), []);
    assert_eq!(reader.local_members(&room).await.unwrap(), [alice(), user("carol")]);
    assert_eq!(reader.joined_count(&room).await.unwrap(), 2);

    // The next start finds them built.
    let server = restart(server).await;
    let commits = server.disk.commits();
    build_indexes(&server.store, alice().server_name()).await.unwrap();
    assert_eq!(server.disk.commits(), commits);
}

#[tokio::test]
async fn building_indexes_continues_after_an_interruption() {
    let server = Server::new().await;
    let mut rooms = [
        server.document().await,
        server.document().await,
        server.document().await,
    ];
    rooms.sort();
    let [first, second, third] = &rooms;
    let before = server.rooms.reader().documents_of(&alice()).await.unwrap();
    without_indexes(&server, &[second, third], &[alice()]).await;
    let server = restart(server).await;
    // The first page of rooms was built, and of the second page one room.
    let mut batch = Batch::new();
    let through = Some(first.clone());
    batch.put(&UNBUILT_INDEXES, &(), &IndexBuild { through });
    batch.put(&ROOM_SERVERS, &(second, alice().server_name()), &1);
    server.store.commit(batch).await.unwrap();

    let commits = server.disk.commits();
    build_indexes(&server.store, alice().server_name()).await.unwrap();
    // Two rooms at the same time, how far it is, and the end.
    assert!(server.disk.commits() - commits <= 4);
    let reader = server.rooms.reader();
    assert_eq!(reader.documents_of(&alice()).await.unwrap(), before);
    for room in &rooms {
        assert_eq!(reader.joined_count(room).await.unwrap(), 1);
    }
}

/// A build was interrupted after the commit of a room, and the room's state was another one then: the next build leaves only the
/// rows of the current state.
#[tokio::test]
async fn the_rows_of_an_interrupted_build_are_replaced() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25), (&user("carol"), 25)]).await;
    let disk = server.disk.clone();
    server.member(&room, &bob(), &bob(), "leave").await.unwrap();
    let before = server.rooms.reader().documents_of(&user("carol")).await.unwrap();
    // As built when Bob was a member.
    let mut batch = Batch::new();
    batch.put(&LOCAL_MEMBERS, &(&room, &bob()), &());
    batch.put(&DOCUMENTS_OF, &(&bob(), &room), &"editor".to_owned());
    batch.put(&DOCUMENTS_OF, &(&user("carol"), &room), &"manager".to_owned());
    batch.put(&ROOM_SERVERS, &(&room, alice().server_name()), &3);
    batch.put(&UNBUILT_INDEXES, &(), &IndexBuild { through: None });
    server.store.commit(batch).await.unwrap();

    // The power fails after the commit of the room; the second run is the last.
    disk.plan(1, Fault::PowerBeforeWrite);
    build_indexes(&server.store, alice().server_name()).await.unwrap_err();
    let server = Server::boot(&disk, RoomConfig::default()).await;
    let reader = server.rooms.reader();
    for _ in 0..2 {
        assert!(server.store.contains(&UNBUILT_INDEXES, &()).await.unwrap());
        build_indexes(&server.store, alice().server_name()).await.unwrap();
        let rows = server.store.scan_all(DOCUMENTS_OF.under(&(&bob(),))).await.unwrap();
        assert_eq!(rows, []);
        assert_eq!(reader.documents_of(&user("carol")).await.unwrap(), before);
        assert_eq!(reader.local_members(&room).await.unwrap(), [alice(), user("carol")]);
        assert_eq!(reader.joined_count(&room).await.unwrap(), 2);
        // A build of a store that has all rows changes nothing.
        let mut batch = Batch::new();
        batch.put(&UNBUILT_INDEXES, &(), &IndexBuild { through: None });
        server.store.commit(batch).await.unwrap();
    }
}
