//! Rate limiter for failed proofs: passwords of users and of share links, registration tokens, the shared secret. In memory; the time is an argument.
//!
//! Failures are counted per subject and source, so that guesses from one source do not slow proofs of the same subject
//! from other sources. Two wider limits hold against guessing from many sources and against guessing of many accounts.
//! They exempt known sources: a signed-in device, and a network from which the user logged in recently. Must not block
//! an account as a whole, because then anyone could lock its user out.

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use ruma::{OwnedDeviceId, OwnedUserId, UserId};

use crate::Network;

/// Failures with one subject from one source before attempts have to wait: enough for a user who tries all their old
/// passwords.
const FAILURES_PER_SOURCE: u64 = 10;
/// Failures with one account from all networks that are not known for it: thirty sources that are each at their limit.
/// With more sources, a weak password must not be found within a day, so unknown networks have to wait.
const FAILURES_PER_USER: u64 = 300;
/// Failures of one network with passwords of existing accounts: enough for a company behind one address on a day on
/// which all users must log in again. Names that don't exist are not counted, since no password can be found for them.
const FAILURES_PER_NETWORK: u64 = 100;
/// Failures with the password of one share link from all sources, which only those who have its secret can cause.
const FAILURES_PER_LINK: u64 = 300;
/// Guests that come from one network: a class at the beginning of a lesson.
const GUESTS_PER_NETWORK: u64 = 30;
/// One failure, or one guest, expires per this time.
const FAILURE_EXPIRY_MS: u64 = 30_000;
/// A network is known for this long after a login from it.
const KNOWN_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Rows per map, about 100 bytes each; above it an arbitrary row is dropped. Passwords alone don't reach it: a row lives
/// until its failures have expired, and the cost of hashes bounds the failures per second.
const MAX_ROWS: usize = 100_000;
/// Number of rows below which no expired rows are removed.
const SWEEP_ABOVE: usize = 1_024;

/// The secret that a proof is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// A user's password.
    Password(OwnedUserId),
    /// A registration token.
    RegistrationToken,
    /// The operator's shared secret.
    SharedSecret,
    /// The password of the share link with this id.
    Link(String),
}

/// The source of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A request without a session. `None`: from this machine, over a transport without addresses.
    Network(Option<Network>),
    /// A signed-in device of the user whose password is checked.
    Device(OwnedDeviceId),
    /// A signed-in user, whatever their device.
    User(OwnedUserId),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Pair(Subject, Source),
    User(OwnedUserId),
    Network(Network),
    Link(String),
    Guests(Option<Network>),
}

impl Key {
    fn limit(&self) -> u64 {
        match self {
            Self::Pair(..) => FAILURES_PER_SOURCE,
            Self::User(_) => FAILURES_PER_USER,
            Self::Network(_) => FAILURES_PER_NETWORK,
            Self::Link(_) => FAILURES_PER_LINK,
            Self::Guests(_) => GUESTS_PER_NETWORK,
        }
    }
}

