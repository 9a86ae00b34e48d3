//! Work that a room's worker requests while the background task for it is about to end. The work is done, by this
//! process or after a restart.

use ruma::RoomVersionId;
use weft_store::{
    memory::Tail,
    tables::{
        jobs::JOBS,
        rooms::{INCOMPLETE_ROOMS, PRUNED_UPDATES},
    },
};
use weft_testkit::user;

use super::{
    ALICE, BOB,
    net::Net,
    pruned::{copy, lost_update, with_an_update_that_was_lost},
};

#[tokio::test]
async fn a_pruned_update_received_while_a_search_ends_is_fetched() {
    for restart in [false, true] {
        let net = Net::new(&["a.example", "b.example"]).await;
        let (room, first) = with_an_update_that_was_lost(&net).await;
        let (b, gate) = (net.rooms("b.example"), net.gate("b.example"));
        let origin = user(ALICE);
        b.receive(origin.server_name(), vec![copy(&first)]).await.unwrap();
        net.until(|| async { net.text("b.example", &room).await == "hidden before " })
            .await;
        // The search for another one is ending and has read that none is left.
        gate.hold_next_empty_read(PRUNED_UPDATES.physical(&(&room, first.event_id())));
        let second = lost_update(&net, &room, "second ").await;
        b.receive(origin.server_name(), vec![copy(&second)]).await.unwrap();
        gate.reached().await;
        // Another pruned update is committed before the search continues.
        let third = lost_update(&net, &room, "third ").await;
        b.receive(origin.server_name(), vec![copy(&third)]).await.unwrap();
        let is_here = || async {
            b.reader()
                .stored_event(&room, third.event_id())
                .await
                .unwrap()
                .is_some()
        };
        net.until(is_here).await;
        // The worker has finished everything that follows from the commit.
        b.seal(&room).await.unwrap();
        if restart {
            // No server can be reached, so the search is still pending at the power loss.
            net.network().cut();
        }
        gate.open();
        if restart {
            // The next commit of the search is queued before this.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            b.set_public(&room, true).await.unwrap();
            net.power_loss("b.example", Tail::Lost).await;
            net.heal(0).await;
            net.rooms("b.example").recover().await.unwrap();
        }
        let is_whole = || async { net.text("b.example", &room).await == "third second hidden before " };
        net.until(is_whole).await;
        net.assert_same(&room).await;
    }
}

#[tokio::test]
async fn a_gap_that_opens_while_a_backfill_ends_is_filled() {
    let net = Net::new(&["a.example", "b.example"]).await;
    let room = net.document(ALICE, &RoomVersionId::V12).await;
    net.edit(ALICE, &room, 0, "before ").await;
    net.invite(ALICE, BOB, &room).await;
    net.network().refuse_history(true);
    net.join(BOB, &room).await;
    let (b, gate, store) = (net.rooms("b.example"), net.gate("b.example"), net.store("b.example"));
    let has_failed = || async {
        let jobs = store.scan_all(JOBS.under(&(weft_store::Lane::FIRST,))).await.unwrap();
        jobs.iter().any(|(_, row)| row.attempts > 0)
    };
    net.until(has_failed).await;
    net.network().refuse_history(false);
    // The backfill task has read that nothing is missing.
    gate.hold_next_empty_read(INCOMPLETE_ROOMS.physical(&(&room,)));
    b.recover().await.unwrap();
    gate.reached().await;
    // Before it ends, a gap opens whose events can't be fetched at present.
    net.network().cut();
    net.edit(ALICE, &room, 0, "missed ").await;
    net.seal(ALICE, &room).await;
    net.lose();
    net.network().refuse_missing_events(true);
    net.heal(1).await;
    let hello = net.message(ALICE, &room, "hello").await;
    net.until(|| async { b.reader().order(&room, &hello).await.unwrap().is_some() })
        .await;
    b.seal(&room).await.unwrap();
    gate.open();
    net.until(|| async { net.text("b.example", &room).await == "missed before " })
        .await;
    net.assert_same(&room).await;
}
