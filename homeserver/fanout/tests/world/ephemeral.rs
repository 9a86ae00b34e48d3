//! Typing and receipts: who is told, who may say it, and what `/sync` finds.

use std::sync::Arc;

use ruma::{event_id, server_name};
use weft_fanout::{
    Ephemeral, Fanout, Receipt,
    ephemeral::{EphemeralRefused, ReceiptError},
};
use weft_store::{Store, memory::MemoryEngine};

use crate::fakes::{FakeRoster, Net, StoppedClock, alice, bob, room};

struct World {
    fanout: Fanout,
    ephemeral: Ephemeral,
    store: Store,
    net: Arc<Net>,
    clock: Arc<StoppedClock>,
}

async fn world() -> World {
    let store = Store::open(MemoryEngine::new()).await.unwrap();
    let fanout = Fanout::new();
    let (net, clock) = (Arc::new(Net::default()), StoppedClock::at(1_000));
    let roster = Arc::new(FakeRoster::default());
    let ephemeral = Ephemeral::new(store.clone(), fanout.clone(), roster, net.clone(), clock.clone());
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
async fn typing_wakes_members_goes_out_and_ends() {
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

/// T50: typing for somebody else's user.
#[tokio::test]
async fn a_server_speaks_for_its_own_users() {
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
async fn a_receipt_is_found_once_and_private_ones_by_their_owner() {
    let world = world().await;
    let now = || world.store.positions().visible();
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
