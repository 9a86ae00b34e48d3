//! The plan of a run: a list of actions, from a seed or a file.
//!
//! A plan lists the actions of each user. Whether an action is allowed is checked when it is tried, so a plan without
//! some of its actions is still a plan.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use ruma::RoomVersionId;
use serde::{Deserialize, Serialize};

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The seed of the network's random numbers.
    pub seed: u64,
    /// Servers, each with one user.
    pub servers: usize,
    /// Whether the last of them is malicious.
    pub malicious: bool,
    /// Whether the one before it is an accomplice.
    #[serde(default)]
    pub accomplice: bool,
    pub version: RoomVersionId,
    /// Whether no user sends an event at the end: servers must converge without later events.
    #[serde(default)]
    pub silent: bool,
    /// Lanes of each server's store.
    #[serde(default = "one")]
    pub lanes: u16,
    pub actions: Vec<Action>,
}

fn one() -> u16 {
    1
}

/// Servers, and so their users, are numbers.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub enum Action {
    /// The user's editor types a word at this position, in thousandths of the text.
    Type {
        who: usize,
        at: u32,
    },
    /// The user's editor deletes words there.
    Delete {
        who: usize,
        at: u32,
        count: u32,
    },
    /// The editor fetches the text of its server.
    Sync {
        who: usize,
    },
    Say {
        who: usize,
    },
    Title {
        who: usize,
    },
    /// Another display name: sends the user's membership again.
    Rename {
        who: usize,
    },
    Role {
        who: usize,
        whom: usize,
        level: i64,
    },
    Kick {
        who: usize,
        whom: usize,
    },
    Ban {
        who: usize,
        whom: usize,
    },
    Unban {
        who: usize,
        whom: usize,
    },
    Leave {
        who: usize,
    },
    Join {
        who: usize,
        via: usize,
    },
    Lock {
        who: usize,
    },
    /// Lifts the lock that stands on the user's server.
    Unlock {
        who: usize,
    },
    /// Redacts the newest chat message on the server.
    Redact {
        who: usize,
    },
    /// Events from `from` no longer reach `to`.
    Cut {
        from: usize,
        to: usize,
    },
    Heal {
        from: usize,
        to: usize,
    },
    /// Cuts a server off, in both directions.
    Isolate {
        who: usize,
    },
    HealAll,
    /// Heals all links; every user sends a message when the earlier ones were delivered.
    Agree,
    Restart {
        who: usize,
    },
    /// A power loss; this number of unsynced batches survives.
    PowerLoss {
        who: usize,
        kept: usize,
    },
    Pass {
        milliseconds: u64,
    },
    /// Another process of the server takes its lanes, while the user's editor types a word at the process that has them.
    /// That process goes on with what it has in memory.
    TakeOver {
        who: usize,
        at: u32,
    },
    /// The user's editor types a word at the process that had the lanes before, which must not acknowledge it.
    TypeLate {
        who: usize,
    },
    /// The answer to the server's next commit is lost. `written`: the commit is not.
    Doubt {
        who: usize,
        written: bool,
    },
    /// A malicious action; done by a malicious server only.
    Lie {
        kind: Lie,
    },
}

/// The actions of a malicious server.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq)]
pub enum Lie {
    /// Two contents for the same blocks: one for half of the servers, one for the others.
    Equivocate,
    /// Continues the second content.
    ContinueOther,
    /// Uses another user's client id.
    Spoof,
    /// An update from an old branch of the graph.
    OldBranch,
    /// An event that only one server receives.
    Withhold,
    /// A redacted copy for one half of the servers, the whole event for the others.
    Pruned,
    /// Raises its own power level without the power to do so.
    Usurp,
    /// A message whose content does not match its hash, and one that is no event.
    Malformed,
    /// Sends the room's first events again.
    Replay,
    /// Uses another user's client id, in an event that references the extremities of the room's start.
    Backdate,
    /// A word of its own; the next time other content in its place, in an event that references the extremities of the
    /// room's start.
    Rewrite,
    /// A message that references the last false claim alone, by the accomplice if there is one.
    Support,
}

