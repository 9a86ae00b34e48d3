//! Work of rooms that needs other servers. It runs in tasks separate from the rooms' workers.
//!
//! A worker has only the trait [`Background`] and can only request work. The federation client is in [`Tasks`], which a
//! worker cannot reach: a slow server must not delay an edit (`cargo xtask check` verifies the imports). Must not
//! decide about events.

use std::sync::Arc;

use ruma::RoomId;

use crate::{Peers, fetch, fetch::Fetchers, history, ingest::Want, pruned, registry::Shared, room_tasks::RoomTasks};

/// What a worker can request. Every call returns at once.
pub(crate) trait Background: Send + Sync + 'static {
    /// Fetch the events from before this server's join.
    fn fetch_history(self: Arc<Self>, shared: &Arc<Shared>, room: &RoomId);
    /// Fetch the updates that were received redacted.
    fn fetch_redacted(self: Arc<Self>, shared: &Arc<Shared>, room: &RoomId);
    /// Fetch what staged events need.
    fn fetch_missing(self: Arc<Self>, shared: &Arc<Shared>, room: &RoomId, wants: Vec<Want>);
    /// End the tasks that wait for other servers.
    fn stop(&self);
}

/// The tasks of all rooms and the federation client that they use.
pub(crate) struct Tasks {
    pub(crate) peers: Arc<dyn Peers>,
    /// Tasks that backfill: [`crate::history`].
    pub(crate) histories: RoomTasks,
    /// Tasks that fetch updates that were received redacted: [`crate::pruned`].
    pub(crate) pruned: RoomTasks,
    /// Tasks that fetch what staged events need: [`crate::fetch`].
    pub(crate) fetchers: Fetchers,
}

/// The context of a background task of a room.
#[derive(Clone)]
pub(crate) struct Outward {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tasks: Arc<Tasks>,
}

impl Tasks {
    pub(crate) fn new(peers: Arc<dyn Peers>) -> Self {
        Self {
            peers,
            histories: RoomTasks::default(),
            pruned: RoomTasks::default(),
            fetchers: Fetchers::default(),
        }
    }

    fn outward(self: Arc<Self>, shared: &Arc<Shared>) -> Outward {
        Outward {
            shared: Arc::clone(shared),
            tasks: self,
        }
    }
}

impl Background for Tasks {
    fn fetch_history(self: Arc<Self>, shared: &Arc<Shared>, room: &RoomId) {
        history::begin(&self.outward(shared), room.to_owned());
    }

    fn fetch_redacted(self: Arc<Self>, shared: &Arc<Shared>, room: &RoomId) {
        pruned::begin(&self.outward(shared), room.to_owned());
    }

    fn fetch_missing(self: Arc<Self>, shared: &Arc<Shared>, room: &RoomId, wants: Vec<Want>) {
        fetch::want(&self.outward(shared), room, wants);
    }

    fn stop(&self) {
        self.fetchers.stop();
    }
}
