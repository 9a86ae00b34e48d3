//! Positions: the numbers that order the commits of a lane, for `/sync`, outboxes and audits.
//!
//! Commits of different rooms run concurrently and complete in any order, so a position is `visible` only when every
//! lower one is decided as well: a reader that has read up to `visible` never misses anything at or below it. The
//! numbers are not dense: those of failed commits stay unused, and opening a store skips some. Must not assign a number
//! twice, also not after a crash, and must not make a number visible that could be assigned again (see `ceiling`).

use std::collections::BTreeMap;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

use crate::lane::{Lane, Lanes, Placed};

/// The number of positions that one row of the store allots in advance, so that not every reservation needs a write.
pub(crate) const ALLOTMENT: u64 = 4096;

/// The positions of a lane. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Positions {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    lane: Lane,
    era: u64,
    /// Taken before the watch's own lock, never while a value of the watch is borrowed.
    state: Mutex<State>,
    visible: watch::Sender<u64>,
    /// The lane has another owner: what became of the undecided commits is unknown here, so nothing more becomes visible.
    /// Written under the lock of the state.
    lost: AtomicBool,
    /// Notified when `visible` or `lost` changes. It wakes waiters in their order; a watch does so in random order, and a
    /// simulated run could not be repeated.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    next: u64,
    /// The first position of each undecided reservation, with its length.
    open: BTreeMap<u64, u64>,
    /// The highest position that is allotted on disk. The next start continues after it, so no higher position may
    /// become visible.
    ceiling: u64,
}

impl State {
    fn visible(&self) -> u64 {
        let undecided = self.open.keys().next().copied().unwrap_or(self.next);
        undecided.saturating_sub(1).min(self.ceiling)
    }
}

impl Positions {
    /// Positions after `last` (all up to it are visible), allotted on disk up to `ceiling`.
    pub(crate) fn new(lane: Lane, era: u64, last: u64, ceiling: u64) -> Self {
        let state = State {
            next: last.saturating_add(1),
            open: BTreeMap::new(),
            ceiling,
        };
        let (visible, _) = watch::channel(state.visible());
        Self {
            shared: Arc::new(Shared {
                lane,
                era,
                state: Mutex::new(state),
                visible,
                lost: AtomicBool::new(false),
                changed: Notify::new(),
            }),
        }
    }

    /// The lane.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.shared.lane
    }

    /// The era of the lane. A position of an earlier era means nothing: acknowledged commits may have been lost since.
    #[must_use]
    pub fn era(&self) -> u64 {
        self.shared.era
    }

    /// Takes the next `count` positions (at least one). They are undecided until the guard is dropped: give it to the
    /// batch that uses them ([`crate::Batch::hold`]), which drops it when the commit is durable or has failed.
    #[must_use = "positions are decided as soon as this is dropped"]
    pub fn reserve(&self, count: u64) -> Reserved {
        let count = count.max(1);
        let mut state = self.shared.lock();
        let first = state.next;
        state.next = first.saturating_add(count);
        state.open.insert(first, count);
        drop(state);
        Reserved {
            first,
            count,
            shared: Arc::clone(&self.shared),
        }
    }

    /// The highest position up to which everything is committed or failed.
    #[must_use]
    pub fn visible(&self) -> u64 {
        *self.shared.visible.borrow()
    }

    /// Watches [`Positions::visible`].
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.visible.subscribe()
    }

    /// Waits until every position that is reserved now is decided, and returns the last of them; `None` if the lane is
    /// lost. A reader that must not miss a row at or below the newest one that it returns reads up to that position.
    pub async fn settled(&self) -> Option<u64> {
        let last = {
            let state = self.shared.lock();
            state.next.saturating_sub(1).min(state.ceiling)
        };
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // From here on, so that no change is missed.
            changed.as_mut().enable();
            if self.visible() >= last || self.is_lost() {
                break;
            }
            changed.await;
        }
        (self.visible() >= last).then_some(last)
    }

    /// The positions that a commit of these reservations makes visible, and the ceiling to write with it.
    pub(crate) fn after_commit(&self, held: &[&Reserved]) -> (u64, u64) {
        let state = self.shared.lock();
        let is_held = |first: u64| held.iter().any(|reserved| reserved.first == first);
        let undecided = state.open.keys().find(|first| !is_held(**first)).copied();
        let near = state.next.saturating_add(ALLOTMENT / 2) > state.ceiling;
        let ceiling = if near {
            state.next.saturating_add(ALLOTMENT)
        } else {
            state.ceiling
        };
        let visible = undecided.unwrap_or(state.next).saturating_sub(1).min(ceiling);
        (visible, ceiling)
    }

    /// The highest position that is allotted on disk: no position above it was ever visible.
    #[must_use]
    pub fn ceiling(&self) -> u64 {
        self.shared.lock().ceiling
    }

    /// Ends the advance of the visible position: the lane has another owner.
    pub(crate) fn lose(&self) {
        let state = self.shared.lock();
        self.shared.lost.store(true, Ordering::SeqCst);
        drop(state);
        // Wakes those that wait for a position.
        self.shared.visible.send_modify(|_| {});
        self.shared.changed.notify_waiters();
    }

    /// Whether the lane is lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// Records that this ceiling is on disk.
    pub(crate) fn raise_ceiling(&self, ceiling: u64) {
        let mut state = self.shared.lock();
        state.ceiling = state.ceiling.max(ceiling);
        self.shared.publish(&state);
    }
}

/// The positions of all lanes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LanePositions {
    lanes: Lanes,
    incarnation: u64,
    first: Positions,
    all: Arc<[Positions]>,
}

