//! What spans cost an edit: one room over the memory engine, with the router and the engine that open spans. Prints the time of
//! an edit without a subscriber, with the default level of the log, and with all spans recorded:
//! `cargo run --release -p weft-telemetry --example traced_edits`.
#![allow(clippy::print_stdout)] // the example prints its results

use std::{error::Error, sync::Arc, time::Instant};

use bytes::Bytes;
use ruma::{owned_user_id, server_name};
use tracing_subscriber::{Registry, filter::LevelFilter, layer::SubscriberExt as _};
use weft_room_api::{ConnectionId, CreateRoom, Edit, Incarnation};
use weft_store::{Store, memory::MemoryDisk};
use weft_telemetry::{MeteredEngine, Metrics, TraceIds, TracedRouter};
use weft_testkit::RoomsSetup;
use weft_wire::document::DocumentKind;

const EDITS: u32 = 10_000;
const ROUNDS: usize = 5;

/// Appends a number below 2^28 as the Yjs encoding does.
fn push_number(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 128 {
        bytes.extend((number & 127 | 128).to_le_bytes().first());
        number >>= 7;
    }
    bytes.extend(number.to_le_bytes().first());
}

/// Client 7 types the letter at a clock into the text `body`.
fn letter(clock: u32) -> Bytes {
    let mut bytes = vec![1, 1, 7];
    push_number(&mut bytes, clock);
    match clock.checked_sub(1) {
        None => bytes.extend(b"\x04\x01\x04body"),
        Some(before) => {
            bytes.extend([0x84, 7]);
            push_number(&mut bytes, before);
        }
    }
    bytes.extend([1, b'a', 0]);
    bytes.into()
}

/// Microseconds of an edit.
async fn measure() -> Result<f64, Box<dyn Error>> {
    let store = Store::open(MeteredEngine::new(MemoryDisk::new().open(), &Metrics::default())).await?;
    let rooms = RoomsSetup::of(server_name!("a.example")).start(&store);
    let rooms = rooms.routed(|inner| Arc::new(TracedRouter::new(inner)));
    let user = owned_user_id!("@alice:a.example");
    let create = CreateRoom {
        document: Some(DocumentKind::Text),
        ..CreateRoom::default()
    };
    let room = rooms.create(&user, create).await?;
    let begin = Instant::now();
    for clock in 0..EDITS {
        let edit = Edit {
            user: user.clone(),
            session: ConnectionId::new(Incarnation(1), 1),
            update: letter(clock),
        };
        rooms.edit(&room, edit).await?;
    }
    let each = begin.elapsed().as_secs_f64() * 1e6 / f64::from(EDITS);
    rooms.stop().await;
    Ok(each)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("{EDITS} edits, µs for each, {ROUNDS} rounds:");
    for _ in 0..ROUNDS {
        let without = measure().await?;
        let recorded = |level: LevelFilter| Registry::default().with(level).with(TraceIds);
        let guard = tracing::subscriber::set_default(recorded(LevelFilter::INFO));
        let default_level = measure().await?;
        drop(guard);
        let guard = tracing::subscriber::set_default(recorded(LevelFilter::DEBUG));
        let all = measure().await?;
        drop(guard);
        println!("no subscriber {without:.1}, level info {default_level:.1}, all spans {all:.1}");
    }
    Ok(())
}
