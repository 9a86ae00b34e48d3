//! Rate limiter of failed proofs: passwords, registration tokens, the shared secret. In memory; the time is an argument.
//!
//! Failures are counted for what is guessed together with the place from where, so that a guesser is slowed and others
//! who prove the same from elsewhere are not. Guessers with many places, or with many accounts to try, meet two wider
//! limits, which spare places that are known: a device that is signed in, and a network from which the user signed in
//! lately. Must not block an account as a whole, or anybody could lock its user out.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{OwnedDeviceId, OwnedUserId, UserId};

use crate::Network;

/// Failures with one subject from one place before attempts have to wait: a person who tries all passwords they ever had.
const FAILURES_PER_PLACE: u64 = 10;
/// Failures with one account from all networks that are not known for it: thirty guessers who are each at their limit.
/// Against more of them the account's weak password must not be found in a day, so new networks have to wait then.
const FAILURES_PER_USER: u64 = 300;
/// Failures of one network with passwords of accounts that exist: a company behind one address, on the day on which
/// everybody must sign in anew. Names that don't exist are not counted, since there is nothing to be found.
const FAILURES_PER_NETWORK: u64 = 100;
/// One failure is forgiven after each such time.
const FORGIVE_EVERY_MS: u64 = 30_000;
/// For how long a network is known after a sign-in from it.
const KNOWN_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Rows kept of each kind, some 100 bytes each; above it any row gives way. Passwords alone don't reach it: a row lives for
/// as long as its failures are not forgiven, and hashes bound the failures a second.
const MAX_ROWS: usize = 100_000;
/// Rows below which nothing is swept.
const SWEEP_ABOVE: usize = 1_024;

/// What a proof is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// A user's password.
    Password(OwnedUserId),
    /// A registration token.
    RegistrationToken,
    /// The operator's shared secret.
    SharedSecret,
}

/// Where an attempt comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// A request without a session; `None`: from this machine, by a way that has no address.
    Network(Option<Network>),
    /// A signed-in device of the user whose password is asked for.
    Device(OwnedDeviceId),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Pair(Subject, Place),
    User(OwnedUserId),
    Network(Network),
}

impl Key {
    fn limit(&self) -> u64 {
        match self {
            Self::Pair(..) => FAILURES_PER_PLACE,
            Self::User(_) => FAILURES_PER_USER,
            Self::Network(_) => FAILURES_PER_NETWORK,
        }
    }
}

/// An attempt that counts as a failure until it is reported as something else.
#[must_use = "a right proof must be reported"]
pub(crate) struct Attempt {
    /// The place is a known one for what is proved.
    pub(crate) known: bool,
    subject: Subject,
    place: Place,
    keys: Vec<Key>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct LoginLimiter {
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    /// For each key the time at which all its failures will be forgiven.
    clear_at_ms: Swept<Key>,
    /// Until when a network is known for a user.
    known_until_ms: Swept<(OwnedUserId, Network)>,
}

impl LoginLimiter {
    /// Counts an attempt, before its proof is looked at, so that guesses sent at once are all counted. `exists`: there is
    /// something to be found, namely the account.
    ///
    /// # Errors
    /// How long to wait where there were too many failures; the attempt is not counted then.
    pub(crate) fn begin(&self, subject: Subject, place: Place, exists: bool, now_ms: u64) -> Result<Attempt, Duration> {
        let mut rows = self.lock();
        let mut keys = vec![Key::Pair(subject.clone(), place.clone())];
        let known = match (&subject, &place) {
            (_, Place::Device(_)) => true,
            (Subject::Password(user), Place::Network(Some(network))) => {
                let until = rows.known_until_ms.get(&(user.clone(), *network));
                until.is_some_and(|until| until > now_ms)
            }
            _ => false,
        };
        if let (Subject::Password(user), Place::Network(network), true, false) = (&subject, &place, exists, known) {
            keys.push(Key::User(user.clone()));
            keys.extend(network.map(Key::Network));
        }
        let waits = keys
            .iter()
            .filter_map(|key| wait_ms(rows.clear_at_ms.get(key)?, key.limit(), now_ms));
        if let Some(wait) = waits.max() {
            return Err(Duration::from_millis(wait));
        }
        for key in &keys {
            let clear_at = rows.clear_at_ms.get(key).unwrap_or_default().max(now_ms);
            let clear_at = clear_at.saturating_add(FORGIVE_EVERY_MS);
            rows.clear_at_ms.insert(key.clone(), clear_at, now_ms);
        }
        Ok(Attempt {
            known,
            subject,
            place,
            keys,
        })
    }

    /// The proof was right: the place is known from now on and has no failures.
    pub(crate) fn succeeded(&self, attempt: &Attempt, now_ms: u64) {
        self.forgive(attempt);
        let mut rows = self.lock();
        rows.clear_at_ms
            .remove(&Key::Pair(attempt.subject.clone(), attempt.place.clone()));
        drop(rows);
        if let (Subject::Password(user), Place::Network(network)) = (&attempt.subject, &attempt.place) {
            self.note_known(user, *network, now_ms);
        }
    }