/// An attempt. It counts as a failure until another outcome is reported.
#[must_use = "a successful proof must be reported"]
pub(crate) struct Attempt {
    /// The source is known for the subject.
    pub(crate) known: bool,
    subject: Subject,
    source: Source,
    keys: Vec<Key>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct LoginLimiter {
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    /// For each key the time at which all its failures have expired.
    clear_at_ms: Swept<Key>,
    /// For each user and network the time until which the network is known.
    known_until_ms: Swept<(OwnedUserId, Network)>,
}

impl Rows {
    /// Adds one to each key, or to none if one of them is at its limit; then returns the time to wait.
    fn count(&mut self, keys: &[Key], now_ms: u64) -> Result<(), Duration> {
        let waits = keys
            .iter()
            .filter_map(|key| wait_ms(self.clear_at_ms.get(key)?, key.limit(), now_ms));
        if let Some(wait) = waits.max() {
            return Err(Duration::from_millis(wait));
        }
        for key in keys {
            let clear_at = self.clear_at_ms.get(key).unwrap_or_default().max(now_ms);
            let clear_at = clear_at.saturating_add(FAILURE_EXPIRY_MS);
            self.clear_at_ms.insert(key.clone(), clear_at, now_ms);
        }
        Ok(())
    }
}

impl LoginLimiter {
    /// Counts an attempt before its proof is checked, so that concurrent guesses are all counted. `exists`: the account
    /// exists, so a guess can succeed.
    ///
    /// # Errors
    /// Returns the time to wait if there were too many failures; the attempt is then not counted.
    pub(crate) fn begin(
        &self,
        subject: Subject,
        source: Source,
        exists: bool,
        now_ms: u64,
    ) -> Result<Attempt, Duration> {
        let mut rows = self.lock();
        let mut keys = vec![Key::Pair(subject.clone(), source.clone())];
        let known = match (&subject, &source) {
            (_, Source::Device(_) | Source::User(_)) => true,
            (Subject::Password(user), Source::Network(Some(network))) => {
                let until = rows.known_until_ms.get(&(user.clone(), *network));
                until.is_some_and(|until| until > now_ms)
            }
            _ => false,
        };
        if let (Subject::Password(user), Source::Network(network), true, false) = (&subject, &source, exists, known) {
            keys.push(Key::User(user.clone()));
            keys.extend(network.map(Key::Network));
        }
        if let Subject::Link(link) = &subject {
            keys.push(Key::Link(link.clone()));
        }
        rows.count(&keys, now_ms)?;
        Ok(Attempt {
            known,
            subject,
            source,
            keys,
        })
    }

    /// Counts a guest that comes from this network.
    ///
    /// # Errors
    /// Returns the time to wait if there were too many; this one is then not counted.
    pub(crate) fn count_guest(&self, network: Option<Network>, now_ms: u64) -> Result<(), Duration> {
        self.lock().count(&[Key::Guests(network)], now_ms)
    }

    /// Reports that the proof was right: the source becomes known and its failures are cleared.
    pub(crate) fn succeeded(&self, attempt: &Attempt, now_ms: u64) {
        self.discard(attempt);
        let mut rows = self.lock();
        rows.clear_at_ms
            .remove(&Key::Pair(attempt.subject.clone(), attempt.source.clone()));
        drop(rows);
        if let (Subject::Password(user), Source::Network(network)) = (&attempt.subject, &attempt.source) {
            self.note_known(user, *network, now_ms);
        }
    }

    /// Reports that the proof was not checked.
    pub(crate) fn discard(&self, attempt: &Attempt) {
        let mut rows = self.lock();
        for key in &attempt.keys {
            if let Some(clear_at) = rows.clear_at_ms.get(key) {
                rows.clear_at_ms
                    .replace(key, clear_at.saturating_sub(FAILURE_EXPIRY_MS));
            }
        }
    }

    /// Notes that a user authenticated from this network.
    pub(crate) fn note_known(&self, user: &UserId, network: Option<Network>, now_ms: u64) {
        if let Some(network) = network {
            let until = now_ms.saturating_add(KNOWN_MS);
            let key = (user.to_owned(), network);
            self.lock().known_until_ms.insert(key, until, now_ms);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        // Every change of the maps is a single call.
        self.rows.lock()
    }
}

/// Time until one more failure is within the limit.
fn wait_ms(clear_at_ms: u64, limit: u64, now_ms: u64) -> Option<u64> {
    let held = clear_at_ms.saturating_sub(now_ms).saturating_add(FAILURE_EXPIRY_MS);
    let full = limit.saturating_mul(FAILURE_EXPIRY_MS);
    held.checked_sub(full).filter(|wait| *wait > 0)
}

/// Expiry times by key. Expired rows are removed whenever the map has doubled, so that the amortised cost of an
/// insertion is constant.
struct Swept<K> {
    rows: HashMap<K, u64>,
    sweep_at: usize,
}

impl<K> Default for Swept<K> {
    fn default() -> Self {
        Self {
            rows: HashMap::new(),
            sweep_at: SWEEP_ABOVE,
        }
    }
}

impl<K: Eq + Hash + Clone> Swept<K> {
    fn get(&self, key: &K) -> Option<u64> {
        self.rows.get(key).copied()
    }