const LIES: [Lie; 9] = [
    Lie::Equivocate,
    Lie::ContinueOther,
    Lie::Spoof,
    Lie::OldBranch,
    Lie::Withhold,
    Lie::Pruned,
    Lie::Usurp,
    Lie::Malformed,
    Lie::Replay,
];

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let servers = dice.random_range(3..=5);
        let malicious = dice.random_ratio(1, 3);
        let versions = [
            RoomVersionId::V12,
            RoomVersionId::V12,
            RoomVersionId::V11,
            RoomVersionId::V10,
        ];
        let version = versions.choose(&mut dice).unwrap().clone();
        let count = dice.random_range(20..60);
        let actions = (0..count).map(|_| action(&mut dice, servers, malicious)).collect();
        let silent = dice.random_ratio(1, 2);
        Self {
            seed,
            servers,
            malicious,
            accomplice: false,
            version,
            silent,
            lanes: 1,
            actions,
        }
    }

    /// A plan in which stores have several lanes, owners lose them, and commits are in doubt.
    pub fn of_lanes(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed.wrapping_mul(0xd1b5_4a32_d192_ed03));
        let servers = dice.random_range(2..=4);
        let count = dice.random_range(20..60);
        let actions = (0..count).map(|_| action_with_owners(&mut dice, servers)).collect();
        Self {
            seed,
            servers,
            malicious: false,
            accomplice: false,
            version: RoomVersionId::V12,
            silent: dice.random_ratio(1, 2),
            lanes: *[1, 16, 16, 16].choose(&mut dice).unwrap(),
            actions,
        }
    }

    /// A plan in which the document is often locked and unlocked.
    pub fn of_locks(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed.wrapping_mul(0xbf58_476d_1ce4_e5b9));
        let servers = dice.random_range(2..=5);
        let versions = [RoomVersionId::V12, RoomVersionId::V12, RoomVersionId::V11];
        let version = versions.choose(&mut dice).unwrap().clone();
        let count = dice.random_range(20..60);
        let actions = (0..count).map(|_| action_with_locks(&mut dice, servers)).collect();
        Self {
            seed,
            servers,
            malicious: false,
            accomplice: false,
            version,
            silent: dice.random_ratio(1, 2),
            lanes: 1,
            actions,
        }
    }

    /// A plan in which one or two servers make false claims to clocks, and no rights change, so that final updates are
    /// known ([`super::finality`]).
    pub fn of_claims(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let servers = dice.random_range(3..=5);
        let accomplice = servers > 3 && dice.random_ratio(1, 2);
        let count = dice.random_range(20..50);
        let actions = (0..count).map(|_| action_besides_claims(&mut dice, servers)).collect();
        Self {
            seed,
            servers,
            malicious: true,
            accomplice,
            version: RoomVersionId::V12,
            silent: dice.random_ratio(1, 2),
            lanes: 1,
            actions,
        }
    }

    /// Whether no membership and no rights change.
    pub fn is_steady(&self) -> bool {
        let changes = |action: &Action| {
            matches!(
                action,
                Action::Role { .. }
                    | Action::Kick { .. }
                    | Action::Ban { .. }
                    | Action::Unban { .. }
                    | Action::Leave { .. }
                    | Action::Join { .. }
                    | Action::Rename { .. }
                    | Action::Lie { kind: Lie::Usurp }
            )
        };
        !self.actions.iter().any(changes)
    }
}

fn action_with_owners(dice: &mut StdRng, servers: usize) -> Action {
    let who = dice.random_range(0..servers);
    let at = dice.random_range(0..=1_000);
    match dice.random_range(0..100) {
        0..14 => Action::TakeOver { who, at },
        14..24 => Action::TypeLate { who },
        24..34 => Action::Doubt {
            who,
            written: dice.random_ratio(1, 2),
        },
        _ => action(dice, servers, false),
    }
}

fn action_with_locks(dice: &mut StdRng, servers: usize) -> Action {
    let who = dice.random_range(0..servers);
    match dice.random_range(0..100) {
        0..10 => Action::Lock { who },
        10..22 => Action::Unlock { who },
        22..40 => Action::Type {
            who,
            at: dice.random_range(0..=1_000),
        },
        _ => action(dice, servers, false),
    }
}

fn action_besides_claims(dice: &mut StdRng, servers: usize) -> Action {
    let who = dice.random_range(0..servers);
    let other = (who + dice.random_range(1..servers)) % servers;
    let at = dice.random_range(0..=1_000);
    match dice.random_range(0..100) {
        0..24 => Action::Type { who, at },
        24..26 => Action::Delete {
            who,
            at,
            count: dice.random_range(1..12),
        },
        26..29 => Action::Sync { who },
        29..44 => Action::Say { who },
        44..47 => Action::Cut { from: who, to: other },
        47..49 => Action::Isolate { who },
        49..57 => Action::HealAll,
        57..59 => Action::Restart { who },
        59..61 => Action::PowerLoss {
            who,
            kept: dice.random_range(0..3),
        },
        61..68 => Action::Agree,
        68..78 => Action::Pass {
            milliseconds: *[200, 2_000, 20_000, 120_000, 900_000].choose(dice).unwrap(),
        },
        _ => Action::Lie {
            kind: *CLAIMS.choose(dice).unwrap(),
        },
    }
}

const CLAIMS: [Lie; 9] = [
    Lie::Backdate,
    Lie::Backdate,
    Lie::Rewrite,
    Lie::Rewrite,
    Lie::Support,
    Lie::Support,
    Lie::Equivocate,
    Lie::OldBranch,
    Lie::Spoof,
];

fn action(dice: &mut StdRng, servers: usize, malicious: bool) -> Action {
    let who = dice.random_range(0..servers);
    let other = (who + dice.random_range(1..servers)) % servers;
    let at = dice.random_range(0..=1_000);
    match dice.random_range(0..if malicious { 110 } else { 100 }) {
        0..30 => Action::Type { who, at },
        30..36 => Action::Delete {
            who,
            at,
            count: dice.random_range(1..12),
        },
        36..42 => Action::Sync { who },
        42..46 => Action::Say { who },
        46..48 => Action::Rename { who },
        48..51 => Action::Title { who },
        51..56 => Action::Role {
            who: if dice.random_ratio(2, 3) { 0 } else { who },
            whom: other,
            level: *[0, 10, 25, 50, 100].choose(dice).unwrap(),
        },
        56..58 => Action::Kick { who, whom: other },
        58..60 => Action::Ban { who, whom: other },
        60..62 => Action::Unban { who, whom: other },
        62..63 => Action::Leave { who },
        63..68 => Action::Join { who, via: other },
        68..70 => Action::Redact { who },
        70..75 => Action::Cut { from: who, to: other },
        75..78 => Action::Heal { from: who, to: other },
        78..81 => Action::Isolate { who },
        81..85 => Action::HealAll,
        85..87 => Action::Restart { who },
        87..90 => Action::PowerLoss {
            who,
            kept: dice.random_range(0..3),
        },
        90..100 => Action::Pass {
            milliseconds: *[20, 200, 2_000, 20_000, 120_000].choose(dice).unwrap(),
        },
        _ => Action::Lie {
            kind: *LIES.choose(dice).unwrap(),
        },
    }
}
