//! Typing and receipts: who is notified, who may send them, and what `/sync` returns.

use std::sync::Arc;

use ruma::{event_id, server_name};
use weft_clock::testing::ManualClock;
use weft_fanout::{
    Ephemeral, Fanout, Receipt,
    ephemeral::{EphemeralRefused, ReceiptError},
};
use weft_store::{
    Store,
    memory::MemoryEngine,
    tables::receipts::{RECEIPT_STREAM, RECEIPTS},
};
use weft_wire::limits::MAX_RECEIPT_THREADS;

use crate::fakes::{FakeMembershipView, Net, alice, bob, room};

struct World {
    fanout: Fanout,
    ephemeral: Ephemeral,
    store: Store,
    net: Arc<Net>,
    clock: Arc<ManualClock>,
}

async fn world() -> World {
    let store = Store::open(MemoryEngine::new()).await.unwrap();
    let fanout = Fanout::new();
    let (net, clock) = (Arc::new(Net::default()), ManualClock::at(1_000));
    let membership_view = Arc::new(FakeMembershipView::default());
    let ephemeral = Ephemeral::new(
        store.clone(),
        fanout.clone(),
        membership_view,
        net.clone(),
        clock.clone(),
    );
    World {
        fanout,
        ephemeral,
        store,
        net,
        clock,
    }
}

fn receipt(user: &ruma::UserId, kind: &str, event: &ruma::EventId) -> Receipt {
    Receipt {
        kind: kind.to_owned(),
        thread: String::new(),
        user: user.to_owned(),
        event: event.to_owned(),
        at: 5,
    }
}

#[tokio::test]
async fn typing_wakes_members_is_sent_and_ends() {
    let world = world().await;
    let watch = world.fanout.user_watch(alice());
    world.ephemeral.set_typing(room(), alice(), Some(500)).await;
    assert!(watch.has_changed().unwrap());
    assert_eq!(world.ephemeral.typing(room()).0, [alice()]);
    assert_eq!(world.net.0.lock().unwrap()[0].1["typing"], true);
    world.clock.advance(501);
    world.ephemeral.expire().await;
    assert!(world.ephemeral.typing(room()).0.is_empty());
}

/// T50: typing about a user of another server.
#[tokio::test]
async fn edus_about_users_of_other_servers_are_refused() {
    let world = world().await;
    let origin = server_name!("beta.example");
    let forged = world.ephemeral.typing_edu(origin, room(), alice(), true).await;
    assert!(matches!(forged, Err(EphemeralRefused::ForeignUser { .. })));
    let stranger = ruma::user_id!("@mallory:beta.example");
    let refused = world.ephemeral.typing_edu(origin, room(), stranger, true).await;
    assert_eq!(refused, Err(EphemeralRefused::NotJoined(stranger.to_owned())));
    world.ephemeral.typing_edu(origin, room(), bob(), true).await.unwrap();
    assert_eq!(world.ephemeral.typing(room()).0, [bob()]);
    // T51: the same for receipts.
    let forged = world
        .ephemeral
        .receipt_edu(origin, room(), receipt(alice(), "m.read", event_id!("$a")))
        .await;
    assert!(matches!(
        forged,
        Err(ReceiptError::Refused(EphemeralRefused::ForeignUser { .. }))
    ));
}

