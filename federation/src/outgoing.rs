//! Limits on requests to other servers that clients and other servers cause: a stranger's profile lookup, a header that names a
//! server with unknown keys, an account that resolves an alias.
//!
//! Each request is counted while it is in flight, per requester and in total. Must not count requests that this
//! server sends for its own rooms: a flood of lookups may delay lookups and nothing else.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use parking_lot::{Mutex, MutexGuard};
use ruma::{OwnedServerName, OwnedUserId, ServerName};
use weft_budget::{Budget, KeyedBudget, KeyedShare};
use weft_wire::limits;

use crate::CallError;

/// Above this many addresses, idle ones are removed from the table of rates.
const SWEEP_ABOVE: usize = 4_096;

/// The client that causes a request to another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Initiator {
    /// A requester without a valid token or signature, by address if it is known.
    Stranger(Option<IpAddr>),
    /// A user of this server.
    User(OwnedUserId),
}

/// How many requests to other servers may be in flight at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutgoingLimits {
    /// Requests of one stranger.
    pub per_stranger: u64,
    /// Requests of all strangers.
    pub for_strangers: u64,
    /// Requests of one account.
    pub per_account: u64,
    /// Requests of all accounts.
    pub for_accounts: u64,
}

impl Default for OutgoingLimits {
    fn default() -> Self {
        Self {
            per_stranger: limits::MAX_OUTGOING_PER_STRANGER,
            for_strangers: limits::MAX_OUTGOING_FOR_STRANGERS,
            per_account: limits::MAX_OUTGOING_PER_ACCOUNT,
            for_accounts: limits::MAX_OUTGOING_FOR_ACCOUNTS,
        }
    }
}

/// Counts these requests.
#[derive(Debug)]
pub struct Outgoing {
    strangers: Arc<KeyedBudget<Network>>,
    accounts: Arc<KeyedBudget<OwnedUserId>>,
    rates: Option<DefaultKeyedRateLimiter<Network>>,
    unreachable: Mutex<HashMap<OwnedServerName, Instant>>,
}

/// One stranger: an IPv4 address, or an IPv6 network of the size that one customer gets. Strangers without a known
/// address count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    Unknown,
    Address(IpAddr),
}

/// The slot of one request in flight, released when it is dropped.
#[derive(Debug)]
#[must_use = "dropping a share releases the slot of its request"]
#[allow(dead_code, reason = "held for its Drop")]
pub(crate) enum OutgoingShare {
    Stranger(KeyedShare<Network>),
    Account(KeyedShare<OwnedUserId>),
}

impl Default for Outgoing {
    fn default() -> Self {
        Self::new(&OutgoingLimits::default())
    }
}

impl Outgoing {
    /// Budgets with nothing in use.
    #[must_use]
    pub fn new(limits: &OutgoingLimits) -> Self {
        let per_minute = NonZeroU32::new(limits::OUTGOING_PER_MINUTE_FOR_STRANGER);
        Self {
            strangers: KeyedBudget::new(
                "outgoing_requests_for_strangers",
                limits.per_stranger,
                limits.for_strangers,
            ),
            accounts: KeyedBudget::new(
                "outgoing_requests_for_accounts",
                limits.per_account,
                limits.for_accounts,
            ),
            rates: per_minute.map(|per_minute| RateLimiter::keyed(Quota::per_minute(per_minute))),
            unreachable: Mutex::default(),
        }
    }

    /// The budgets, for metrics.
    #[must_use]
    pub fn budgets(&self) -> [&Arc<Budget>; 2] {
        [self.strangers.total(), self.accounts.total()]
    }

    /// Counts a request that `initiator` causes, until the share is dropped.
    pub(crate) fn take(&self, initiator: &Initiator) -> Result<OutgoingShare, CallError> {
        match initiator {
            Initiator::User(user) => {
                let share = self.accounts.try_take(user, 1).map_err(|_| CallError::Busy)?;
                Ok(OutgoingShare::Account(share))
            }
            Initiator::Stranger(address) => {
                let network = Network::of(*address);
                let share = self.strangers.try_take(&network, 1).map_err(|_| CallError::Busy)?;
                self.check_rate(network)?;
                Ok(OutgoingShare::Stranger(share))
            }
        }
    }

    /// Whether the server was unreachable a moment ago, so that no request is sent to it on behalf of this requester.
    pub(crate) fn is_unreachable(&self, initiator: &Initiator, server: &ServerName) -> bool {
        matches!(initiator, Initiator::Stranger(_))
            && self
                .unreachable()
                .get(server)
                .is_some_and(|until| Instant::now() < *until)
    }

