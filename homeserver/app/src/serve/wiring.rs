//! Constructs every part of the server with its dependencies, in the order of the arrows in ARCHITECTURE.md.
//! Must not decide anything; translations between two parts are in `adapters`.

#[cfg(test)]
mod round_trips;
#[cfg(test)]
mod traces;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use ruma::OwnedServerName;
use tokio::task::{JoinHandle, JoinSet};
use weft_accounts::{AccountLimits, Accounts};
use weft_budget::{Budgets, DailyBudget};
use weft_fanout::{Awareness, Ephemeral, Fanout, Presence, Unread};
use weft_federation::handshake::Handshake;
use weft_federation::inbound::Transactions;
use weft_federation::outbox::{Sender, SenderConfig};
use weft_federation::{Client, ClientConfig, KeyRing, RemoteEvents, RemoteKeys};
use weft_gateway::client::operator::operator_router;
use weft_gateway::client::{ClientPorts, ClientSettings, Registration};
use weft_gateway::documents::{AccessLog, AuditPorts, ContentReads, DocumentPorts, Guests, NoAccessLog, Writers};
use weft_gateway::health::Readiness;
use weft_gateway::live::{ConnectionIds, EventStreams, LivePorts};
use weft_gateway::membership_lock::MembershipLocks;
use weft_gateway::ratelimit::UserLimiter;
use weft_gateway::server::ServerPorts;
use weft_gateway::text_reads::TextReads;
use weft_gateway::traffic::Traffic;
use weft_gateway::{client, docs, documents, live, openapi, server, web};
use weft_jobs::{JobWaker, Scheduler, SchedulerConfig};
use weft_media::{Blobs, FolderBlobs, Media, MediaPorts, S3Blobs};
use weft_render::{Pandoc, Pool, PoolConfig};
use weft_room::{RoomConfig, Rooms};
use weft_room_api::{ChangeBus as _, Incarnation, Interest, LocalBus};
use weft_room_read::Reader;
use weft_search::{Indexer, SearchIndex, Searches};
use weft_store::Store;
use weft_telemetry::{MeteredTransport, Metrics, PeerCalls, TracedRouter, current_context};
use weft_webhooks::{ReceiverConfig, Receivers, WebhookPorts, Webhooks};

use super::{ServeError, housekeeping, storage};
use crate::access_log::{self, FileAccessLog};
use crate::adapters::{
    CachedKeys, EndGuests, FederationEdus, FederationMedia, FederationPeers, KeyRingIdentity, RemoteRooms,
    RoomInboundHandler, RoomInvitations, RoomMembershipView, StoredKeyCache, StoredOutbox, WorkerThumbnails,
    follow_guest_access, wake_sender,
};
use crate::config::{self, Area, Config, RegistrationMode};
use crate::search_command;

/// Time for sending the last signed events to other servers; the rest is sent after the next start.
const LAST_DELIVERY: Duration = Duration::from_secs(3);

/// Time for the delivery of the last committed changes inside the process. They are in memory, and no follower waits for
/// a client or another server.
const LAST_CHANGES: Duration = Duration::from_secs(3);

/// The routers of the addresses, and the parts that must be stopped.
pub(super) struct Parts {
    areas: BTreeMap<Area, Router>,
    operator: Router,
    fanout: Fanout,
    housekeeping: [JoinHandle<()>; 2],
    indexer: JoinHandle<()>,
    webhooks: Webhooks,
    deliveries: JoinHandle<()>,
    rooms: Rooms,
    bus: LocalBus,
    followers: JoinSet<()>,
    sender: Sender,
    store: Store,
    budgets: Arc<Budgets>,
    renderer: Pool,
    media_jobs: Scheduler,
    guest_jobs: Scheduler,
    readiness: Readiness,
}

/// The services that several APIs share.
#[derive(Clone, Copy)]
struct Shared<'a> {
    rooms: &'a Rooms,
    accounts: &'a Accounts,
    limiter: &'a UserLimiter,
    media: &'a Media,
    search: &'a Searches,
}

/// The services for other servers.
struct FederationServices {
    key_ring: Arc<KeyRing>,
    keys: RemoteKeys,
    events: RemoteEvents,
    handshake: Arc<Handshake>,
    sender: Sender,
    outbox: Arc<StoredOutbox>,
    event_bytes: Arc<DailyBudget<OwnedServerName>>,
}