impl LanePositions {
    /// The positions of each lane, by number; `None` if there are none.
    pub(crate) fn new(lanes: Lanes, incarnation: u64, all: Vec<Positions>) -> Option<Self> {
        let first = all.first()?.clone();
        Some(Self {
            lanes,
            incarnation,
            first,
            all: all.into(),
        })
    }

    /// The number of lanes.
    #[must_use]
    pub const fn lanes(&self) -> Lanes {
        self.lanes
    }

    /// A random number of this start of the process: what is not stored is lost with it.
    #[must_use]
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The positions of a lane. A lane that the deployment does not have is the first.
    #[must_use]
    pub fn in_lane(&self, lane: Lane) -> &Positions {
        self.all.get(usize::from(lane.number())).unwrap_or(&self.first)
    }

    /// The positions of the lane of a room, a user or a server.
    #[must_use]
    pub fn of<T: Placed + ?Sized>(&self, placed: &T) -> &Positions {
        self.in_lane(self.lanes.of(placed))
    }

    /// The visible position of each lane. Read it before the rows: what is committed meanwhile is above it.
    #[must_use]
    pub fn visible(&self) -> VisiblePositions {
        VisiblePositions(self.all.iter().map(Positions::visible).collect())
    }

    /// Of each lane, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Positions> {
        self.all.iter()
    }
}

/// A position of each lane: everything at or below it is decided. Positions of different lanes are not compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VisiblePositions(Arc<[u64]>);

impl VisiblePositions {
    /// The position of a lane; 0 if it has none.
    #[must_use]
    pub fn in_lane(&self, lane: Lane) -> u64 {
        self.0.get(usize::from(lane.number())).copied().unwrap_or(0)
    }

    /// What became visible in each lane since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Vec<(Lane, u64, u64)> {
        let lanes = (0..).map_while(Lane::new).zip(self.0.iter());
        lanes
            .map(|(lane, position)| (lane, earlier.in_lane(lane), *position))
            .collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Under the lock, so that an earlier value never overwrites a later one.
    fn publish(&self, state: &State) {
        if self.lost.load(Ordering::SeqCst) {
            return;
        }
        let visible = state.visible();
        let is_later = self.visible.send_if_modified(|current| {
            let later = visible > *current;
            if later {
                *current = visible;
            }
            later
        });
        if is_later {
            self.changed.notify_waiters();
        }
    }
}

/// Reserved positions that are not decided yet. Dropping it decides them, so it must live until the commit has
/// completed.
#[derive(Debug)]
pub struct Reserved {
    first: u64,
    count: u64,
    shared: Arc<Shared>,
}

impl Reserved {
    /// The lane.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.shared.lane
    }

    /// The first of them.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Their number.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last of them.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first.saturating_add(self.count).saturating_sub(1)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.open.remove(&self.first);
        self.shared.publish(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_visible_only_when_all_before_it_are_decided() {
        let positions = Positions::new(Lane::FIRST, 1, 10, 1000);
        assert_eq!(positions.visible(), 10);
        let first = positions.reserve(2);
        let second = positions.reserve(1);
        let third = positions.reserve(3);
        assert_eq!(
            (first.first(), first.last(), second.first(), third.last()),
            (11, 12, 13, 16)
        );
        drop(third);
        assert_eq!(positions.visible(), 10);
        drop(first);
        assert_eq!(positions.visible(), 12);
        drop(second);
        assert_eq!(positions.visible(), 16);
    }

    #[test]
    fn no_position_above_the_durable_ceiling_is_visible() {
        let positions = Positions::new(Lane::FIRST, 1, 0, 3);
        drop(positions.reserve(8));
        assert_eq!(positions.visible(), 3);
        assert_eq!(positions.after_commit(&[]), (8, 9 + ALLOTMENT));
        positions.raise_ceiling(ALLOTMENT);
        assert_eq!(positions.visible(), 8);
    }

    #[test]
    fn what_a_commit_makes_visible_is_known_before_it() {
        let positions = Positions::new(Lane::FIRST, 1, 0, 10_000);
        let (first, second, third) = (positions.reserve(2), positions.reserve(1), positions.reserve(1));
        assert_eq!(positions.after_commit(&[&second]).0, 0);
        assert_eq!(positions.after_commit(&[&first]).0, 2);
        assert_eq!(positions.after_commit(&[&first, &second]).0, 3);
        drop((first, second, third));
        assert_eq!(positions.visible(), 4);
    }

    #[test]
    fn a_lost_lane_shows_nothing_more() {
        let positions = Positions::new(Lane::FIRST, 1, 0, 10_000);
        let first = positions.reserve(1);
        positions.lose();
        drop(first);
        assert_eq!(positions.visible(), 0);
    }

    #[test]
    fn watchers_wake_once_for_each_advance() {
        let positions = Positions::new(Lane::FIRST, 1, 0, 100);
        let mut watcher = positions.watch();
        let (first, second) = (positions.reserve(1), positions.reserve(1));
        drop(second);
        assert!(!watcher.has_changed().unwrap());
        drop(first);
        assert!(watcher.has_changed().unwrap());
        assert_eq!(*watcher.borrow_and_update(), 2);
    }

    /// The watch's lock and that of the positions must not be taken in both orders.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn waiting_for_positions_does_not_block_those_that_decide_them() {
        let positions = Positions::new(Lane::FIRST, 1, 0, u64::MAX);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let positions = positions.clone();
            tasks.spawn(async move {
                for _ in 0..20_000 {
                    let reserved = positions.reserve(1);
                    tokio::task::yield_now().await;
                    drop(reserved);
                    positions.settled().await;
                }
            });
        }
        tasks.join_all().await;
    }
}