    fn insert(&mut self, key: K, until_ms: u64, now_ms: u64) {
        if self.rows.len() >= self.sweep_at {
            self.rows.retain(|_, until| *until > now_ms);
            self.sweep_at = self.rows.len().saturating_mul(2).max(SWEEP_ABOVE);
        }
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&key) {
            let any = self.rows.keys().next().cloned();
            any.and_then(|any| self.rows.remove(&any));
        }
        self.rows.insert(key, until_ms);
    }

    fn replace(&mut self, key: &K, until_ms: u64) {
        if let Some(until) = self.rows.get_mut(key) {
            *until = until_ms;
        }
    }

    fn remove(&mut self, key: &K) {
        self.rows.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use ruma::user_id;

    use super::*;

    const NOW: u64 = 1_000_000;

    fn network(n: u32) -> Source {
        Source::Network(Some(Network::of(IpAddr::from(Ipv4Addr::from_bits(n)))))
    }

    fn password(user: &UserId) -> Subject {
        Subject::Password(user.to_owned())
    }

    /// Makes wrong guesses until the limiter refuses one; returns their number.
    fn guess(login_limiter: &LoginLimiter, subject: &Subject, source: &Source, exists: bool) -> u64 {
        let mut guesses = 0;
        while login_limiter
            .begin(subject.clone(), source.clone(), exists, NOW)
            .is_ok()
        {
            guesses += 1;
        }
        guesses
    }

    #[test]
    fn one_source_is_limited_and_failures_expire() {
        let login_limiter = LoginLimiter::default();
        for subject in [
            password(user_id!("@alice:x")),
            Subject::RegistrationToken,
            Subject::SharedSecret,
        ] {
            assert_eq!(guess(&login_limiter, &subject, &network(1), true), FAILURES_PER_SOURCE);
            let wait = login_limiter
                .begin(subject.clone(), network(1), true, NOW)
                .err()
                .unwrap();
            assert!(wait <= Duration::from_millis(FAILURE_EXPIRY_MS));
            let later = NOW + u64::try_from(wait.as_millis()).unwrap();
            assert!(
                login_limiter
                    .begin(subject.clone(), network(1), true, later - 1)
                    .is_err()
            );
            assert!(login_limiter.begin(subject.clone(), network(1), true, later).is_ok());
            assert!(login_limiter.begin(subject, network(1), true, later).is_err());
        }
    }

    #[test]
    fn guesses_from_one_source_do_not_limit_other_sources() {
        let login_limiter = LoginLimiter::default();
        let alice = password(user_id!("@alice:x"));
        guess(&login_limiter, &alice, &network(1), true);
        assert!(login_limiter.begin(alice.clone(), network(2), true, NOW).is_ok());
        assert!(
            login_limiter
                .begin(alice, Source::Device("PHONE".into()), true, NOW)
                .is_ok()
        );
        assert!(
            login_limiter
                .begin(password(user_id!("@bob:x")), network(1), true, NOW)
                .is_ok()
        );
    }

    #[test]
    fn unknown_names_do_not_limit_their_network() {
        let login_limiter = LoginLimiter::default();
        for n in 0..1_000 {
            let user = UserId::parse(format!("@u{n}:x")).unwrap();
            assert!(login_limiter.begin(password(&user), network(1), false, NOW).is_ok());
        }
        assert!(
            login_limiter
                .begin(password(user_id!("@alice:x")), network(1), true, NOW)
                .is_ok()
        );
    }

    #[test]
    fn one_network_cannot_guess_many_accounts_and_known_users_pass() {
        let login_limiter = LoginLimiter::default();
        let alice = password(user_id!("@alice:x"));
        let attempt = login_limiter.begin(alice.clone(), network(1), true, NOW).unwrap();
        login_limiter.succeeded(&attempt, NOW);
        let mut guesses = 0;
        for n in 0..1_000 {
            let user = UserId::parse(format!("@u{n}:x")).unwrap();
            guesses += u64::from(login_limiter.begin(password(&user), network(1), true, NOW).is_ok());
        }
        assert_eq!(guesses, FAILURES_PER_NETWORK);
        assert!(login_limiter.begin(alice.clone(), network(1), true, NOW).is_ok());
        assert!(login_limiter.begin(alice, network(2), true, NOW).is_ok());
    }

    #[test]
    fn many_networks_share_a_limit_for_an_account_and_known_sources_pass() {
        let login_limiter = LoginLimiter::default();
        let alice = password(user_id!("@alice:x"));
        let attempt = login_limiter.begin(alice.clone(), network(1), true, NOW).unwrap();
        login_limiter.succeeded(&attempt, NOW);
        let guesses: u64 = (2..1_000)
            .map(|n| guess(&login_limiter, &alice, &network(n), true))
            .sum();
        assert_eq!(guesses, FAILURES_PER_USER);
        assert!(login_limiter.begin(alice.clone(), network(1), true, NOW).is_ok());
        assert!(
            login_limiter
                .begin(alice.clone(), Source::Device("PHONE".into()), true, NOW)
                .is_ok()
        );
        let bob = password(user_id!("@bob:x"));
        assert!(login_limiter.begin(bob, network(2), true, NOW).is_ok());
        // After a month without a login the network is no longer known, and the failures of the others have expired.
        assert!(login_limiter.begin(alice, network(1), true, NOW + KNOWN_MS).is_ok());
    }

    #[test]
    fn a_right_proof_clears_the_failures_of_its_source() {
        let login_limiter = LoginLimiter::default();
        let alice = password(user_id!("@alice:x"));
        for n in 0..2 * u32::try_from(FAILURES_PER_USER).unwrap() {
            let attempt = login_limiter.begin(alice.clone(), network(n), true, NOW).unwrap();
            login_limiter.succeeded(&attempt, NOW);
        }
        for _ in 0..FAILURES_PER_SOURCE - 1 {
            let _ = login_limiter.begin(alice.clone(), network(1), true, NOW).unwrap();
        }
        let right = login_limiter.begin(alice.clone(), network(1), true, NOW).unwrap();
        login_limiter.succeeded(&right, NOW);
        assert_eq!(guess(&login_limiter, &alice, &network(1), true), FAILURES_PER_SOURCE);
    }

    #[test]
    fn many_users_share_a_limit_for_the_password_of_a_link() {
        let login_limiter = LoginLimiter::default();
        let link = |id: &str| Subject::Link(id.to_owned());
        let user = |n: u32| Source::User(UserId::parse(format!("@user-{n}:x")).unwrap());
        let guesses = (0..100).map(|n| guess(&login_limiter, &link("one"), &user(n), true));
        assert_eq!(guesses.sum::<u64>(), FAILURES_PER_LINK);
        assert_eq!(guess(&login_limiter, &link("one"), &network(1), true), 0);
        assert_eq!(
            guess(&login_limiter, &link("another"), &user(0), true),
            FAILURES_PER_SOURCE
        );
    }

    #[test]
    fn guests_of_one_network_do_not_keep_those_of_another_away() {
        let login_limiter = LoginLimiter::default();
        let (one, other) = (Network::of([192, 0, 2, 1].into()), Network::of([192, 0, 2, 2].into()));
        for _ in 0..GUESTS_PER_NETWORK {
            login_limiter.count_guest(Some(one), NOW).unwrap();
        }
        assert_eq!(
            login_limiter.count_guest(Some(one), NOW),
            Err(Duration::from_millis(FAILURE_EXPIRY_MS))
        );
        login_limiter.count_guest(Some(one), NOW + FAILURE_EXPIRY_MS).unwrap();
        login_limiter.count_guest(Some(other), NOW).unwrap();
    }

    #[test]
    fn expired_rows_are_removed() {
        let login_limiter = LoginLimiter::default();
        for n in 0..10_000 {
            let now = NOW + u64::from(n) * FAILURE_EXPIRY_MS;
            let _ = login_limiter
                .begin(Subject::RegistrationToken, network(n), true, now)
                .unwrap();
        }
        assert!(login_limiter.lock().clear_at_ms.rows.len() <= SWEEP_ABOVE);
    }
}
