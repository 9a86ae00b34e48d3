//! The brake on guessed passwords: failures per account and per address, in memory.
//!
//! Pure but for its lock: the time is an argument. An attacker on many addresses is held by the account's limit, one
//! who tries many accounts by the address's.

use std::{collections::HashMap, net::IpAddr, sync::Mutex, time::Duration};

use ruma::{OwnedUserId, UserId};

/// Failures after which an account's sign-in pauses, and after which an address's does.
const FAILURES_PER_USER: u32 = 10;
/// Higher than for an account: a whole office may share one address.
const FAILURES_PER_ADDRESS: u32 = 50;
/// One failure is forgiven after each such time.
const FORGIVE_EVERY_MS: u64 = 30_000;
/// Rows kept of each kind; above it those that are forgiven are dropped, then new ones are not counted.
const MAX_ROWS: usize = 100_000;

#[derive(Default)]
pub(crate) struct Throttle {
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    users: HashMap<OwnedUserId, Bucket>,
    addresses: HashMap<IpAddr, Bucket>,
}

/// Failures that are not forgiven yet, as the time at which all will be.
#[derive(Clone, Copy, Default)]
struct Bucket {
    clear_at_ms: u64,
}

impl Bucket {
    fn wait_ms(self, limit: u32, now_ms: u64) -> Option<u64> {
        let held = self.clear_at_ms.saturating_sub(now_ms);
        let full = u64::from(limit).saturating_mul(FORGIVE_EVERY_MS);
        (held.saturating_add(FORGIVE_EVERY_MS) > full).then(|| held.saturating_add(FORGIVE_EVERY_MS) - full)
    }

    fn add(&mut self, now_ms: u64) {
        self.clear_at_ms = self.clear_at_ms.max(now_ms).saturating_add(FORGIVE_EVERY_MS);
    }
}

impl Throttle {
    /// How long the caller must wait before a password is looked at; None: go on.
    pub(crate) fn wait(&self, user: &UserId, address: Option<IpAddr>, now_ms: u64) -> Option<Duration> {
        let rows = self.rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let by_user = rows
            .users
            .get(user)
            .and_then(|bucket| bucket.wait_ms(FAILURES_PER_USER, now_ms));
        let by_address = address
            .and_then(|address| rows.addresses.get(&address))
            .and_then(|bucket| bucket.wait_ms(FAILURES_PER_ADDRESS, now_ms));
        by_user.max(by_address).map(Duration::from_millis)
    }

    pub(crate) fn failed(&self, user: &UserId, address: Option<IpAddr>, now_ms: u64) {
        let mut rows = self.rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        count(&mut rows.users, user.to_owned(), now_ms);
        if let Some(address) = address {
            count(&mut rows.addresses, address, now_ms);
        }
    }

    pub(crate) fn succeeded(&self, user: &UserId) {
        let mut rows = self.rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        rows.users.remove(user);
    }
}

fn count<K: std::hash::Hash + Eq>(rows: &mut HashMap<K, Bucket>, key: K, now_ms: u64) {
    if rows.len() >= MAX_ROWS {
        rows.retain(|_, bucket| bucket.clear_at_ms > now_ms);
    }
    if rows.len() < MAX_ROWS || rows.contains_key(&key) {
        rows.entry(key).or_default().add(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ruma::user_id;

    use super::*;

    #[test]
    fn guessing_one_account_pauses_it_and_time_forgives() {
        let throttle = Throttle::default();
        let alice = user_id!("@alice:x");
        let mut now = 1_000_000;
        for _ in 0..FAILURES_PER_USER {
            assert_eq!(throttle.wait(alice, None, now), None);
            throttle.failed(alice, None, now);
        }
        let wait = throttle.wait(alice, None, now).unwrap();
        assert!(wait <= Duration::from_millis(FORGIVE_EVERY_MS));
        assert_eq!(throttle.wait(user_id!("@bob:x"), None, now), None);
        now += u64::try_from(wait.as_millis()).unwrap();
        assert_eq!(throttle.wait(alice, None, now), None);
        throttle.failed(alice, None, now);
        assert!(throttle.wait(alice, None, now).is_some());
    }

    #[test]
    fn guessing_many_accounts_pauses_the_address() {
        let throttle = Throttle::default();
        let address = Some(IpAddr::from(Ipv4Addr::LOCALHOST));
        for n in 0..FAILURES_PER_ADDRESS {
            let user = UserId::parse(format!("@u{n}:x")).unwrap();
            assert_eq!(throttle.wait(&user, address, 5), None);
            throttle.failed(&user, address, 5);
        }
        assert!(throttle.wait(user_id!("@other:x"), address, 5).is_some());
        assert_eq!(throttle.wait(user_id!("@other:x"), None, 5), None);
    }

    #[test]
    fn a_right_password_clears_the_account() {
        let throttle = Throttle::default();
        let alice = user_id!("@alice:x");
        for _ in 0..FAILURES_PER_USER {
            throttle.failed(alice, None, 5);
        }
        throttle.succeeded(alice);
        assert_eq!(throttle.wait(alice, None, 5), None);
    }
}
