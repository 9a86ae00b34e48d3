//! Checkpoints: the text at any event costs the nearest one and what is between, over restarts and power losses.

use ruma::{OwnedEventId, RoomId};
use weft_store::{
    memory::{Fault, Tail},
    tables::documents::{CHECKPOINTS, SNAPSHOT_PARTS, UNFINISHED_SNAPSHOTS},
};
use weft_testkit::{Editor, text_of};

use crate::harness::{Server, alice, bob};

/// The newest event, and the text at it.
struct Point(OwnedEventId, String);

/// Alice appends one letter after the other, each in an event of its own.
async fn write(server: &Server, room: &RoomId, editor: &mut Editor, count: usize, points: &mut Vec<Point>) {
    for _ in 0..count {
        server.edit(room, &alice(), editor.append("x")).await.unwrap();
        server.rooms.seal(room).await.unwrap();
        let heads = server.rooms.reader().extremities(room).await.unwrap();
        points.push(Point(heads[0].clone(), editor.text()));
    }
}

async fn text_at(server: &Server, room: &RoomId, event: &OwnedEventId) -> String {
    let content = server.rooms.content(room, Some(std::slice::from_ref(event))).await;
    text_of(&content.unwrap())
}

/// Waits until no snapshot is being written.
async fn until_written(server: &Server, room: &RoomId) {
    for _ in 0..1_000 {
        let unfinished = server
            .store
            .scan_all(UNFINISHED_SNAPSHOTS.under(&(room,)))
            .await
            .unwrap();
        if unfinished.is_empty()
            && !server
                .store
                .scan_all(CHECKPOINTS.under(&(room,)))
                .await
                .unwrap()
                .is_empty()
        {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the snapshot is never written");
}

#[tokio::test]
async fn the_text_at_any_event_costs_the_nearest_checkpoint_and_what_is_between() {
    let server = Server::new().await;
    let room = server.document().await;
    let (mut editor, mut points) = (Editor::new(1), Vec::new());
    write(&server, &room, &mut editor, 1_300, &mut points).await;
    until_written(&server, &room).await;
    let checkpoints = server.store.scan_all(CHECKPOINTS.under(&(&room,))).await.unwrap();
    let updates: Vec<u64> = checkpoints.iter().map(|(_, row)| row.updates).collect();
    let distances = std::iter::once(&0).chain(&updates).zip(&updates).map(|(a, b)| b - a);
    assert!(distances.clone().all(|distance| distance <= 520), "{updates:?}");
    assert!(updates.len() >= 2, "{updates:?}");
    // No parts but those of checkpoints are left.
    let parts = server.store.scan_all(SNAPSHOT_PARTS.under(&(&room,))).await.unwrap();
    let generations: Vec<u64> = parts.iter().map(|((_, generation, _), _)| *generation).collect();
    let named: Vec<u64> = checkpoints.iter().map(|(_, row)| row.generation).collect();
    assert_eq!(generations, named);

    for at in [0, 255, 256, 257, 258, 700, 1_000, 1_298, 1_299] {
        let Point(event, text) = &points[at];
        let before = server.rows_read();
        assert_eq!(text_at(&server, &room, event).await, *text, "after {at} updates");
        let rows = server.rows_read() - before;
        let between = at as u64 + 1
            - updates
                .iter()
                .filter(|updates| **updates <= at as u64 + 1)
                .max()
                .unwrap_or(&0);
        if updates[0] <= at as u64 {
            assert!(rows <= 3 * between + 200, "{rows} rows for {between} updates");
        }
    }

    let server = server.reboot().await;
    write(&server, &room, &mut editor, 600, &mut points).await;
    until_written(&server, &room).await;
    for at in [300, 1_299, 1_300, 1_500, 1_899] {
        let Point(event, text) = &points[at];
        assert_eq!(text_at(&server, &room, event).await, *text, "after {at} updates");
    }
    let all = server.store.scan_all(CHECKPOINTS.under(&(&room,))).await.unwrap();
    assert!(all.len() > checkpoints.len());
}

#[tokio::test]
async fn the_text_on_a_branch_is_that_of_its_own_past() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let (mut editor, mut points) = (Editor::new(1), Vec::new());
    write(&server, &room, &mut editor, 300, &mut points).await;
    until_written(&server, &room).await;
    // Two events that do not reference each other can't be made here; all events of a point are named instead.
    let mut other = Editor::new(2);
    other.pull(&server.rooms, &room).await;
    server.edit(&room, &bob(), other.insert(0, "b")).await.unwrap();
    server.rooms.seal(&room).await.unwrap();
    let with_bob = server.rooms.reader().extremities(&room).await.unwrap();
    write(&server, &room, &mut editor, 3, &mut points).await;
    let at = [with_bob[0].clone(), points[299].0.clone()];
    let text = text_of(&server.rooms.content(&room, Some(&at)).await.unwrap());
    assert_eq!(text, format!("b{}", "x".repeat(300)));
    assert_eq!(text_at(&server, &room, &points[299].0).await, "x".repeat(300));
}

#[tokio::test]
async fn a_power_loss_while_a_snapshot_is_written_leaves_the_text_and_no_parts() {
    for fault in [
        Fault::PowerBeforeWrite,
        Fault::PowerBeforeSync(Tail::Lost),
        Fault::PowerAfterSync,
    ] {
        for at in [0, 1, 3, 5] {
            let server = Server::new().await;
            let room = server.document().await;
            let (mut editor, mut points) = (Editor::new(1), Vec::new());
            write(&server, &room, &mut editor, 256, &mut points).await;
            server.disk.plan(at, fault);
            let mut acknowledged = 256;
            for _ in 0..4 {
                match server.edit(&room, &alice(), editor.append("x")).await {
                    Ok(_) => acknowledged += 1,
                    Err(_) => break,
                }
                if server.rooms.seal(&room).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            server.disk.plan(u64::MAX, fault);
            let server = server.reboot().await;
            let text = text_of(&server.rooms.content(&room, None).await.unwrap());
            assert!(text.len() >= acknowledged, "{fault:?} at {at}");
            let mut editor = Editor::new(2);
            editor.pull(&server.rooms, &room).await;
            let mut points = Vec::new();
            write(&server, &room, &mut editor, 260, &mut points).await;
            until_written(&server, &room).await;
            let parts = server.store.scan_all(SNAPSHOT_PARTS.under(&(&room,))).await.unwrap();
            let checkpoints = server.store.scan_all(CHECKPOINTS.under(&(&room,))).await.unwrap();
            assert_eq!(parts.len(), checkpoints.len(), "{fault:?} at {at}");
            let Point(event, text) = &points[259];
            assert_eq!(text_at(&server, &room, event).await, *text);
        }
    }
}
