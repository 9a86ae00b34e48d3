//! The version of a document grows by one with each acknowledged edit and with nothing else, over restarts and power
//! losses.

use proptest::prelude::*;
use ruma::RoomId;
use weft_room_api::{EditOutcome, RoomError};
use weft_store::memory::{Fault, Tail};
use weft_testkit::{Editor, text_of};

use crate::harness::{Server, alice, bob};

async fn version(server: &Server, room: &RoomId) -> u64 {
    server.rooms.reader().document_version(room).await.unwrap()
}

#[tokio::test]
async fn edits_raise_the_version_and_seals_messages_and_repetitions_do_not() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let (mut a, mut b) = (Editor::new(1), Editor::new(2));
    assert_eq!(version(&server, &room).await, 0);
    let first = a.append("one ");
    server.edit(&room, &alice(), first.clone()).await.unwrap();
    assert_eq!(version(&server, &room).await, 1);
    assert_eq!(
        server.edit(&room, &alice(), first).await.unwrap(),
        EditOutcome::NothingNew
    );
    server.rooms.seal(&room).await.unwrap();
    server.send_message(&room, &bob(), "hello").await.unwrap();
    assert_eq!(version(&server, &room).await, 1);
    b.pull(&server.rooms, &room).await;
    server.edit(&room, &bob(), b.append("two")).await.unwrap();
    server.edit(&room, &bob(), b.remove(0, 1)).await.unwrap();
    assert_eq!(version(&server, &room).await, 3);
    let server = server.reboot().await;
    assert_eq!(version(&server, &room).await, 3);
    a.pull(&server.rooms, &room).await;
    server.edit(&room, &alice(), a.append(".")).await.unwrap();
    assert_eq!(version(&server, &room).await, 4);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Alice,
    Bob,
    Seal,
    Message,
    Restart,
    /// A power loss at the next commit but this many, and a restart.
    PowerLoss(u64, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Alice),
        3 => Just(Step::Bob),
        2 => Just(Step::Seal),
        1 => Just(Step::Message),
        1 => Just(Step::Restart),
        2 => (0..3_u64, 0..4_u8).prop_map(|(at, kind)| Step::PowerLoss(at, kind)),
    ];
    prop::collection::vec(step, 1..30)
}

fn fault(kind: u8) -> Fault {
    match kind {
        0 => Fault::PowerBeforeWrite,
        1 => Fault::PowerBeforeSync(Tail::Lost),
        2 => Fault::PowerBeforeSync(Tail::Torn(1)),
        _ => Fault::PowerAfterSync,
    }
}

/// Each word is one edit: the number of words on disk is the version.
async fn run(steps: Vec<Step>) {
    let mut server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let mut acknowledged = 0;
    // A new editor has a client id of its own: what it wrote before a power loss may be lost.
    for (client, step) in (10..).zip(steps) {
        let fault_at = match step {
            Step::PowerLoss(at, kind) => Some((at, fault(kind))),
            _ => None,
        };
        if let Some((at, fault)) = fault_at {
            server.disk.plan(at, fault);
        }
        let author = if matches!(step, Step::Bob) { bob() } else { alice() };
        match step {
            Step::Alice | Step::Bob => {
                let mut editor = Editor::new(client);
                editor.pull(&server.rooms, &room).await;
                server.edit(&room, &author, editor.append("+")).await.unwrap();
                acknowledged += 1;
            }
            Step::Seal => server.rooms.seal(&room).await.unwrap(),
            Step::Message => drop(server.send_message(&room, &author, "hello").await.unwrap()),
            Step::Restart => server = server.reboot().await,
            Step::PowerLoss(..) => {
                let mut editor = Editor::new(client);
                for _ in 0..3 {
                    match server.edit(&room, &author, editor.append("+")).await {
                        Ok(_) => acknowledged += 1,
                        Err(RoomError::Unavailable(_)) => break,
                        Err(error) => panic!("{error}"),
                    }
                    if server.rooms.seal(&room).await.is_err() {
                        break;
                    }
                }
                server.disk.plan(u64::MAX, Fault::PowerBeforeWrite);
                server = server.reboot().await;
            }
        }
        let text = text_of(&server.rooms.content(&room, None).await.unwrap());
        let on_disk = u64::try_from(text.len()).unwrap();
        assert!(on_disk >= acknowledged, "{step:?}: an acknowledged edit is lost");
        assert_eq!(version(&server, &room).await, on_disk, "{step:?}");
        // An edit that was not acknowledged may be on disk.
        acknowledged = on_disk;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn the_version_counts_the_edits_on_disk(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(run(steps));
    }
}
