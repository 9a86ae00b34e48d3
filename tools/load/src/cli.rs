//! The command line of `weft-load`: the server, the scenario and the output of the figures. Must not measure.

use std::{
    io::{Write as _, stdout},
    path::PathBuf,
    sync::Arc,
    time::{Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    audit, edit, edit_rest,
    etherpad::Etherpad,
    events, federation_in, growth, hostile, join, large,
    local::Local,
    machine::{self, Machine},
    many_clients, media, open,
    peers::{self, Kind, Peer},
    report::{self, Figure, Run},
    restart, results, search, seen, sync,
    target::Target,
    versions,
};
use weft_conformance_tests::{client::Client, server::Server};

/// Puts a measured load on a server of this protocol.
///
/// Without --url it starts its own servers on this machine: the `weft` program in the same folder, or the one in
/// WEFT_BIN. With --peers it measures other servers with the same clients in the same run.
///
/// Examples:
///
/// - weft-load edit --peers
/// - weft-load --url https://docs.example --register loadtest crowd --documents 50
/// - weft-load --json results seen
#[derive(Parser, Debug)]
#[command(name = "weft-load", version, verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    given: RunningServer,
    /// Also measure other servers: Yjs servers for edit, seen, open and crowd; Synapse for events, sync, federation-in
    /// and join; Etherpad for edit-rest and history. They are installed from the package registries the first time.
    #[arg(long, global = true)]
    peers: bool,
    /// Measure only these peers; can be repeated.
    #[arg(long = "peer", global = true, value_enum)]
    only: Vec<Kind>,
    /// Print the figures as JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Write the figures to this folder, one file per scenario.
    #[arg(long, global = true)]
    keep: Option<PathBuf>,
    #[command(subcommand)]
    scenario: Scenario,
}

/// A running server.
#[derive(Args, Debug)]
struct RunningServer {
    /// Base URL of the server. You must have permission to load it.
    #[arg(long, global = true)]
    url: Option<String>,
    /// Access token of a user on this server.
    #[arg(long, global = true, requires = "url")]
    token: Option<String>,
    /// Register a user with this name and a random suffix instead; registration must be open.
    #[arg(long, global = true, requires = "url", conflicts_with = "token")]
    register: Option<String>,
    /// A PEM file with the only certificates to trust.
    #[arg(long, global = true, requires = "url")]
    ca: Option<PathBuf>,
    /// Process id of the server if it runs on this machine: reports processor time and memory.
    #[arg(long, global = true, requires = "url")]
    pid: Option<u32>,
}

/// The scenario.
#[derive(Clone, Debug, Subcommand)]
pub enum Scenario {
    /// Writers and observers of one document: CPU per edit, edits per second.
    Edit(edit::Options),
    /// Edits by position over HTTP: edits per second (at an address without TLS, with open registration).
    EditRest(edit_rest::Options),
    /// Latency until others see an edit: on one server, and across two.
    Seen(seen::Options),
    /// Many open documents with a real history: memory per document, cost of one more reader.
    Open(open::Options),
    /// Thousands of editors on hundreds of documents.
    ManyClients(many_clients::Options),
    /// Messages by PUT: signed events per second.
    Events(events::Options),
    /// Cost of /sync: initial sync, incremental sync without changes, and delivery of a message to waiting syncs (at an
    /// address without TLS, with open registration).
    Sync(sync::Options),
    /// Events received over federation (own servers only).
    FederationIn(federation_in::Options),
    /// A server joins a large room of another server (own servers only).
    Join(join::Options),
    /// One document with a very long history (own servers only).
    Growth(growth::Options),
    /// One document with a very long history by two authors: content at a version, differences, blame, opening and bytes on
    /// disk (own servers only).
    History(versions::Options),
    /// Search in many documents, alone and while the index follows edits (own servers only).
    Search(search::Options),
    /// Users who edit and read while others attack the render workers (own servers only).
    Hostile(hostile::Options),
    /// A document of 100 MB and one with a million edits: memory and time to write, open and edit them (own servers only).
    Large(large::Options),
    /// Export of a long signed log, and its verification (own servers only).
    Audit(audit::Options),
    /// Upload and download of one large file (own servers only).
    Media(media::Options),
    /// Start of a server with many rooms (own servers only).
    Restart(restart::Options),
    /// Measure nothing: write the kept figures into a file like RESULTS.md.
    Table(Table),
}