#[tokio::test]
async fn a_receipt_is_returned_once_and_a_private_one_only_to_its_owner() {
    let world = world().await;
    let now = || world.store.positions_of(room()).visible();
    let start = now();
    world
        .ephemeral
        .set_receipt(room(), receipt(alice(), "m.read", event_id!("$a")))
        .await
        .unwrap();
    world
        .ephemeral
        .set_receipt(room(), receipt(alice(), "m.read", event_id!("$b")))
        .await
        .unwrap();
    world
        .ephemeral
        .set_receipt(room(), receipt(alice(), "m.read", event_id!("$b")))
        .await
        .unwrap();
    world
        .ephemeral
        .set_receipt(room(), receipt(alice(), "m.read.private", event_id!("$c")))
        .await
        .unwrap();
    let seen = world.ephemeral.receipts(room(), start, now(), bob()).await.unwrap();
    assert_eq!(seen, [receipt(alice(), "m.read", event_id!("$b"))]);
    let own = world.ephemeral.receipts(room(), start, now(), alice()).await.unwrap();
    assert_eq!(own.len(), 2);
    assert!(
        world
            .ephemeral
            .receipts(room(), now(), now(), alice())
            .await
            .unwrap()
            .is_empty()
    );
    let out: Vec<_> = world.net.0.lock().unwrap().iter().map(|sent| sent.0).collect();
    assert_eq!(
        out,
        ["m.receipt", "m.receipt"],
        "private receipts stay here, repeated ones are not sent"
    );
    let up_to = world.ephemeral.read_up_to(room(), alice(), "m.read").await.unwrap();
    assert_eq!(up_to.as_deref(), Some(event_id!("$b")));
}

/// Bug 9 of the review: two concurrent receipts of a user left a stale row of the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_receipts_leave_one_row_for_each_thread() {
    let world = world().await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..40 {
        let ephemeral = world.ephemeral.clone();
        let event = ruma::EventId::parse(format!("$event{n}")).unwrap();
        let thread = ["", "main", "$root"][n % 3].to_owned();
        writers.spawn(async move {
            let receipt = Receipt {
                thread,
                ..receipt(alice(), "m.read", &event)
            };
            ephemeral.set_receipt(room(), receipt).await.unwrap();
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let receipts = world.store.scan_all(RECEIPTS.under(&(room(),))).await.unwrap();
    let mut marks: Vec<u64> = receipts.iter().map(|(_, row)| row.position).collect();
    marks.sort_unstable();
    let stream = world.store.scan_all(RECEIPT_STREAM.under(&(room(),))).await.unwrap();
    let changes: Vec<u64> = stream.iter().map(|((_, position), _)| *position).collect();
    assert_eq!(marks.len(), 3);
    assert_eq!(
        changes, marks,
        "each mark has one row of the stream, and there is no other"
    );
}

/// T128: a server made up threads, each of which became a row that every member received.
#[tokio::test]
async fn threads_of_receipts_are_event_ids_and_limited_in_number() {
    let world = world().await;
    let origin = server_name!("beta.example");
    let in_thread = |thread: String| Receipt {
        thread,
        ..receipt(bob(), "m.read", event_id!("$a"))
    };
    for thread in [
        "x".to_owned(),
        "a".repeat(60_000),
        format!("${}", "a".repeat(300)),
        "MAIN".to_owned(),
    ] {
        let refused = world.ephemeral.receipt_edu(origin, room(), in_thread(thread)).await;
        assert!(matches!(
            refused,
            Err(ReceiptError::Refused(EphemeralRefused::NoThread))
        ));
    }
    if let Ok(long) = ruma::EventId::parse(format!("${}", "a".repeat(60_000))) {
        let refused = world
            .ephemeral
            .receipt_edu(origin, room(), receipt(bob(), "m.read", &long))
            .await;
        assert!(matches!(refused, Err(ReceiptError::Refused(EphemeralRefused::LongId))));
    }
    for n in 0..MAX_RECEIPT_THREADS + 10 {
        let receipt = in_thread(format!("$root{n}"));
        world.ephemeral.receipt_edu(origin, room(), receipt).await.unwrap();
    }
    let receipts = world.store.scan_all(RECEIPTS.under(&(room(),))).await.unwrap();
    let stream = world.store.scan_all(RECEIPT_STREAM.under(&(room(),))).await.unwrap();
    assert_eq!(
        (receipts.len(), stream.len()),
        (MAX_RECEIPT_THREADS, MAX_RECEIPT_THREADS)
    );
    let threads: Vec<&str> = receipts.iter().map(|((_, _, thread, _), _)| thread.as_str()).collect();
    assert!(
        !threads.contains(&"$root9") && threads.contains(&"$root10"),
        "the oldest is dropped"
    );
    world
        .ephemeral
        .receipt_edu(origin, room(), in_thread("main".to_owned()))
        .await
        .unwrap();
}