    /// Records that a server is unreachable.
    pub(crate) fn note_unreachable(&self, server: &ServerName) {
        let now = Instant::now();
        let mut unreachable = self.unreachable();
        if unreachable.len() >= limits::MAX_REMEMBERED_SERVERS {
            unreachable.retain(|_, until| now < *until);
        }
        if unreachable.len() < limits::MAX_REMEMBERED_SERVERS {
            let pause = Duration::from_secs(limits::UNREACHABLE_FOR_STRANGERS_SECONDS);
            unreachable.insert(server.to_owned(), now + pause);
        }
    }

    /// Records that a server answered.
    pub(crate) fn note_reachable(&self, server: &ServerName) {
        self.unreachable().remove(server);
    }

    fn check_rate(&self, network: Network) -> Result<(), CallError> {
        let Some(rates) = &self.rates else { return Ok(()) };
        if rates.len() > SWEEP_ABOVE {
            rates.retain_recent();
        }
        rates.check_key(&network).map_err(|_| CallError::Busy)
    }

    fn unreachable(&self) -> MutexGuard<'_, HashMap<OwnedServerName, Instant>> {
        self.unreachable.lock()
    }
}

impl Network {
    fn of(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::Unknown,
            Some(IpAddr::V4(address)) => Self::Address(address.into()),
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Self::Address(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{server_name, user_id};

    use super::*;

    fn stranger(address: &str) -> Initiator {
        Initiator::Stranger(Some(address.parse().unwrap()))
    }

    #[test]
    fn one_stranger_cannot_use_up_the_limit_of_others_nor_all_strangers_that_of_accounts() {
        let outgoing = Outgoing::default();
        let mut held = Vec::new();
        for _ in 0..limits::MAX_OUTGOING_PER_STRANGER {
            held.push(outgoing.take(&stranger("192.0.2.1")).unwrap());
        }
        assert!(outgoing.take(&stranger("192.0.2.1")).is_err());
        assert!(outgoing.take(&stranger("::ffff:192.0.2.1")).is_err());
        // An IPv6 network of one customer counts as one stranger.
        for number in 0..limits::MAX_OUTGOING_PER_STRANGER {
            held.push(outgoing.take(&stranger(&format!("2001:db8::{number:x}"))).unwrap());
        }
        assert!(outgoing.take(&stranger("2001:db8::ffff")).is_err());
        for number in 0..2 * limits::MAX_OUTGOING_PER_STRANGER {
            held.push(outgoing.take(&stranger(&format!("198.51.100.{number}"))).unwrap());
        }
        assert!(outgoing.take(&stranger("203.0.113.1")).is_err());
        assert!(outgoing.take(&Initiator::Stranger(None)).is_err());

        let user = Initiator::User(user_id!("@a:x").to_owned());
        let shares: Vec<_> = (0..limits::MAX_OUTGOING_PER_ACCOUNT)
            .map(|_| outgoing.take(&user).unwrap())
            .collect();
        assert!(outgoing.take(&user).is_err());
        drop((held, shares));
        assert!(outgoing.take(&stranger("203.0.113.1")).is_ok() && outgoing.take(&user).is_ok());
    }

    #[test]
    fn sequential_requests_of_a_stranger_are_rate_limited_too() {
        let outgoing = Outgoing::default();
        let taken = (0..2 * limits::OUTGOING_PER_MINUTE_FOR_STRANGER)
            .filter(|_| outgoing.take(&stranger("192.0.2.1")).is_ok())
            .count();
        // Slightly more than the quota, because time passes during the test.
        assert!(taken < 2 * limits::OUTGOING_PER_MINUTE_FOR_STRANGER as usize, "{taken}");
        assert!(outgoing.take(&stranger("192.0.2.2")).is_ok());
    }

    #[test]
    fn an_unreachable_server_gets_no_requests_on_behalf_of_strangers() {
        let outgoing = Outgoing::default();
        let (server, user) = (
            server_name!("gone.example"),
            Initiator::User(user_id!("@a:x").to_owned()),
        );
        assert!(!outgoing.is_unreachable(&stranger("192.0.2.1"), server));
        outgoing.note_unreachable(server);
        assert!(outgoing.is_unreachable(&stranger("192.0.2.1"), server));
        assert!(!outgoing.is_unreachable(&user, server));
        outgoing.note_reachable(server);
        assert!(!outgoing.is_unreachable(&stranger("192.0.2.1"), server));
    }
}
