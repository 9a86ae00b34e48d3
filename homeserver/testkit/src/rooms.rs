//! The rooms of a server in a test: name, key, configuration and ports. Must not open a store.

use std::sync::Arc;

use ruma::ServerName;
use weft_clock::{Clock, SystemClock};
use weft_dag::testing;
use weft_room::{RoomConfig, Rooms};
use weft_room_api::{
    ChangeBus, Identity, LocalBus, Peers, Ports,
    testing::{FixedIdentity, NoPeers, SerialisedRouter},
};
use weft_store::Store;

/// What differs between the rooms of tests.
pub struct RoomsSetup {
    /// Name and key.
    pub identity: Arc<dyn Identity>,
    /// Times and limits.
    pub config: RoomConfig,
    /// The bus of committed changes.
    pub changes: Arc<dyn ChangeBus>,
    /// Other servers.
    pub peers: Arc<dyn Peers>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl RoomsSetup {
    /// A server with this name, its test key, the usual configuration, and no other servers.
    #[must_use]
    pub fn of(name: &ServerName) -> Self {
        Self::with_identity(Arc::new(FixedIdentity(testing::signer(name))))
    }

    /// The same with another key.
    #[must_use]
    pub fn with_identity(identity: Arc<dyn Identity>) -> Self {
        Self {
            identity,
            config: RoomConfig::default(),
            changes: Arc::new(LocalBus::new()),
            peers: Arc::new(NoPeers),
            clock: Arc::new(SystemClock),
        }
    }

    /// Starts the rooms on a store, without recovery.
    #[must_use]
    pub fn start(self, store: &Store) -> Rooms {
        let ports = Ports {
            changes: self.changes,
            peers: self.peers,
            clock: self.clock,
        };
        Rooms::start(self.config, store.clone(), self.identity, ports)
    }

    /// The same, called as if each caller were in another process.
    ///
    /// # Panics
    /// Never: [`Rooms::routed`] calls its argument.
    #[must_use]
    pub fn start_serialised(self, store: &Store) -> (Rooms, Arc<SerialisedRouter>) {
        let mut router = None;
        let rooms = self
            .start(store)
            .routed(|local| router.insert(SerialisedRouter::new(local)).clone());
        (rooms, router.unwrap())
    }
}