/// The services for local clients.
struct LocalServices {
    fanout: Fanout,
    membership_view: Arc<RoomMembershipView>,
    awareness: Awareness,
    ephemeral: Ephemeral,
    presence: Presence,
    unread: Unread,
    membership: MembershipLocks,
}

/// What the documents' APIs have besides the services that all use.
struct DocumentServices {
    content_reads: ContentReads,
    event_streams: EventStreams,
    audit: AuditPorts,
    access: Arc<dyn AccessLog>,
    search: Searches,
    guests: Guests,
    webhooks: Webhooks,
}

impl Parts {
    /// Starts everything except the listeners. When this returns, every request can be served.
    pub(super) async fn start(config: &Config, traffic: &Traffic, metrics: &Metrics) -> Result<Self, ServeError> {
        let store = storage::open(config, metrics).await?;
        match Self::over(config, &store, traffic, metrics).await {
            Ok(parts) => Ok(parts),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    async fn over(config: &Config, store: &Store, traffic: &Traffic, metrics: &Metrics) -> Result<Self, ServeError> {
        let not_recovered = |error: weft_room_api::Unavailable| ServeError::Recovery {
            reason: error.to_string(),
        };
        weft_room::build_indexes(store, &config.server_name)
            .await
            .map_err(not_recovered)?;
        let budgets = Arc::new(Budgets::default());
        traffic.register(&budgets);
        let federation_services = federation_services(config, store, metrics)?;
        let local = local(config, store, &federation_services);
        register_federation(&budgets, &federation_services);
        budgets.add(local.membership.budget());
        let bus = LocalBus::new();
        let mut followers = followers(&bus, &federation_services, &local);
        let rooms = rooms(config, store, &federation_services, bus.clone(), metrics);
        budgets.add(rooms.event_bytes());
        budgets.add(rooms.staged_bytes());
        local.membership_view.connect(rooms.clone());
        rooms.recover().await.map_err(not_recovered)?;
        let housekeeping =
            housekeeping::start(local.awareness.clone(), local.ephemeral.clone(), local.presence.clone());
        let accounts = accounts(config, store);
        for hashes in accounts.password_hashes() {
            budgets.add(hashes);
        }
        let limiter = limiter(config);
        let renderer = renderer();
        let (media, media_jobs) = media(config, store, &federation_services, &budgets).await?;
        let (guests, guest_jobs) = guests(config, store, (&rooms, &accounts, &local.fanout));
        followers.spawn(follow_guest_access(bus.subscribe(Interest::All), guests.clone()));
        let (webhooks, deliveries) = webhooks(config, store, &rooms, &accounts)?;
        let mut services = document_services(config, &federation_services, &budgets, (guests, &webhooks))?;
        let (search, indexer) = search_index(config, &rooms, &renderer);
        services.search = search.clone();
        let shared = Shared {
            rooms: &rooms,
            accounts: &accounts,
            limiter: &limiter,
            media: &media,
            search: &search,
        };
        let client = client_ports(config, store, &federation_services, &local, &shared);
        let event_streams = services.event_streams.clone();
        let documents = document_ports(&federation_services, &local, &shared, &renderer, services);
        let bin = housekeeping::empty_bin(documents.clone(), config.documents.bin_days);
        let operator = operator_router(client.clone()).merge(documents::operator::operator_router(documents.clone()));
        let areas = areas(config, &federation_services, &local, client, documents, event_streams);
        let FederationServices { sender, .. } = federation_services;
        Ok(Self {
            areas,
            operator,
            fanout: local.fanout,
            housekeeping: [housekeeping, bin],
            indexer,
            webhooks,
            deliveries,
            rooms,
            bus,
            followers,
            sender,
            store: store.clone(),
            budgets,
            renderer,
            media_jobs,
            guest_jobs,
            readiness: Readiness::new(store.clone()),
        })
    }

    /// The budgets of the process.
    pub(super) fn budgets(&self) -> Arc<Budgets> {
        Arc::clone(&self.budgets)
    }

    /// The rooms, whose durable jobs are reported.
    pub(super) fn rooms(&self) -> Rooms {
        self.rooms.clone()
    }

    /// The render workers.
    pub(super) fn renderer(&self) -> Pool {
        self.renderer.clone()
    }

    /// The readiness that `/ready` reports.
    pub(super) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The router of an area.
    pub(super) fn area(&self, area: Area) -> Router {
        self.areas.get(&area).cloned().unwrap_or_default()
    }

    /// The operator's router, for the Unix socket.
    pub(super) fn operator(&self) -> Router {
        self.operator.clone()
    }

    /// Closes all live sockets with the code for a restart.
    pub(super) fn close_live_sockets(&self) {
        self.fanout.stop();
    }

    /// Signs pending edits, waits up to [`LAST_DELIVERY`] for their delivery to other servers, closes the store.
    pub(super) async fn stop(mut self) {
        self.guest_jobs.stop(LAST_CHANGES).await;
        self.deliveries.abort();
        self.webhooks.stop();
        self.rooms.stop().await;
        self.media_jobs.stop(LAST_CHANGES).await;
        // The sender must be woken for the last events before it stops.
        self.bus.close();
        let delivered = async { while self.followers.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_CHANGES, delivered).await.is_err() {
            tracing::warn!(
                event = "fanout.not_drained",
                "the last changes were not delivered in time"
            );
        }
        self.sender.stop(LAST_DELIVERY).await;
        self.housekeeping.iter().for_each(JoinHandle::abort);
        self.indexer.abort();
        self.store.close().await;
    }
}

fn federation_services(config: &Config, store: &Store, metrics: &Metrics) -> Result<FederationServices, ServeError> {
    let keys_file = storage::keys_path(&config.data_dir);
    let key_ring =
        KeyRing::load_or_generate(config.server_name.clone(), &keys_file).map_err(|error| ServeError::Keys {
            path: keys_file,
            reason: error.to_string(),
        })?;
    let key_ring = Arc::new(key_ring);
    let client_config = ClientConfig {
        extra_ca_certificates: extra_ca_certificates(config)?,
        allow_addresses: config.federation.allow_addresses.clone(),
        outgoing: config.limits.outgoing,
        trace: current_context,
        ..ClientConfig::default()
    };
    let client = Client::new(Arc::clone(&key_ring), client_config).map_err(|error| ServeError::Federation {
        reason: error.to_string(),
    })?;
    let clock = Arc::new(weft_federation::SystemClock);
    let cache = Arc::new(StoredKeyCache(store.clone()));
    let keys = RemoteKeys::new(client.clone(), cache, config.federation.notaries.clone(), clock.clone());
    let events = RemoteEvents::new(client.clone(), keys.clone());
    let handshake = Arc::new(Handshake::new(events.clone()));
    let outbox = Arc::new(StoredOutbox {
        store: store.clone(),
        reader: Reader::new(store.clone()),
    });
    let sender = Sender::start(
        SenderConfig::default(),
        Arc::new(MeteredTransport::new(client, metrics)),
        outbox.clone(),
        clock,
    );
    Ok(FederationServices {
        key_ring,
        keys,
        events,
        handshake,
        sender,
        outbox,
        event_bytes: DailyBudget::new(
            "event_bytes_per_server_and_day",
            config.limits.event_bytes_per_server_and_day,
        ),
    })
}

fn extra_ca_certificates(config: &Config) -> Result<Vec<Vec<u8>>, ServeError> {
    config
        .federation
        .extra_ca_certificates
        .iter()
        .map(|path| read(path))
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>, ServeError> {
    std::fs::read(path).map_err(|error| ServeError::Federation {
        reason: format!("{}: {error}", path.display()),
    })
}

fn local(config: &Config, store: &Store, federation_services: &FederationServices) -> LocalServices {
    let fanout = Fanout::new();
    let membership_view = Arc::new(RoomMembershipView::new(
        Reader::new(store.clone()),
        config.server_name.clone(),
    ));
    let edus = Arc::new(FederationEdus(federation_services.sender.clone()));
    let clock = Arc::new(weft_room_api::SystemClock);
    let awareness = Awareness::new(fanout.clone(), membership_view.clone(), edus.clone(), clock.clone());
    let ephemeral = Ephemeral::new(
        store.clone(),
        fanout.clone(),
        membership_view.clone(),
        edus.clone(),
        clock.clone(),
    );
    let presence = Presence::new(config.server_name.clone(), membership_view.clone(), edus, clock);
    LocalServices {
        fanout,
        membership_view,
        awareness,
        ephemeral,
        presence,
        unread: Unread::default(),
        membership: MembershipLocks::default(),
    }
}

/// The tasks that follow the committed changes of the rooms.
fn followers(bus: &LocalBus, federation_services: &FederationServices, local: &LocalServices) -> JoinSet<()> {
    let mut followers = JoinSet::new();
    followers.spawn(local.fanout.clone().follow(bus.subscribe(Interest::All)));
    followers.spawn(wake_sender(
        bus.subscribe(Interest::OtherServers),
        federation_services.sender.clone(),
        federation_services.outbox.clone(),
    ));
    followers
}

fn rooms(
    config: &Config,
    store: &Store,
    federation_services: &FederationServices,
    bus: LocalBus,
    metrics: &Metrics,
) -> Rooms {
    let config::Documents {
        seal_idle, seal_max, ..
    } = config.documents;
    let room_config = RoomConfig {
        seal_idle,
        seal_max,
        invitations: config.limits.invitations,
        random: rand::random,
        event_bytes_per_user_and_day: config.limits.event_bytes_per_user_and_day,
        edit_rates: config.limits.edit_rates,
        participants_per_document: config.limits.participants_per_document,
        staged_bytes_per_room: config.limits.staged_event_bytes_per_room,
        fetched_history_bytes_per_room: config.limits.fetched_history_bytes_per_room,
        fetched_history_bytes: config.limits.fetched_history_bytes,
        ..RoomConfig::default()
    };
    let ports = weft_room_api::Ports {
        changes: Arc::new(bus),
        peers: Arc::new(FederationPeers {
            events: federation_services.events.clone(),
            calls: PeerCalls::new(metrics),
        }),
        clock: Arc::new(weft_room_api::SystemClock),
    };
    let identity = Arc::new(KeyRingIdentity(Arc::clone(&federation_services.key_ring)));
    Rooms::start(room_config, store.clone(), identity, ports).routed(|rooms| Arc::new(TracedRouter::new(rooms)))
}

fn accounts(config: &Config, store: &Store) -> Accounts {
    let limits = AccountLimits {
        account_data_bytes: config.limits.account_data_bytes,
        filter_bytes: config.limits.filter_bytes,
    };
    let clock = Arc::new(weft_accounts::SystemClock);
    Accounts::with_limits(store.clone(), config.server_name.clone(), clock, limits)
}

/// The program itself, also after its file was replaced by another version.
fn own_program() -> std::path::PathBuf {
    if cfg!(target_os = "linux") {
        "/proc/self/exe".into()
    } else {
        std::env::current_exe().unwrap_or_else(|_| "weft".into())
    }
}

/// The budgets of requests to other servers, and of their answers and events.
fn register_federation(budgets: &Budgets, services: &FederationServices) {
    for budget in services.events.client().outgoing().budgets() {
        budgets.add(budget);
    }
    budgets.add(services.events.client().answer_bytes());
    budgets.add(&services.event_bytes);
}

/// The pool of render workers for documents. Half of the processors are left to the server.
fn renderer() -> Pool {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    pool(processors.div_ceil(2))
}

fn pool(workers: usize) -> Pool {
    Pool::start(PoolConfig::new(
        own_program(),
        vec!["render-worker".to_owned()],
        workers,
    ))
}

/// Uploaded files. Thumbnails have a pool of one worker of their own, so that images don't delay documents.
async fn media(
    config: &Config,
    store: &Store,
    federation_services: &FederationServices,
    budgets: &Budgets,
) -> Result<(Media, Scheduler), ServeError> {
    let folder = config.data_dir.join("media");
    let failed = |reason: String| ServeError::Media { reason };
    let blobs: Arc<dyn Blobs> = match &config.media.s3 {
        Some(settings) => Arc::new(S3Blobs::new(settings).map_err(|error| failed(error.to_string()))?),
        None => Arc::new(FolderBlobs::open(&folder).map_err(|error| failed(error.to_string()))?),
    };
    let media = Media::open(MediaPorts {
        server_name: config.server_name.clone(),
        store: store.clone(),
        blobs,
        incoming: folder.join("incoming"),
        clock: Arc::new(weft_room_api::SystemClock),
        thumbnails: Arc::new(WorkerThumbnails(pool(1))),
        remote: Arc::new(FederationMedia(federation_services.events.client().clone())),
        settings: config.media.settings.clone(),
    });
    let media = media.map_err(|error| failed(error.to_string()))?;
    for budget in media.budgets() {
        budgets.add(budget);
    }
    let jobs = media.start_jobs(rand::random).await;
    Ok((media, jobs.map_err(|error| failed(error.to_string()))?))
}

fn document_services(
    config: &Config,
    federation_services: &FederationServices,
    budgets: &Budgets,
    (guests, webhooks): (Guests, &Webhooks),
) -> Result<DocumentServices, ServeError> {
    let services = DocumentServices {
        content_reads: ContentReads::default(),
        event_streams: EventStreams::default(),
        audit: audit_ports(config, federation_services),
        access: access_log(config)?,
        search: Searches::new(None),
        guests,
        webhooks: webhooks.clone(),
    };
    budgets.add(services.content_reads.budget());
    budgets.add(services.event_streams.budget());
    budgets.add(services.audit.budget());
    Ok(services)
}

/// The guests of share links, and the jobs that end them.
fn guests(
    config: &Config,
    store: &Store,
    (rooms, accounts, fanout): (&Rooms, &Accounts, &Fanout),
) -> (Guests, Scheduler) {
    let waker = JobWaker::default();
    let wake = waker.clone();
    let services = (rooms.clone(), accounts.clone(), fanout.clone());
    let guests = Guests::new(services, config.registration.guests, move || wake.wake());
    let jobs = SchedulerConfig {
        store: store.clone(),
        clock: Arc::new(weft_room_api::SystemClock),
        random: rand::random,
        lanes: store.lanes().all().collect(),
        at_once: 4,
        waker,
    };
    let jobs = Scheduler::start(jobs, vec![Arc::new(EndGuests(guests.clone()))]);
    (guests, jobs)
}

/// Webhooks, and the task in which they deliver.
fn webhooks(
    config: &Config,
    store: &Store,
    rooms: &Rooms,
    accounts: &Accounts,
) -> Result<(Webhooks, JoinHandle<()>), ServeError> {
    let receivers = Receivers::new(ReceiverConfig {
        extra_ca_certificates: extra_ca_certificates(config)?,
        allow_addresses: config.webhooks.allow_addresses.clone(),
        names: Arc::new(weft_federation::SystemNames::new()),
    });
    let receivers = receivers.map_err(|error| ServeError::Federation {
        reason: error.to_string(),
    })?;
    let webhooks = Webhooks::new(WebhookPorts {
        store: store.clone(),
        reader: rooms.reader().clone(),
        accounts: accounts.clone(),
        receivers,
        clock: Arc::new(weft_room_api::SystemClock),
        random: rand::random,
    });
    let deliveries = tokio::spawn(webhooks.clone().run());
    Ok((webhooks, deliveries))
}

/// The search index, and the task that follows the rooms. A server whose index can't be opened works without search.
fn search_index(config: &Config, rooms: &Rooms, renderer: &Pool) -> (Searches, JoinHandle<()>) {
    match SearchIndex::open(&search_command::folder(&config.data_dir)) {
        Ok(index) => {
            let index = Arc::new(index);
            let indexer = Indexer::new(Arc::clone(&index), rooms.clone(), Arc::new(renderer.clone()));
            (Searches::new(Some(index)), tokio::spawn(indexer.run()))
        }
        Err(error) => {
            tracing::error!(event = "search.no_index", %error, "the search index can't be opened; there is no search");
            (Searches::new(None), tokio::spawn(async {}))
        }
    }
}

fn audit_ports(config: &Config, federation_services: &FederationServices) -> AuditPorts {
    let keys = Arc::new(CachedKeys(federation_services.keys.clone()));
    AuditPorts::new(config.server_name.clone(), keys, Arc::new(weft_room_api::SystemClock))
}

fn access_log(config: &Config) -> Result<Arc<dyn AccessLog>, ServeError> {
    if !config.access_log.enabled {
        return Ok(Arc::new(NoAccessLog));
    }
    let folder = access_log::folder(&config.data_dir);
    let clock = Arc::new(weft_room_api::SystemClock);
    let log = FileAccessLog::start(folder, config.access_log.keep_days, clock);
    let log = log.map_err(|source| ServeError::System {
        what: "cannot start the access log",
        source,
    })?;
    Ok(Arc::new(log))
}

fn limiter(config: &Config) -> UserLimiter {
    if config.limits.rate_limit {
        UserLimiter::standard()
    } else {
        UserLimiter::off()
    }
}

fn document_ports(
    federation_services: &FederationServices,
    local: &LocalServices,
    shared: &Shared<'_>,
    renderer: &Pool,
    services: DocumentServices,
) -> DocumentPorts {
    let invitations = RoomInvitations {
        rooms: shared.rooms.clone(),
        handshake: Arc::clone(&federation_services.handshake),
    };
    DocumentPorts {
        media: shared.media.clone(),
        rooms: shared.rooms.clone(),
        accounts: shared.accounts.clone(),
        invitations: Arc::new(invitations),
        limiter: shared.limiter.clone(),
        membership: local.membership.clone(),
        renderer: Arc::new(renderer.clone()),
        office: Arc::new(Pandoc::new(own_program())),
        presence: local.presence.clone(),
        unread: local.unread.clone(),
        content_reads: services.content_reads,
        audit: services.audit,
        access: services.access,
        writers: Writers::new(rand::random),
        search: services.search,
        guests: services.guests,
        requests: Arc::new(remote_rooms(federation_services, shared.rooms)),
        webhooks: services.webhooks,
    }
}

fn areas(
    config: &Config,
    federation_services: &FederationServices,
    local: &LocalServices,
    client: ClientPorts,
    documents: DocumentPorts,
    event_streams: EventStreams,
) -> BTreeMap<Area, Router> {
    let (rooms, accounts, media) = (client.rooms.clone(), client.accounts.clone(), client.media.clone());
    let live = live::router(LivePorts {
        rooms: rooms.clone(),
        accounts: accounts.clone(),
        fanout: local.fanout.clone(),
        awareness: local.awareness.clone(),
        membership_view: local.membership_view.clone(),
        sessions: ConnectionIds::new(Incarnation(rand::random::<NonZeroU64>().get())),
        text_reads: TextReads::default(),
        limiter: client.limiter.clone(),
        event_streams,
    });
    let federation = server::router(server_ports(
        config,
        federation_services,
        local,
        &rooms,
        accounts,
        media,
    ));
    BTreeMap::from([
        (Area::Client, client::router(client)),
        (
            Area::Documents,
            documents::router(documents)
                .merge(live)
                .merge(openapi::router())
                .merge(docs::router()),
        ),
        (Area::Federation, federation),
        (Area::Web, web::router()),
    ])
}

/// Requests of the client and document APIs to other servers.
fn remote_rooms(federation_services: &FederationServices, rooms: &Rooms) -> RemoteRooms {
    RemoteRooms {
        rooms: rooms.clone(),
        handshake: Arc::clone(&federation_services.handshake),
        sender: federation_services.sender.clone(),
    }
}

fn client_ports(
    config: &Config,
    store: &Store,
    federation_services: &FederationServices,
    local: &LocalServices,
    shared: &Shared<'_>,
) -> ClientPorts {
    let Shared {
        rooms,
        accounts,
        limiter,
        media,
        search,
    } = *shared;
    ClientPorts {
        accounts: accounts.clone(),
        media: media.clone(),
        rooms: rooms.clone(),
        positions: store.positions().clone(),
        fanout: local.fanout.clone(),
        ephemeral: local.ephemeral.clone(),
        presence: local.presence.clone(),
        unread: local.unread.clone(),
        remote: Arc::new(remote_rooms(federation_services, rooms)),
        limiter: limiter.clone(),
        clock: Arc::new(weft_room_api::SystemClock),
        membership: local.membership.clone(),
        search: search.clone(),
        settings: ClientSettings {
            server_name: config.server_name.clone(),
            registration: match config.registration.mode {
                RegistrationMode::Closed => Registration::Closed,
                RegistrationMode::Token => Registration::Token(config.registration.tokens.clone()),
                RegistrationMode::Open => Registration::Open,
            },
            shared_secret: config.registration.shared_secret.clone().unwrap_or_default(),
            client_base_url: config.well_known.client.clone(),
            federation_address: config.well_known.server.clone(),
        },
    }
}

fn server_ports(
    config: &Config,
    federation_services: &FederationServices,
    local: &LocalServices,
    rooms: &Rooms,
    accounts: Accounts,
    media: Media,
) -> ServerPorts {
    let event_bytes = &federation_services.event_bytes;
    let intake = RoomInboundHandler {
        rooms: rooms.clone(),
        awareness: local.awareness.clone(),
        ephemeral: local.ephemeral.clone(),
        presence: local.presence.clone(),
    };
    ServerPorts {
        server_name: config.server_name.clone(),
        rooms: rooms.clone(),
        accounts,
        media,
        key_ring: Arc::clone(&federation_services.key_ring),
        keys: federation_services.keys.clone(),
        events: federation_services.events.clone(),
        handshake: Handshake::new(federation_services.events.clone()),
        transactions: Arc::new(Transactions::new()),
        intake: Arc::new(intake),
        sender: federation_services.sender.clone(),
        event_bytes: Arc::clone(event_bytes),
    }
}
