//! Work of rooms that needs other servers. It runs in tasks separate from the rooms' workers.
//!
//! A worker has only the trait [`Background`] and can only request work. The federation client is in [`Tasks`], which a
//! worker cannot reach: a slow server must not delay an edit (`cargo xtask check` verifies the imports). Must not
//! decide about events.

use std::sync::Arc;

use ruma::RoomId;
use weft_ingest::Want;
use weft_jobs::JobWaker;
use weft_room_api::Peers;

use crate::{fetch, fetch::Fetchers, history::FetchedBytes, registry::Shared, room_tasks::RoomTasks};

/// What a worker can request. Every call returns at once.
pub(crate) trait Background: Send + Sync + 'static {
    /// A job is committed. `history`: one that fetches events from before this server's join.
    fn requested(&self, room: &RoomId, history: bool);
    /// Jobs are due.
    fn wake(&self);
    /// Fetch what staged events need.
    fn fetch_missing(self: Arc<Self>, shared: &Arc<Shared>, room: &RoomId, wants: Vec<Want>);
    /// End the tasks that wait for other servers.
    fn stop(&self);
}

/// The tasks of all rooms and the federation client that they use.
pub(crate) struct Tasks {
    pub(crate) peers: Arc<dyn Peers>,
    /// Backfills that are requested or in progress: [`crate::history`].
    pub(crate) histories: RoomTasks,
    /// The bytes that they take on disk.
    pub(crate) fetched_bytes: FetchedBytes,
    waker: JobWaker,
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
    pub(crate) fn new(peers: Arc<dyn Peers>, waker: JobWaker) -> Self {
        Self {
            peers,
            histories: RoomTasks::default(),
            fetched_bytes: FetchedBytes::default(),
            waker,
            fetchers: Fetchers::default(),
        }
    }

    pub(crate) fn outward(self: &Arc<Self>, shared: &Arc<Shared>) -> Outward {
        Outward {
            shared: Arc::clone(shared),
            tasks: Arc::clone(self),
        }
    }
}

impl Background for Tasks {
    fn requested(&self, room: &RoomId, history: bool) {
        if history {
            self.histories.begin(room);
        }
        self.wake();
    }

    fn wake(&self) {
        self.waker.wake();
    }

    fn fetch_missing(self: Arc<Self>, shared: &Arc<Shared>, room: &RoomId, wants: Vec<Want>) {
        fetch::want(&self.outward(shared), room, wants);
    }

    fn stop(&self) {
        self.fetchers.stop();
    }
}
