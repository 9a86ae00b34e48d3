//! The stored outbox, which the simulation shares with the server: the order in which it returns rows. Must not test
//! sending.

use std::time::Duration;

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, server_name};
use weft_federation::outbox::OutboxStore as _;
use weft_room::Rooms;
use weft_room_api::CreateRoom;
use weft_store::{
    Batch, Lanes, OpenOptions, Reserved, Store,
    memory::MemoryEngine,
    tables::federation::{OUTBOX, OutboxRow, outbox_number},
};
use weft_testkit::RoomsSetup;

use super::outbox::StoredOutbox;

struct World {
    store: Store,
    rooms: Rooms,
    outbox: StoredOutbox,
}

async fn world(lanes: u16) -> World {
    let options = OpenOptions {
        lanes: Lanes::new(lanes),
        ..OpenOptions::default()
    };
    let store = Store::open_with(MemoryEngine::new(), options).await.unwrap();
    let rooms = RoomsSetup::of(server_name!("s0.example")).start(&store);
    let outbox = StoredOutbox {
        store: store.clone(),
        reader: rooms.reader().clone(),
    };
    World { store, rooms, outbox }
}

impl World {
    /// A room and an event of it.
    async fn room(&self) -> (OwnedRoomId, OwnedEventId) {
        let user = OwnedUserId::try_from("@a:s0.example").unwrap();
        let room = self.rooms.create(&user, CreateRoom::default()).await.unwrap();
        let event = self.rooms.reader().extremities(&room).await.unwrap().remove(0);
        (room, event)
    }

    fn reserve(&self, (room, _): &(OwnedRoomId, OwnedEventId)) -> Reserved {
        self.store.positions_of(&**room).reserve(1)
    }

    /// Commits an outbox row for an event at a reserved position; returns its number.
    async fn enqueue(&self, (room, event): &(OwnedRoomId, OwnedEventId), reserved: Reserved) -> u64 {
        let number = outbox_number(reserved.lane(), reserved.first());
        let mut batch = Batch::new();
        let row = OutboxRow {
            room: room.clone(),
            event: event.clone(),
        };
        batch.put(&OUTBOX, &(server_name!("s1.example"), number), &row);
        batch.belongs_to(&**room);
        batch.hold(reserved);
        self.store.commit(batch).await.unwrap();
        number
    }

    async fn pending(&self, after: u64, limit: usize) -> Vec<u64> {
        let rows = self.outbox.pending(server_name!("s1.example"), after, limit).await;
        rows.unwrap().into_iter().map(|row| row.position).collect()
    }
}

/// Two rooms commit concurrently, and the row with the higher position is on disk first. If it were returned, the sender
/// would continue after it and the other row would stay in the outbox.
#[tokio::test(start_paused = true)]
async fn a_row_is_not_returned_before_an_earlier_one_that_is_still_being_written() {
    let world = world(1).await;
    let (one, other) = (world.room().await, world.room().await);
    let (first, second) = (world.reserve(&one), world.reserve(&other));
    let second = world.enqueue(&other, second).await;
    let late = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.enqueue(&one, first).await
    };
    let (rows, first) = tokio::join!(world.pending(0, 50), late);
    assert_eq!(rows, [first, second]);
}

/// A commit that never ends, on a stuck disk, is an error of the read.
#[tokio::test(start_paused = true)]
async fn a_row_behind_a_commit_that_does_not_end_is_an_error() {
    let world = world(1).await;
    let room = world.room().await;
    let _open = world.reserve(&room);
    let pending = world.outbox.pending(server_name!("s1.example"), 0, 50).await;
    assert!(pending.is_err());
}

/// Positions of two lanes may be equal, and a new row of a lower lane is behind the last number that was delivered.
#[tokio::test(start_paused = true)]
async fn rows_of_all_lanes_are_returned_in_turn() {
    let world = world(16).await;
    let (mut rooms, mut numbers) = (Vec::new(), Vec::new());
    while rooms.len() < 12 {
        rooms.push(world.room().await);
    }
    for room in rooms.iter().chain(&rooms) {
        let reserved = world.reserve(room);
        numbers.push(world.enqueue(room, reserved).await);
    }
    numbers.sort_unstable();
    let lanes = rooms.iter().map(|(room, _)| world.store.lane_of(&**room));
    assert!(lanes.collect::<std::collections::BTreeSet<_>>().len() > 3);
    assert_eq!(world.pending(0, 50).await, numbers);
    assert_eq!(world.pending(numbers[4], 3).await, numbers[5..8]);
    assert_eq!(
        world.pending(numbers[22], 3).await,
        [numbers[23], numbers[0], numbers[1]]
    );
    let server = server_name!("s1.example");
    world
        .outbox
        .acknowledge(server, &[numbers[23], numbers[0]])
        .await
        .unwrap();
    assert_eq!(world.pending(numbers[0], 50).await.len(), 22);
}