/// Paths of the figures and of the table.
#[derive(Clone, Debug, Args)]
pub struct Table {
    /// The folder given as --keep.
    folder: PathBuf,
    /// The file with the two marks between which the table is written.
    file: PathBuf,
}

impl Scenario {
    /// Its name in file names.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Edit(_) => "edit",
            Self::EditRest(_) => "edit-rest",
            Self::Seen(_) => "seen",
            Self::Open(_) => "open",
            Self::ManyClients(_) => "crowd",
            Self::Events(_) => "events",
            Self::Sync(_) => "sync",
            Self::FederationIn(_) => "federation-in",
            Self::Join(_) => "join",
            Self::Growth(_) => "growth",
            Self::History(_) => "history",
            Self::Search(_) => "search",
            Self::Hostile(_) => "hostile",
            Self::Large(_) => "large",
            Self::Audit(_) => "audit",
            Self::Media(_) => "media",
            Self::Restart(_) => "restart",
            Self::Table(_) => "table",
        }
    }

    /// All scenarios at the size of a test: one or two seconds each.
    #[must_use]
    pub fn all_small() -> Vec<Self> {
        vec![
            Self::Edit(edit::Options::small()),
            Self::EditRest(edit_rest::Options::small()),
            Self::Seen(seen::Options::small()),
            Self::Open(open::Options::small()),
            Self::ManyClients(many_clients::Options::small()),
            Self::Events(events::Options::small()),
            Self::Sync(sync::Options::small()),
            Self::FederationIn(federation_in::Options::small()),
            Self::Join(join::Options::small()),
            Self::Growth(growth::Options::small()),
            Self::History(versions::Options::small()),
            Self::Search(search::Options::small()),
            Self::Hostile(hostile::Options::small()),
            Self::Large(large::Options::small()),
            Self::Audit(audit::Options::small()),
            Self::Media(media::Options::small()),
            Self::Restart(restart::Options::small()),
        ]
    }
}

impl Arguments {
    /// Runs the scenario and prints the figures to standard output.
    ///
    /// # Errors
    /// When a server returns an error or can't be started.
    pub async fn run(self) -> Result<()> {
        // An error means that a provider is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if let Scenario::Table(Table { folder, file }) = &self.scenario {
            return results::rewrite(folder, file);
        }
        let scenario = self.scenario.name();
        let machine = Machine::look()?;
        let before = machine::load_average();
        let began = Instant::now();
        crate::progress(&format!("{scenario} (load average {before:.1})"));
        // The servers that were started stop when this returns, also on an error.
        let figures = tokio::select! {
            figures = self.figures() => figures?,
            () = stop_signal() => bail!("stopped"),
        };
        let run = Run {
            scenario: scenario.to_owned(),
            command: command(),
            commit: machine::commit(),
            machine,
            load: (before, machine::load_average()),
            at: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
            took: began.elapsed().as_secs_f64(),
            figures,
        };
        if let Some(folder) = &self.keep {
            report::keep(folder, &run)?;
        }
        let text = if self.json {
            serde_json::to_string_pretty(&run)?
        } else {
            report::table(&[run])
        };
        writeln!(stdout(), "{text}")?;
        Ok(())
    }

    async fn figures(&self) -> Result<Vec<Figure>> {
        let mut figures = match &self.given.url {
            Some(url) => on_running(&self.scenario, &self.given, url).await?,
            // Boxed: the future contains the state of all scenarios.
            None => Box::pin(on_own(&self.scenario)).await?,
        };
        let kinds = if self.only.is_empty() && self.peers {
            Kind::ALL.to_vec()
        } else {
            self.only.clone()
        };
        if !kinds.is_empty() {
            figures.extend(on_peers(&self.scenario, &kinds).await?);
        }
        Ok(figures)
    }
}