    /// The proof was not looked at.
    pub(crate) fn forgive(&self, attempt: &Attempt) {
        let mut rows = self.lock();
        for key in &attempt.keys {
            if let Some(clear_at) = rows.clear_at_ms.get(key) {
                rows.clear_at_ms.replace(key, clear_at.saturating_sub(FORGIVE_EVERY_MS));
            }
        }
    }

    /// A user proved from this network who they are.
    pub(crate) fn note_known(&self, user: &UserId, network: Option<Network>, now_ms: u64) {
        if let Some(network) = network {
            let until = now_ms.saturating_add(KNOWN_MS);
            let key = (user.to_owned(), network);
            self.lock().known_until_ms.insert(key, until, now_ms);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        // Every change of the maps is a single call.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long until one more failure is within the limit.
fn wait_ms(clear_at_ms: u64, limit: u64, now_ms: u64) -> Option<u64> {
    let held = clear_at_ms.saturating_sub(now_ms).saturating_add(FORGIVE_EVERY_MS);
    let full = limit.saturating_mul(FORGIVE_EVERY_MS);
    held.checked_sub(full).filter(|wait| *wait > 0)
}

/// Times by key. Rows whose time is over are dropped whenever the map has doubled, so that an insertion costs the same on
/// average however many there are.
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

    fn network(n: u32) -> Place {
        Place::Network(Some(Network::of(IpAddr::from(Ipv4Addr::from_bits(n)))))
    }

    fn password(user: &UserId) -> Subject {
        Subject::Password(user.to_owned())
    }

    /// Wrong guesses until the brake stops them; how many there were.
    fn guess(login_limiter: &LoginLimiter, subject: &Subject, place: &Place, exists: bool) -> u64 {
        let mut guesses = 0;
        while login_limiter.begin(subject.clone(), place.clone(), exists, NOW).is_ok() {
            guesses += 1;
        }
        guesses
    }

    #[test]
    fn one_place_is_slowed_and_time_forgives() {
        let login_limiter = LoginLimiter::default();
        for subject in [
            password(user_id!("@alice:x")),
            Subject::RegistrationToken,
            Subject::SharedSecret,
        ] {
            assert_eq!(guess(&login_limiter, &subject, &network(1), true), FAILURES_PER_PLACE);
            let wait = login_limiter
                .begin(subject.clone(), network(1), true, NOW)
                .err()
                .unwrap();
            assert!(wait <= Duration::from_millis(FORGIVE_EVERY_MS));
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
    fn guesses_of_others_stop_nobody_else() {
        let login_limiter = LoginLimiter::default();
        let alice = password(user_id!("@alice:x"));
        guess(&login_limiter, &alice, &network(1), true);
        assert!(login_limiter.begin(alice.clone(), network(2), true, NOW).is_ok());
        assert!(
            login_limiter
                .begin(alice, Place::Device("PHONE".into()), true, NOW)
                .is_ok()
        );
        assert!(
            login_limiter
                .begin(password(user_id!("@bob:x")), network(1), true, NOW)
                .is_ok()
        );
    }

    #[test]
    fn made_up_names_stop_no_right_password_from_the_same_network() {
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
    fn one_network_may_not_try_every_account_and_known_users_pass() {
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
    fn many_networks_are_slowed_together_and_known_places_pass() {
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
                .begin(alice.clone(), Place::Device("PHONE".into()), true, NOW)
                .is_ok()
        );
        let bob = password(user_id!("@bob:x"));
        assert!(login_limiter.begin(bob, network(2), true, NOW).is_ok());
        // After a month without a sign-in the network is one of many, whose failures are forgiven by then.
        assert!(login_limiter.begin(alice, network(1), true, NOW + KNOWN_MS).is_ok());
    }

    #[test]
    fn a_right_proof_clears_its_place_and_gives_back_what_it_counted() {
        let login_limiter = LoginLimiter::default();
        let alice = password(user_id!("@alice:x"));
        for n in 0..2 * u32::try_from(FAILURES_PER_USER).unwrap() {
            let attempt = login_limiter.begin(alice.clone(), network(n), true, NOW).unwrap();
            login_limiter.succeeded(&attempt, NOW);
        }
        for _ in 0..FAILURES_PER_PLACE - 1 {
            let _ = login_limiter.begin(alice.clone(), network(1), true, NOW).unwrap();
        }
        let right = login_limiter.begin(alice.clone(), network(1), true, NOW).unwrap();
        login_limiter.succeeded(&right, NOW);
        assert_eq!(guess(&login_limiter, &alice, &network(1), true), FAILURES_PER_PLACE);
    }

    #[test]
    fn rows_are_dropped_when_they_mean_nothing_more() {
        let login_limiter = LoginLimiter::default();
        for n in 0..10_000 {
            let now = NOW + u64::from(n) * FORGIVE_EVERY_MS;
            let _ = login_limiter
                .begin(Subject::RegistrationToken, network(n), true, now)
                .unwrap();
        }
        assert!(login_limiter.lock().clear_at_ms.rows.len() <= SWEEP_ABOVE);
    }
}
