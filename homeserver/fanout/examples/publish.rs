//! What one committed edit costs its room's worker, and how long it takes until all sockets have it: by a direct call of the
//! hub, and by the bus. Prints the ratios of one run:
//! `cargo run --release -p weft-fanout --example publish`.
#![allow(clippy::print_stdout)] // the example prints its results

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ruma::{device_id, room_id, user_id};
use weft_fanout::{Change, Fanout, RoomSubscription};
use weft_room_api::{ChangeBus, ConnectionId, Incarnation, Interest, LiveEdit, LocalBus, RoomChange};
use weft_store::Lane;

const COMMITS: u64 = 50_000;
const SOCKETS: u64 = 10;
/// The sockets read after this many commits, so that no queue overflows.
const AT_ONCE: u64 = 100;

fn commit(position: u64) -> Arc<RoomChange> {
    Arc::new(RoomChange {
        position,
        edits: vec![LiveEdit {
            update: Bytes::from_static(&[7; 40]),
            author: user_id!("@alice:alpha.example").to_owned(),
            session: None,
            version: 1,
        }],
        users: vec![user_id!("@alice:alpha.example").to_owned()],
        ..RoomChange::new(room_id!("!doc:alpha.example"), Lane::FIRST)
    })
}

fn sockets(fanout: &Fanout) -> Vec<RoomSubscription> {
    let subscribe = |number| {
        let connection = ConnectionId::new(Incarnation(1), number);
        let room = room_id!("!doc:alpha.example");
        fanout.subscribe(room, connection, user_id!("@alice:alpha.example"), device_id!("DESK"))
    };
    (0..SOCKETS).map(subscribe).collect()
}

async fn read(sockets: &mut [RoomSubscription], edits: u64) {
    for socket in sockets {
        for _ in 0..edits {
            assert!(matches!(socket.next(true).await, Change::Edit(_)), "nothing is dropped");
        }
    }
}

/// The time in the worker, and the time until everything is read.
async fn measure(fanout: &Fanout, publish: impl Fn(Arc<RoomChange>)) -> (Duration, Duration) {
    let mut sockets = sockets(fanout);
    let (begin, mut in_worker) = (Instant::now(), Duration::ZERO);
    for portion in 0..COMMITS / AT_ONCE {
        for number in 0..AT_ONCE {
            let change = commit(portion * AT_ONCE + number + 1);
            let before = Instant::now();
            publish(change);
            in_worker += before.elapsed();
        }
        read(&mut sockets, AT_ONCE).await;
    }
    (in_worker, begin.elapsed())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let fanout = Fanout::new();
    let direct = measure(&fanout, |change| fanout.deliver(&change)).await;
    let bus = LocalBus::new();
    let following = tokio::spawn(fanout.clone().follow(bus.subscribe(Interest::All)));
    let _sender = bus.subscribe(Interest::OtherServers);
    let by_bus = measure(&fanout, |change| bus.publish(change)).await;
    bus.close();
    following.await?;
    let each = |time: Duration| time.as_nanos() / u128::from(COMMITS);
    println!("{COMMITS} commits of one edit, {SOCKETS} sockets, ns for each commit:");
    println!(
        "direct call: {} in the worker, {} in all",
        each(direct.0),
        each(direct.1)
    );
    println!(
        "bus:         {} in the worker, {} in all",
        each(by_bus.0),
        each(by_bus.1)
    );
    println!(
        "ratio:       {:.2} in the worker, {:.2} in all",
        by_bus.0.as_secs_f64() / direct.0.as_secs_f64(),
        by_bus.1.as_secs_f64() / direct.1.as_secs_f64()
    );
    Ok(())
}