/// Waits for SIGINT or SIGTERM.
async fn stop_signal() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// The command line, without the folder of the program.
fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("weft-load {}", arguments.join(" "))
}

/// Measures servers that are started for the run.
///
/// # Errors
/// When a server returns an error or a deadline passes.
pub async fn on_own(scenario: &Scenario) -> Result<Vec<Figure>> {
    match scenario {
        Scenario::Edit(options) => {
            let local = Local::start(1).await?;
            let plain = local.target(0, "alice", false).await?;
            let named = local.target(0, "bob", true).await?;
            let mut figures = edit::measure(&plain, options).await?;
            figures.extend(edit::measure(&named, options).await?);
            Ok(figures)
        }
        Scenario::EditRest(options) => {
            let local = Local::start(1).await?;
            let alice = local.user(0, "alice").await?;
            edit_rest::measure("Weft", &alice, local.server(0)?.pid(), options).await
        }
        Scenario::Seen(options) => {
            let local = Local::start(1).await?;
            let mut figures = seen::measure(&local.target(0, "alice", false).await?, options).await?;
            drop(local);
            figures.extend(seen::across(options).await?);
            Ok(figures)
        }
        Scenario::Open(options) => open::with_restart(options).await,
        Scenario::ManyClients(options) => {
            let local = Local::start(1).await?;
            many_clients::measure(&local.target(0, "alice", false).await?, options).await
        }
        Scenario::Events(options) => {
            let local = Local::start(1).await?;
            let alice = local.user(0, "alice").await?;
            events::measure("Weft", &alice, local.server(0)?.pid(), options).await
        }
        Scenario::Sync(options) => {
            let local = Local::start(1).await?;
            let alice = local.user(0, "alice").await?;
            sync::measure("Weft", &alice, local.server(0)?.pid(), options).await
        }
        Scenario::FederationIn(options) => {
            let local = Local::start(1).await?;
            let (server, alice) = (local.server(0)?, local.user(0, "alice").await?);
            federation_in::measure("Weft", server, &alice, server.pid(), &local.authority, options).await
        }
        Scenario::Join(options) => join::measure(&join::prepare(options).await?).await,
        Scenario::Growth(options) => growth::measure(options).await,
        Scenario::History(options) => versions::measure(options).await,
        Scenario::Search(options) => search::measure(options).await,
        Scenario::Hostile(options) => hostile::measure(options).await,
        Scenario::Large(options) => large::measure(options).await,
        Scenario::Audit(options) => audit::measure(options).await,
        Scenario::Media(options) => media::measure(options).await,
        Scenario::Restart(options) => restart::measure(options).await,
        Scenario::Table(_) => Ok(Vec::new()),
    }
}

async fn on_running(scenario: &Scenario, given: &RunningServer, url: &str) -> Result<Vec<Figure>> {
    let url = url.trim_end_matches('/');
    let (http, trust) = clients(given.ca.as_ref())?;
    let client = match (&given.token, &given.register) {
        (Some(token), _) => Client::with_token(&http, url, token).await?,
        (None, Some(name)) => {
            let name = format!("{name}-{:x}", rand::random::<u32>());
            Client::register(&http, url, &name).await?
        }
        (None, None) => bail!("--url needs --token or --register"),
    };
    let target = Target::weft(client.clone(), trust, given.pid, false);
    match scenario {
        Scenario::Edit(options) => edit::measure(&target, options).await,
        Scenario::EditRest(options) => edit_rest::measure(&target.name, &client, given.pid, options).await,
        Scenario::Seen(options) => seen::measure(&target, options).await,
        Scenario::Open(options) => open::measure(&target, options).await,
        Scenario::ManyClients(options) => many_clients::measure(&target, options).await,
        Scenario::Events(options) => events::measure(&target.name, &client, given.pid, options).await,
        Scenario::Sync(options) => sync::measure(&target.name, &client, given.pid, options).await,
        _ => bail!("{} needs servers of its own: omit --url", scenario.name()),
    }
}

