//! Other servers' signing keys: from memory, the store, the server itself, or a notary, in this order.
//!
//! A server that doesn't answer is left alone for a while, and one request for its keys runs at a time; meanwhile
//! whoever needs only keys that are known already doesn't wait. Must not believe anything unsigned.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use ruma::{CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use weft_dag::VerifyKeys;
use weft_wire::limits;

use crate::{
    Asker, CallError, Client, Clock, KeyRing, Outgoing, StoredKeys,
    clock::{from_millis, millis},
    tally::Tally,
};

mod source;
#[cfg(test)]
#[allow(clippy::too_many_lines, reason = "a table of cases is read as one")]
mod tests;

/// Between two requests for the keys of a server that answers: somebody may be making up key ids in its name.
const PAUSE_MS: u64 = 5_000;
/// After a first failure; doubled with each further one.
const FIRST_PAUSE_MS: u64 = 1_000;
/// At most.
const LONGEST_PAUSE_MS: u64 = 10 * 60 * 1_000;
/// How far the clocks of two servers may be apart: a key is renewed for an event that is that much ahead of us.
const CLOCK_SKEW_MS: u64 = 60 * 60 * 1_000;
/// Servers asked at once for one batch of events.
const PARALLEL: usize = 16;

/// The cache of keys is broken.
#[derive(Debug, Clone, thiserror::Error)]
#[error("keys can't be stored or loaded: {0}")]
pub struct KeyCacheError(pub String);

/// Where keys are kept over a restart.
#[async_trait]
pub trait KeyCache: Send + Sync + 'static {
    /// What was saved last.
    async fn load(&self, server: &ServerName) -> Result<Option<StoredKeys>, KeyCacheError>;
    /// Keeps the keys of one server in place of what was there.
    async fn save(&self, keys: &StoredKeys) -> Result<(), KeyCacheError>;
}

/// Keeps nothing.
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

/// Answers of key servers and notaries, unchecked.
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

/// Keys of other servers. Cheap to clone.
#[derive(Clone)]
pub struct RemoteKeys {
    inner: Arc<Inner>,
    /// Who causes what is fetched; None: this server itself, or a server whose signature was checked.
    asker: Option<Asker>,
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

/// What was found for a need.
struct Found {
    known: Option<Arc<Known>>,
    /// What is missing was not fetched: the asker has too many requests to other servers under way.
    busy: bool,
}

/// The keys that a request needs were not fetched, because whoever sent it has too many requests to other servers under
/// way. Later they may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests for keys are under way")]
pub struct KeysBusy;

/// What keys are needed for.
struct Need<'a> {
    server: &'a ServerName,
    ids: &'a BTreeSet<String>,
    at: MilliSecondsSinceUnixEpoch,
}

impl RemoteKeys {
    /// Keys fetched by `client`, kept in `cache`. The notaries are asked where a server itself doesn't answer.
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

    /// The same keys on behalf of somebody who is not known yet: what is not here is fetched only as far as that asker
    /// may cause requests to other servers.
    #[must_use]
    pub fn on_behalf_of(&self, asker: Asker) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            asker: Some(asker),
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
            asker: None,
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

    /// The time by which these keys are judged.
    #[must_use]
    pub fn now(&self) -> MilliSecondsSinceUnixEpoch {
        self.inner.clock.now()
    }

    /// The keys that are needed, as far as they can be had; what is missing is missing, and whoever verifies with them
    /// will say so. `at` is the time of the newest event that is to be checked; now, for a request.
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

    /// The keys of one server that the signature of a request needs.
    ///
    /// # Errors
    /// When they are not known, and were not fetched because of the limits of the asker. A key that is not to be had
    /// otherwise is missing in what is returned.
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

    /// The newest answer of a server as it signed it, and earlier ones with keys that it dropped, with our signature added:
    /// what a notary gives. None where there is none to be had.
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
        // Whoever held the lock before us may have fetched what we need.
        if let Some(known) = server.covering(need) {
            return Found::here(Some(known));
        }
        let now = millis(self.now());
        if now >= fetching.not_before {
            // Whoever has too many requests under way gets what is known, and the server is no less reachable for it.
            let share = self.asker.as_ref().map(|asker| self.inner.outgoing.take(asker));
            if matches!(share, Some(Err(_))) {
                return Found {
                    known: server.known(),
                    busy: true,
                };
            }
            let answered = self.fetch(&server, need).await;
            fetching.asked(now, answered);
        }
        Found::here(server.known())
    }

    fn server(&self, name: &ServerName) -> Arc<Server> {
        let mut servers = self.inner.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.len() >= limits::MAX_REMEMBERED_SERVERS && !servers.contains_key(name) {
            // Those in use stay: their pauses protect others.
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
            Err(error) => tracing::warn!(server = %name, %error, "stored keys are unreadable: fetching them again"),
        }
    }

    /// Asks the server, then the notaries, until the need is covered. Whether anybody answered.
    async fn fetch(&self, server: &Server, need: &Need<'_>) -> bool {
        let now = self.now();
        let mut answered = false;
        match self.inner.source.own(need.server).await {
            Ok(object) => match StoredKeys::check(need.server, object, now) {
                Ok(keys) => {
                    answered = true;
                    self.keep(server, keys).await;
                }
                Err(error) => tracing::warn!(server = %need.server, %error, "key answer refused"),
            },
            Err(error) => tracing::info!(server = %need.server, %error, "no key answer"),
        }
        for notary in &self.inner.notaries {
            if server.covering(need).is_some() {
                break;
            }
            answered |= self.ask_notary(server, notary, need, now).await;
        }
        answered
    }

    async fn ask_notary(
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
                tracing::info!(%notary, %error, "no answer of a notary");
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

    /// A notary's own keys come from itself and from nobody else.
    async fn notary_keys(&self, notary: &ServerName, now: MilliSecondsSinceUnixEpoch) -> Option<VerifyKeys> {
        let server = self.server(notary);
        if let Some(known) = server.known().filter(|known| known.stored.valid_at(now)) {
            return Some(known.verify.clone());
        }
        // Never waiting: two notaries may be asking for one another's keys.
        let mut fetching = server.fetching.try_lock().ok()?;
        if millis(now) < fetching.not_before {
            return None;
        }
        let object = self.inner.source.own(notary).await.ok();
        let keys = object.and_then(|object| StoredKeys::check(notary, object, now).ok());
        fetching.asked(millis(now), keys.is_some());
        self.keep(&server, keys?).await;
        server.known().map(|known| known.verify.clone())
    }

    async fn keep(&self, server: &Server, keys: StoredKeys) {
        let keys = keys.with_earlier(server.known().map(|known| known.stored.clone()));
        if let Err(error) = self.inner.cache.save(&keys).await {
            tracing::warn!(server = %keys.server, %error, "keys were not stored");
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
    /// Notes down how asking went, and until when nobody is asked again.
    fn asked(&mut self, now: u64, answered: bool) {
        self.failures = if answered { 0 } else { self.failures.saturating_add(1) };
        let longer = FIRST_PAUSE_MS
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST_PAUSE_MS);
        self.not_before = now.saturating_add(if answered { PAUSE_MS } else { longer });
    }
}

impl Server {
    fn known(&self) -> Option<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
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
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(Known { stored, verify }));
    }
}
