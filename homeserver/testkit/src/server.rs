//! One server: its services, and what tests do with its rooms without an API.

use std::sync::Arc;

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, UserId};
use serde_json::{Value, json};
use weft_accounts::{Accounts, NewAccount, PasswordCost};
use weft_clock::{Clock, SystemClock};
use weft_dag::Signer;
use weft_fanout::{Fanout, MembershipView};
use weft_room::Rooms;
use weft_room_api::{
    ChangeBus, CreateRoom, Identity, Interest, LocalBus, Peers,
    testing::{FixedIdentity, NoPeers},
};
use weft_store::{OpenOptions, Store, memory::MemoryDisk};
use weft_wire::document::DocumentKind;

use crate::{Person, RoomMembers, RoomsSetup, new_event};

/// What differs between the servers of tests. The default is a new server `alpha.example` with a fixed key.
pub struct ServerSetup {
    /// The data.
    pub disk: MemoryDisk,
    /// How the store is opened.
    pub options: OpenOptions,
    /// Name and key.
    pub identity: Arc<dyn Identity>,
    /// The bus of committed changes; fan-out follows it.
    pub changes: Arc<dyn ChangeBus>,
    /// Other servers.
    pub peers: Arc<dyn Peers>,
    /// The time by which access tokens expire.
    pub clock: Arc<dyn Clock>,
}

impl Default for ServerSetup {
    fn default() -> Self {
        let name: OwnedServerName = "alpha.example".try_into().unwrap();
        let signer = Signer::from_seed(name, &[7; 32], "1").unwrap();
        Self {
            disk: MemoryDisk::new(),
            options: OpenOptions::default(),
            identity: Arc::new(FixedIdentity(Arc::new(signer))),
            changes: Arc::new(LocalBus::new()),
            peers: Arc::new(NoPeers),
            clock: Arc::new(SystemClock),
        }
    }
}

/// The services of one server. Cheap to clone.
#[derive(Clone)]
pub struct TestServer {
    /// The server's name.
    pub name: OwnedServerName,
    /// The data, which another server can be started on.
    pub disk: MemoryDisk,
    /// The store on it.
    pub store: Store,
    /// The rooms.
    pub rooms: Rooms,
    /// The accounts; passwords cost as little as possible.
    pub accounts: Accounts,
    /// Distributes committed changes.
    pub fanout: Fanout,
}

impl TestServer {
    /// Starts the services.
    ///
    /// # Panics
    /// If the store can't be opened.
    pub async fn start(setup: ServerSetup) -> Self {
        let store = Store::open_with(setup.disk.open(), setup.options).await.unwrap();
        let name = setup.identity.server_name().to_owned();
        let fanout = Fanout::new();
        tokio::spawn(fanout.clone().follow(setup.changes.subscribe(Interest::All)));
        let rooms = RoomsSetup {
            changes: setup.changes,
            peers: setup.peers,
            ..RoomsSetup::with_identity(setup.identity)
        };
        let rooms = rooms.start(&store);
        let accounts = Accounts::with_cost(store.clone(), name.clone(), setup.clock, PasswordCost::Minimal);
        Self {
            name,
            disk: setup.disk,
            store,
            rooms,
            accounts,
            fanout,
        }
    }

    /// The members of its rooms, as fan-out reads them.
    #[must_use]
    pub fn membership_view(&self) -> Arc<dyn MembershipView> {
        Arc::new(RoomMembers(self.rooms.reader().clone()))
    }

    /// A new user with a session.
    ///
    /// # Panics
    /// If the name is in use.
    pub async fn person(&self, name: &str) -> Person {
        let account = NewAccount {
            username: name.to_owned(),
            password: None,
            admin: false,
            display_name: None,
        };
        Person::register(&self.accounts, account).await
    }

    /// A new text document.
    ///
    /// # Panics
    /// If it can't be created.
    pub async fn document(&self, owner: &Person) -> OwnedRoomId {
        let create = CreateRoom {
            document: Some(DocumentKind::Text),
            ..CreateRoom::default()
        };
        self.rooms.create(&owner.user, create).await.unwrap()
    }

    /// Sends an event of any user of this server: a state event if it has a state key.
    ///
    /// # Panics
    /// If the room refuses it.
    pub async fn send(
        &self,
        room: &RoomId,
        sender: &UserId,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> OwnedEventId {
        let event = new_event(sender, kind, state_key, content);
        self.rooms.send(room, event).await.unwrap()
    }

    /// Invites a user, who joins, and sets the user's power level.
    ///
    /// # Panics
    /// If the room refuses it.
    pub async fn admit(&self, room: &RoomId, owner: &Person, member: &Person, power: i64) {
        for (sender, membership) in [(owner, "invite"), (member, "join")] {
            let (user, content) = (member.user.as_str(), json!({ "membership": membership }));
            self.send(room, &sender.user, "m.room.member", Some(user), content)
                .await;
        }
        self.set_power(room, owner, member, power).await;
    }

    /// Sets a user's power level.
    ///
    /// # Panics
    /// If the room refuses it.
    pub async fn set_power(&self, room: &RoomId, owner: &Person, member: &Person, power: i64) {
        let levels = self.rooms.reader().state_event(room, "m.room.power_levels", "").await;
        let mut levels: Value = levels.unwrap().unwrap().content_as().unwrap();
        if let Some(users) = levels.get_mut("users").and_then(Value::as_object_mut) {
            users.insert(member.user.to_string(), json!(power));
        }
        self.send(room, &owner.user, "m.room.power_levels", Some(""), levels)
            .await;
    }
}