/// An HTTP client and a TLS configuration for sockets that trust the given certificates, or the system's.
type Clients = (reqwest::Client, Option<Arc<rustls::ClientConfig>>);

fn clients(file: Option<&PathBuf>) -> Result<Clients> {
    let builder = reqwest::Client::builder();
    let Some(file) = file else {
        return Ok((builder.build()?, None));
    };
    let pem = std::fs::read(file).with_context(|| file.display().to_string())?;
    let http = builder
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?)
        .build()?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate?)?;
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    Ok((http, Some(Arc::new(config.with_no_client_auth()))))
}

/// Measures the peers.
async fn on_peers(scenario: &Scenario, kinds: &[Kind]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    if let Scenario::Events(_) | Scenario::Sync(_) | Scenario::FederationIn(_) | Scenario::Join(_) = scenario {
        return on_synapse(scenario).await;
    }
    if let Scenario::EditRest(options) = scenario {
        return Etherpad::start().await?.appending(options).await;
    }
    if let Scenario::History(options) = scenario {
        return Etherpad::start().await?.history(options).await;
    }
    ensure!(
        !matches!(
            scenario,
            Scenario::Growth(_)
                | Scenario::Hostile(_)
                | Scenario::Large(_)
                | Scenario::Search(_)
                | Scenario::Audit(_)
                | Scenario::Media(_)
                | Scenario::Restart(_)
        ),
        "{} has no peers",
        scenario.name()
    );
    peers::install()?;
    for kind in kinds {
        let peer = Peer::start(*kind).await?;
        let measured = match scenario {
            Scenario::Edit(options) => edit::measure(&peer.target, options).await,
            Scenario::Seen(options) => seen::measure(&peer.target, options).await,
            Scenario::Open(options) => open::measure(&peer.target, options).await,
            Scenario::ManyClients(options) => many_clients::measure(&peer.target, options).await,
            _ => Ok(Vec::new()),
        };
        figures.extend(measured.with_context(|| peer.target.name.clone())?);
    }
    Ok(figures)
}

async fn on_synapse(scenario: &Scenario) -> Result<Vec<Figure>> {
    if let Scenario::Join(options) = scenario {
        let room = join::prepare(&join::Options {
            joins: 0,
            ..options.clone()
        })
        .await?;
        let synapse =
            weft_conformance_tests::synapse::Synapse::start(&room.local.authority, room.local.folder()).await?;
        let user = synapse.user("carol").await?;
        return join::measure_one("Synapse", &room, &user, synapse.pid(), false).await;
    }
    let local = Local::start(0).await?;
    if let Scenario::Sync(options) = scenario {
        let (synapse, plain) =
            weft_conformance_tests::synapse::Synapse::start_with_plain(&local.authority, local.folder()).await?;
        let user = Client::register(&local.authority.http()?, &plain, "alice").await?;
        return sync::measure("Synapse", &user, synapse.pid(), &options.less()).await;
    }
    let synapse = weft_conformance_tests::synapse::Synapse::start(&local.authority, local.folder()).await?;
    let user = synapse.user("alice").await?;
    match scenario {
        Scenario::Events(options) => {
            let less = events::Options {
                events: (options.events / 20).max(options.connections),
                ..options.clone()
            };
            events::measure("Synapse", &user, synapse.pid(), &less).await
        }
        Scenario::FederationIn(options) => {
            let server = Server::external(&synapse.url, local.authority.http()?).await?;
            let less = federation_in::Options {
                events: (options.events / 10).max(500),
                in_step: true,
                ..options.clone()
            };
            federation_in::measure("Synapse", &server, &user, synapse.pid(), &local.authority, &less).await
        }
        _ => Ok(Vec::new()),
    }
}
