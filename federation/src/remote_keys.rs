//! Other servers' signing keys: from memory, the store, the server itself or a notary, in this order.
//!
//! Requests to a server that doesn't answer are paused. One request for the keys of a server runs at a time; callers
//! that need only keys that are already known don't wait for it. Must not use unsigned keys.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use parking_lot::{Mutex, RwLock};
use ruma::{CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use weft_dag::VerifyKeys;
use weft_wire::limits;

use crate::{CallError, Client, Clock, Initiator, KeyRing, Outgoing, StoredKeys, tally::Tally};
use weft_clock::{from_millis, millis};

mod source;
#[cfg(test)]
#[allow(clippy::too_many_lines, reason = "a table of cases is read as one")]
mod tests;

/// The pause between two requests for the keys of a server that answers: otherwise forged key ids would cause a
/// request each.
const PAUSE_MS: u64 = 5_000;
/// The pause after the first failure; doubled with each further one.
const FIRST_PAUSE_MS: u64 = 1_000;
/// The longest pause.
const LONGEST_PAUSE_MS: u64 = 10 * 60 * 1_000;
/// How far the clocks of two servers may differ: keys are fetched again for an event that is at most this far in the
/// future.
const CLOCK_SKEW_MS: u64 = 60 * 60 * 1_000;
/// Servers whose keys are fetched in parallel for one batch of events.
const PARALLEL: usize = 16;

/// The key cache failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("keys can't be stored or loaded: {0}")]
pub struct KeyCacheError(pub String);

/// Stores keys across restarts.
#[async_trait]
pub trait KeyCache: Send + Sync + 'static {
    /// The keys that were saved last.
    async fn load(&self, server: &ServerName) -> Result<Option<StoredKeys>, KeyCacheError>;
    /// Replaces the stored keys of one server.
    async fn save(&self, keys: &StoredKeys) -> Result<(), KeyCacheError>;
}

/// A cache that stores nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKeyCache;

#[async_trait]
impl KeyCache for NoKeyCache {
    async fn load(&self, _server: &ServerName) -> Result<Option<StoredKeys>, KeyCacheError> {
        Ok(None)
    }

    async fn save(&self, _keys: &StoredKeys) -> Result<(), KeyCacheError> {
        Ok(())
    }
}

/// Responses of key servers and notaries, unchecked.
#[async_trait]
pub(crate) trait KeySource: Send + Sync + 'static {
    async fn own(&self, server: &ServerName) -> Result<CanonicalJsonObject, CallError>;
    async fn notarised(
        &self,
        notary: &ServerName,
        server: &ServerName,
        valid_until: MilliSecondsSinceUnixEpoch,
    ) -> Result<Vec<CanonicalJsonObject>, CallError>;
}

/// Signing keys of other servers. Cheap to clone.
#[derive(Clone)]
pub struct RemoteKeys {
    inner: Arc<Inner>,
    /// Who causes the requests. `None`: this server itself, or a server whose signature was checked.
    initiator: Option<Initiator>,
}

struct Inner {
    own: Arc<KeyRing>,
    source: Arc<dyn KeySource>,
    cache: Arc<dyn KeyCache>,
    notaries: Vec<OwnedServerName>,
    clock: Arc<dyn Clock>,
    outgoing: Arc<Outgoing>,
    servers: Mutex<HashMap<OwnedServerName, Arc<Server>>>,
}

#[derive(Default)]
struct Server {
    known: RwLock<Option<Arc<Known>>>,
    fetching: tokio::sync::Mutex<Fetching>,
}

struct Known {
    stored: StoredKeys,
    verify: VerifyKeys,
}

#[derive(Default)]
struct Fetching {
    loaded: bool,
    failures: u32,
    not_before: u64,
}

/// The result of a lookup.
struct Found {
    known: Option<Arc<Known>>,
    /// Missing keys were not fetched: the requester has too many requests to other servers in flight.
    busy: bool,
}

