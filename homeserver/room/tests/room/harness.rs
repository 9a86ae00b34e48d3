//! Test support: a server in memory with a disk that can lose power, a clock that is set by hand, and a sink that
//! records.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId, server_name};
use serde_json::{Value, json};
use weft_clock::testing::ManualClock;
use weft_room::{RoomConfig, Rooms};
use weft_room_api::{
    ConnectionId, CreateRoom, Edit, EditOutcome, Incarnation, NewEvent, RoomChange, RoomError, testing::ObservedBus,
};
use weft_store::{Store, memory::MemoryDisk};
use weft_testkit::{Gate, GatedEngine, RoomsSetup, new_event};
use weft_wire::document::DocumentKind;

#[derive(Default)]
pub(crate) struct Sink(Mutex<Vec<Arc<RoomChange>>>, AtomicBool);

impl Sink {
    fn note(&self, change: &Arc<RoomChange>) {
        self.0.lock().unwrap().push(Arc::clone(change));
        assert!(!self.1.swap(false, Ordering::Relaxed), "a panic that a test requested");
    }

    /// The next change makes the worker panic.
    pub(crate) fn panic_once(&self) {
        self.1.store(true, Ordering::Relaxed);
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    pub(crate) fn all(&self) -> Vec<Arc<RoomChange>> {
        self.0.lock().unwrap().clone()
    }
}

/// A running server on a disk.
pub(crate) struct Server {
    pub(crate) disk: MemoryDisk,
    pub(crate) store: Store,
    pub(crate) rooms: Rooms,
    pub(crate) sink: Arc<Sink>,
    pub(crate) clock: Arc<ManualClock>,
    gate: Arc<Gate>,
}

impl Server {
    pub(crate) async fn new() -> Self {
        Self::boot(&MemoryDisk::new(), RoomConfig::default()).await
    }

    /// Starts a server with the data on the disk, without recovery.
    pub(crate) async fn boot(disk: &MemoryDisk, config: RoomConfig) -> Self {
        let (engine, gate) = GatedEngine::new(disk.open());
        let store = Store::open(engine).await.unwrap();
        let sink = Arc::new(Sink::default());
        let notes = Arc::clone(&sink);
        let clock = ManualClock::stepping(1_700_000_000_000, 1);
        let setup = RoomsSetup {
            config,
            changes: ObservedBus::new(move |change| notes.note(change)),
            clock: Arc::<ManualClock>::clone(&clock),
            ..RoomsSetup::of(server_name!("alpha.test"))
        };
        let (rooms, _) = setup.start_serialised(&store);
        Self {
            disk: disk.clone(),
            store,
            rooms,
            sink,
            clock,
            gate,
        }
    }

    /// The number of rows that were read so far.
    pub(crate) fn rows_read(&self) -> u64 {
        self.gate.rows_read() as u64
    }

    /// A power loss and a restart, with recovery.
    pub(crate) async fn reboot(self) -> Self {
        let disk = self.disk.clone();
        drop(self);
        let next = Self::boot(&disk, RoomConfig::default()).await;
        next.rooms.recover().await.unwrap();
        next
    }

    /// A text document of Alice's.
    pub(crate) async fn document(&self) -> OwnedRoomId {
        let request = CreateRoom {
            document: Some(DocumentKind::Text),
            ..CreateRoom::default()
        };
        self.rooms.create(&alice(), request).await.unwrap()
    }

    /// A text document of Alice's with other members and their power levels.
    pub(crate) async fn document_with(&self, others: &[(&UserId, i64)]) -> OwnedRoomId {
        let room = self.document().await;
        let users: serde_json::Map<String, Value> = others
            .iter()
            .map(|(user, power)| (user.to_string(), Value::from(*power)))
            .collect();
        let mut levels = weft_wire::document::power_levels();
        levels["users"] = users.into();
        self.state(&room, &alice(), "m.room.power_levels", "", levels)
            .await
            .unwrap();
        for (user, _) in others {
            self.member(&room, &alice(), user, "invite").await.unwrap();
            self.member(&room, user, user, "join").await.unwrap();
        }
        room
    }

    pub(crate) async fn state(
        &self,
        room: &RoomId,
        sender: &UserId,
        kind: &str,
        key: &str,
        content: Value,
    ) -> Result<OwnedEventId, RoomError> {
        let mut event = event(sender, kind, content);
        event.state_key = Some(key.to_owned());
        self.rooms.send(room, event).await
    }

    pub(crate) async fn member(
        &self,
        room: &RoomId,
        sender: &UserId,
        target: &UserId,
        membership: &str,
    ) -> Result<OwnedEventId, RoomError> {
        self.state(
            room,
            sender,
            "m.room.member",
            target.as_str(),
            json!({ "membership": membership }),
        )
        .await
    }

    pub(crate) async fn send_message(
        &self,
        room: &RoomId,
        sender: &UserId,
        body: &str,
    ) -> Result<OwnedEventId, RoomError> {
        self.rooms
            .send(
                room,
                event(sender, "m.room.message", json!({ "msgtype": "m.text", "body": body })),
            )
            .await
    }

    pub(crate) async fn edit(
        &self,
        room: &RoomId,
        user: &UserId,
        update: impl Into<Bytes>,
    ) -> Result<EditOutcome, RoomError> {
        let edit = Edit {
            user: user.to_owned(),
            session: ConnectionId::new(Incarnation(1), 1),
            update: update.into(),
        };
        self.rooms.edit(room, edit).await
    }

    /// The types and senders of the timeline's events, oldest first.
    pub(crate) async fn log(&self, room: &RoomId) -> Vec<(String, OwnedUserId)> {
        let page = self
            .rooms
            .reader()
            .timeline(
                room,
                None,
                weft_room_read::Direction::Forward,
                weft_room_read::Types::All,
                500,
            )
            .await
            .unwrap();
        page.events
            .iter()
            .map(|event| (event.pdu.kind().to_owned(), event.pdu.sender().to_owned()))
            .collect()
    }
}

pub(crate) fn event(sender: &UserId, kind: &str, content: Value) -> NewEvent {
    new_event(sender, kind, None, content)
}

pub(crate) fn user(name: &str) -> OwnedUserId {
    weft_testkit::user(&format!("@{name}:alpha.test"))
}

pub(crate) fn alice() -> OwnedUserId {
    user("alice")
}

pub(crate) fn bob() -> OwnedUserId {
    user("bob")
}
