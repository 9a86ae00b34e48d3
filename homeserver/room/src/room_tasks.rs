//! Background tasks of rooms: at most one task of a kind runs for a room at a time.
//!
//! A request that arrives while the task runs is not lost: the task sees it before it ends, under the same lock under
//! which it would be removed. Must not depend on what the tasks do.

use std::collections::{HashMap, hash_map::Entry};

use parking_lot::{Mutex, MutexGuard};
use ruma::{OwnedRoomId, RoomId};
use tokio::sync::watch;

/// The running tasks of one kind.
#[derive(Debug, Default)]
pub(crate) struct RoomTasks(Mutex<HashMap<OwnedRoomId, Running>>);

#[derive(Debug)]
struct Running {
    /// Requested again since the task last looked for work.
    requested: bool,
    /// Nothing is sent: the channel closes when the task ends.
    ended: watch::Sender<()>,
}

impl RoomTasks {
    /// Registers a task. False where one is running: that one looks for work once more before it ends.
    pub(crate) fn begin(&self, room: &RoomId) -> bool {
        match self.running().entry(room.to_owned()) {
            Entry::Occupied(mut running) => {
                running.get_mut().requested = true;
                false
            }
            Entry::Vacant(place) => {
                place.insert(Running {
                    requested: false,
                    ended: watch::Sender::new(()),
                });
                true
            }
        }
    }

    /// Called before the task looks for work: requests up to now are covered by what it finds.
    pub(crate) fn look(&self, room: &RoomId) {
        if let Some(running) = self.running().get_mut(room) {
            running.requested = false;
        }
    }

    /// Removes a task that found nothing left to do; false where it was requested again since it last looked, and must
    /// look once more.
    pub(crate) fn finish(&self, room: &RoomId) -> bool {
        let mut running = self.running();
        if running.get(room).is_some_and(|task| task.requested) {
            return false;
        }
        running.remove(room);
        true
    }

    /// Removes a task whatever was requested: the server is stopping.
    pub(crate) fn abandon(&self, room: &RoomId) {
        self.running().remove(room);
    }

    /// Closes when the running task of a room ends; None where none is running.
    pub(crate) fn ended(&self, room: &RoomId) -> Option<watch::Receiver<()>> {
        self.running().get(room).map(|task| task.ended.subscribe())
    }

    fn running(&self) -> MutexGuard<'_, HashMap<OwnedRoomId, Running>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_while_the_task_runs_repeats_its_search() {
        let (tasks, room) = (RoomTasks::default(), RoomId::parse("!room:a.example").unwrap());
        assert!(tasks.begin(&room));
        tasks.look(&room);
        assert!(!tasks.begin(&room), "one task for each room");
        assert!(!tasks.finish(&room), "it was requested after it had looked");
        tasks.look(&room);
        assert!(tasks.finish(&room));
        assert!(tasks.begin(&room), "the next request starts a task");
    }

    #[test]
    fn a_request_before_the_search_is_covered_by_it() {
        let (tasks, room) = (RoomTasks::default(), RoomId::parse("!room:a.example").unwrap());
        assert!(tasks.begin(&room));
        assert!(!tasks.begin(&room));
        tasks.look(&room);
        assert!(tasks.finish(&room));
        assert!(tasks.ended(&room).is_none());
    }
}