/// The keys that a request needs were not fetched, because its sender has too many requests to other servers in
/// flight. A later attempt may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests for keys are in flight")]
pub struct KeysBusy;

/// The keys that are needed, and for what time.
struct Need<'a> {
    server: &'a ServerName,
    ids: &'a BTreeSet<String>,
    at: MilliSecondsSinceUnixEpoch,
}

impl RemoteKeys {
    /// Keys are fetched with `client` and stored in `cache`. Notaries are used if a server itself doesn't answer.
    #[must_use]
    pub fn new(
        client: Client,
        cache: Arc<dyn KeyCache>,
        notaries: Vec<OwnedServerName>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let own = Arc::clone(client.key_ring());
        let outgoing = Arc::clone(client.outgoing());
        Self::with_source(own, Arc::new(client), cache, notaries, clock, outgoing)
    }

    /// The same keys on behalf of an unauthenticated requester: missing keys are fetched only within the limits of
    /// that requester on requests to other servers.
    #[must_use]
    pub fn on_behalf_of(&self, initiator: Initiator) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            initiator: Some(initiator),
        }
    }

    pub(crate) fn with_source(
        own: Arc<KeyRing>,
        source: Arc<dyn KeySource>,
        cache: Arc<dyn KeyCache>,
        notaries: Vec<OwnedServerName>,
        clock: Arc<dyn Clock>,
        outgoing: Arc<Outgoing>,
    ) -> Self {
        Self {
            initiator: None,
            inner: Arc::new(Inner {
                own,
                source,
                cache,
                notaries,
                clock,
                outgoing,
                servers: Mutex::default(),
            }),
        }
    }

    /// The current time for the validity of these keys.
    #[must_use]
    pub fn now(&self) -> MilliSecondsSinceUnixEpoch {
        self.inner.clock.now()
    }

    /// Returns the needed keys that are known or can be fetched. Missing keys are left out, and verification then
    /// fails. `at` is the time of the newest event to be checked; for a request, the current time.
    pub async fn get(
        &self,
        needed: &BTreeMap<OwnedServerName, BTreeSet<String>>,
        at: MilliSecondsSinceUnixEpoch,
    ) -> VerifyKeys {
        let ahead = from_millis(millis(self.now()).saturating_add(CLOCK_SKEW_MS));
        let at = at.min(ahead);
        // Owned, because a closure over borrowed pairs makes futures that can't be proven `Send`.
        let needed: Vec<_> = needed
            .iter()
            .map(|(server, ids)| (server.clone(), ids.clone()))
            .collect();
        let found = stream::iter(needed)
            .map(|(server, ids)| async move {
                self.of(&Need {
                    server: &server,
                    ids: &ids,
                    at,
                })
                .await
            })
            .buffer_unordered(PARALLEL);
        found
            .fold(VerifyKeys::new(), |mut all, keys| async move {
                all.extend(keys);
                all
            })
            .await
    }

    /// Returns the keys of one server that the signature of a request needs.
    ///
    /// # Errors
    /// When they are not known and were not fetched because of the requester's limits. A key that is unavailable for
    /// another reason is missing in the result.
    pub async fn of_request(&self, server: &ServerName, key: &str) -> Result<VerifyKeys, KeysBusy> {
        if server == self.inner.own.server_name() {
            return Ok(self.inner.own.verify_keys());
        }
        let (ids, at) = (BTreeSet::from([key.to_owned()]), self.now());
        let need = Need { server, ids: &ids, at };
        let found = self.known(&need).await;
        if found.busy {
            return Err(KeysBusy);
        }
        Ok(found.known.map(|known| known.verify.clone()).unwrap_or_default())
    }

    /// The newest key response of a server as that server signed it, and earlier ones with keys that it no longer
    /// lists, each with our signature added: the response of a notary. Empty if no keys are available.
    pub async fn notarise(
        &self,
        server: &ServerName,
        valid_until: MilliSecondsSinceUnixEpoch,
    ) -> Vec<CanonicalJsonObject> {
        let mut answers = if server == self.inner.own.server_name() {
            self.inner.own.published(self.now()).into_iter().collect()
        } else {
            let none = BTreeSet::new();
            let need = Need {
                server,
                ids: &none,
                at: valid_until.min(self.now()),
            };
            let known = self.known(&need).await.known;
            let stored = known.iter().map(|known| &known.stored);
            stored
                .flat_map(|stored| std::iter::once(&stored.signed).chain(&stored.earlier))
                .cloned()
                .collect::<Vec<_>>()
        };
        let signer = self.inner.own.signer();
        answers.retain_mut(|answer| signer.sign_json(answer).is_ok());
        answers
    }

    /// The keys of a server that are in memory or stored, without a request to any server. Empty if it is unknown.
    pub async fn stored(&self, name: &ServerName) -> VerifyKeys {
        if name == self.inner.own.server_name() {
            return self.inner.own.verify_keys();
        }
        let server = self.server(name);
        // The task that holds the lock has loaded them already, and waits for an answer.
        if let Ok(mut fetching) = server.fetching.try_lock()
            && !std::mem::replace(&mut fetching.loaded, true)
        {
            self.load(&server, name).await;
        }
        server.known().map(|known| known.verify.clone()).unwrap_or_default()
    }

    async fn of(&self, need: &Need<'_>) -> VerifyKeys {
        if need.server == self.inner.own.server_name() {
            return self.inner.own.verify_keys();
        }
        let found = self.known(need).await;
        found.known.map(|known| known.verify.clone()).unwrap_or_default()
    }

    async fn known(&self, need: &Need<'_>) -> Found {
        let server = self.server(need.server);
        if let Some(known) = server.covering(need) {
            return Found::here(Some(known));
        }
        let mut fetching = server.fetching.lock().await;
        if !std::mem::replace(&mut fetching.loaded, true) {
            self.load(&server, need.server).await;
        }
        // The previous holder of the lock may have fetched the needed keys.
        if let Some(known) = server.covering(need) {
            return Found::here(Some(known));
        }
        let now = millis(self.now());
        if now >= fetching.not_before {
            // A requester over its limit gets the known keys; the server is not marked as unreachable.
            let share = self
                .initiator
                .as_ref()
                .map(|initiator| self.inner.outgoing.take(initiator));
            if matches!(share, Some(Err(_))) {
                return Found {
                    known: server.known(),
                    busy: true,
                };
            }
            let answered = self.fetch(&server, need).await;
            fetching.record_attempt(now, answered);
        }
        Found::here(server.known())
    }

    fn server(&self, name: &ServerName) -> Arc<Server> {
        let mut servers = self.inner.servers.lock();
        if servers.len() >= limits::MAX_REMEMBERED_SERVERS && !servers.contains_key(name) {
            // Entries in use stay: their pauses protect other servers.
            servers.retain(|_, server| Arc::strong_count(server) > 1 || server.known().is_some());
            if servers.len() >= limits::MAX_REMEMBERED_SERVERS {
                servers.clear();
            }
        }
        Arc::clone(servers.entry(name.to_owned()).or_default())
    }

    async fn load(&self, server: &Server, name: &ServerName) {
        match self.inner.cache.load(name).await {
            Ok(Some(stored)) => server.set(stored),
            Ok(None) => {}
            Err(error) => tracing::warn!(
                event = "keys.read_failed", server = %name, %error,
                "stored keys can't be read; fetching them again"
            ),
        }
    }

    /// Requests keys from the server and then from the notaries, until the needed keys are known. Returns whether any
    /// of them answered.
    async fn fetch(&self, server: &Server, need: &Need<'_>) -> bool {
        let now = self.now();
        let mut answered = false;
        match self.inner.source.own(need.server).await {
            Ok(object) => match StoredKeys::check(need.server, object, now) {
                Ok(keys) => {
                    answered = true;
                    self.keep(server, keys).await;
                }
                Err(error) => tracing::warn!(
                    event = "keys.response_rejected", server = %need.server, %error,
                    "key response rejected"
                ),
            },
            Err(error) => tracing::info!(server = %need.server, %error, "no key response"),
        }
        for notary in &self.inner.notaries {
            if server.covering(need).is_some() {
                break;
            }
            answered |= self.fetch_from_notary(server, notary, need, now).await;
        }
        answered
    }

    async fn fetch_from_notary(
        &self,
        server: &Server,
        notary: &ServerName,
        need: &Need<'_>,
        now: MilliSecondsSinceUnixEpoch,
    ) -> bool {
        if notary == need.server || notary == self.inner.own.server_name() {
            return false;
        }
        let Some(notary_keys) = self.notary_keys(notary, now).await else {
            return false;
        };
        let answers = match self.inner.source.notarised(notary, need.server, need.at).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::info!(%notary, %error, "no response from a notary");
                return false;
            }
        };
        let map = notary_keys.for_requests(now);
        let mut useful = false;
        let mut refused = Tally::default();
        for object in answers.into_iter().take(limits::MAX_KEYS_PER_SERVER) {
            match StoredKeys::check_notarised(need.server, object, now, notary, &map) {
                Ok(keys) => {
                    useful = true;
                    self.keep(server, keys).await;
                }
                Err(error) => refused.note(&error),
            }
        }
        refused.warn(format_args!("{notary}: keys of {} are not acceptable", need.server));
        useful
    }

    /// The keys of a notary are fetched only from the notary itself.
    async fn notary_keys(&self, notary: &ServerName, now: MilliSecondsSinceUnixEpoch) -> Option<VerifyKeys> {
        let server = self.server(notary);
        if let Some(known) = server.known().filter(|known| known.stored.valid_at(now)) {
            return Some(known.verify.clone());
        }
        // Never wait here: two notaries may need each other's keys.
        let mut fetching = server.fetching.try_lock().ok()?;
        if millis(now) < fetching.not_before {
            return None;
        }
        let object = self.inner.source.own(notary).await.ok();
        let keys = object.and_then(|object| StoredKeys::check(notary, object, now).ok());
        fetching.record_attempt(millis(now), keys.is_some());
        self.keep(&server, keys?).await;
        server.known().map(|known| known.verify.clone())
    }

    async fn keep(&self, server: &Server, keys: StoredKeys) {
        let keys = keys.with_earlier(server.known().map(|known| known.stored.clone()));
        if let Err(error) = self.inner.cache.save(&keys).await {
            tracing::warn!(event = "keys.not_stored", server = %keys.server, %error, "keys could not be stored");
        }
        server.set(keys);
    }
}

impl Found {
    fn here(known: Option<Arc<Known>>) -> Self {
        Self { known, busy: false }
    }
}

impl Fetching {
    /// Records the result of a request and the time before which no further request is sent.
    fn record_attempt(&mut self, now: u64, answered: bool) {
        self.failures = if answered { 0 } else { self.failures.saturating_add(1) };
        let longer = FIRST_PAUSE_MS
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST_PAUSE_MS);
        self.not_before = now.saturating_add(if answered { PAUSE_MS } else { longer });
    }
}

impl Server {
    fn known(&self) -> Option<Arc<Known>> {
        self.known.read().clone()
    }

    fn covering(&self, need: &Need<'_>) -> Option<Arc<Known>> {
        self.known().filter(|known| {
            if need.ids.is_empty() {
                known.stored.valid_at(need.at)
            } else {
                known.stored.cover(need.ids, need.at)
            }
        })
    }

    fn set(&self, stored: StoredKeys) {
        let verify = stored.verify_keys();
        *self.known.write() = Some(Arc::new(Known { stored, verify }));
    }
}
