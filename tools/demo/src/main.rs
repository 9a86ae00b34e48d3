//! `weft-demo`: two homeservers on this machine, set up as two organisations would, with TLS and signatures between them,
//! one user on each and one shared document. Must only do what a person could do with the program `weft` and an HTTP
//! client, so that it shows that nothing else is needed.

mod authority;
mod homeserver;
mod user;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use authority::Authority;
use homeserver::{Homeserver, Ports};
use user::DemoUser;

/// Runs two homeservers and one document on this machine, to try them out. Everything is deleted afterwards.
#[derive(Debug, Parser)]
#[command(name = "weft-demo", version, about)]
struct Arguments {
    /// The directory for the servers' data; if not given, a temporary directory that is deleted afterwards.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Also write the two links to this file, one per line, as soon as they work.
    #[arg(long, value_name = "FILE")]
    links: Option<PathBuf>,
    /// The program of the homeservers; if not given, `weft` in the directory of this program.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
}

/// The users of the demo: server, name, display name.
const ALICE: Person = Person {
    server: "alpha",
    name: "alice",
    display_name: "Alice",
};
const BOB: Person = Person {
    server: "beta",
    name: "bob",
    display_name: "Bob",
};

/// The password of both users: the servers are reachable only from this machine, and are deleted afterwards.
const PASSWORD: &str = "weft-demo";

/// Longest time until a new server responds.
const START_TIMEOUT: Duration = Duration::from_secs(60);

struct Person {
    server: &'static str,
    name: &'static str,
    display_name: &'static str,
}

/// The reason why the demo failed.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    /// A file of the demo cannot be written or read.
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// The directory has other contents, possibly of an earlier demo.
    #[error("{path} is not empty; the demo needs a directory of its own", path = path.display())]
    FolderNotEmpty { path: PathBuf },
    /// The certificates can't be generated.
    #[error("cannot generate certificates for the demo: {0}")]
    Certificates(#[from] rcgen::Error),
    /// A server did not start.
    #[error("the server {name} did not start; the end of its log:\n{log}")]
    NotStarted { name: &'static str, log: String },
    /// A server stopped unexpectedly.
    #[error("the server {name} stopped unexpectedly ({status}); the end of its log:\n{log}")]
    Ended {
        name: &'static str,
        status: String,
        log: String,
    },
    /// A server sent an unexpected response.
    #[error("{step}: {reason}")]
    Step { step: &'static str, reason: String },
    /// A system call failed.
    #[error("{what}: {source}")]
    System { what: &'static str, source: std::io::Error },
}

fn main() -> ExitCode {
    // New files (keys, documents, configurations with secrets) are accessible only to the user that runs the demo.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("weft-demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs until Ctrl-C.
fn run(arguments: &Arguments) -> Result<(), DemoError> {
    // An error means that the cryptography provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let system = |what| move |source| DemoError::System { what, source };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(system("cannot start the runtime"))?;
    let server = match &arguments.server {
        Some(server) => server.clone(),
        None => std::env::current_exe()
            .map_err(system("cannot find the path of this program"))?
            .with_file_name("weft"),
    };
    let folder = Folder::open(arguments.data_dir.as_deref())?;
    let result = runtime.block_on(demonstrate(&server, &folder.path, arguments.links.as_deref()));
    folder.close();
    result
}

async fn demonstrate(server: &Path, folder: &Path, links_file: Option<&Path>) -> Result<(), DemoError> {
    let system = |what| move |source| DemoError::System { what, source };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("cannot wait for Ctrl-C"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(system("cannot wait for SIGTERM"))?;
    progress("generating certificates of a development authority")?;
    let authority = Authority::new(folder)?;
    progress("starting two homeservers (their logs are in the same directory)")?;
    progress(&format!("  {}", folder.display()))?;
    let mut alpha = Homeserver::start((server, folder), ALICE.server, Ports::choose(0)?, &authority)?;
    let mut beta = Homeserver::start((server, folder), BOB.server, Ports::choose(1)?, &authority)?;
    let ready = async {
        alpha.ready(START_TIMEOUT).await?;
        beta.ready(START_TIMEOUT).await?;
        prepare(&alpha, &beta).await
    };
    let links = tokio::select! {
        links = ready => Some(links),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    let outcome = match links {
        Some(Ok(links)) => {
            announce(&links, links_file)?;
            tokio::select! {
                error = alpha.ended() => Err(error),
                error = beta.ended() => Err(error),
                _ = interrupt.recv() => Ok(()),
                _ = terminate.recv() => Ok(()),
            }
        }
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    progress("stopping both servers")?;
    tokio::join!(alpha.stop(), beta.stop());
    outcome
}

/// Creates two users and a document, and invites one user from the other's server; returns a link for each.
async fn prepare(alpha: &Homeserver, beta: &Homeserver) -> Result<[String; 2], DemoError> {
    progress(&format!(
        "  {} is at {}, {} is at {}",
        alpha.name,
        alpha.page(),
        beta.name,
        beta.page()
    ))?;
    if !user::has_page(alpha.page()).await {
        progress("the servers were built without the web page: the links below open a notice instead")?;
    }
    let alice = DemoUser::register(alpha.page(), &ALICE, PASSWORD).await?;
    let bob = DemoUser::register(beta.page(), &BOB, PASSWORD).await?;
    progress(&format!(
        "created the accounts {} and {} (password of both: {PASSWORD})",
        alice.user_id(),
        bob.user_id()
    ))?;
    let document = alice.create_document("Notes for the two of us").await?;
    progress(&format!(
        "{} created a document and invited {}",
        ALICE.display_name, BOB.display_name
    ))?;
    alice.invite_editor(&document, bob.user_id()).await?;
    bob.accept(&document).await?;
    progress(&format!(
        "{} accepted: both servers now have the document",
        BOB.display_name
    ))?;
    Ok([alice.link(&document), bob.link(&document)])
}

fn announce(links: &[String; 2], file: Option<&Path>) -> Result<(), DemoError> {
    let [alice, bob] = links;
    progress("")?;
    progress("Open both side by side, confirm the login in each, and type:")?;
    progress(&format!("  Alice  {alice}"))?;
    progress(&format!("  Bob    {bob}"))?;
    progress("")?;
    progress("Ctrl-C stops both servers.")?;
    let Some(path) = file else { return Ok(()) };
    // Renamed when complete, so that readers never see half of it.
    let partial = path.with_extension("part");
    std::fs::write(&partial, format!("{alice}\n{bob}\n"))
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|source| DemoError::File {
            path: path.to_owned(),
            source,
        })
}

fn progress(line: &str) -> Result<(), DemoError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|source| DemoError::System {
            what: "cannot write to standard output",
            source,
        })
}

/// Prints a line to standard error. A failure is ignored: there is nowhere to report it.
fn print_error(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The directory of the servers' data.
struct Folder {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Folder {
    fn open(wanted: Option<&Path>) -> Result<Self, DemoError> {
        let Some(path) = wanted else {
            let temporary = tempfile::Builder::new()
                .prefix("weft-demo-")
                .tempdir()
                .map_err(|source| DemoError::System {
                    what: "cannot create a temporary directory",
                    source,
                })?;
            return Ok(Self {
                path: temporary.path().to_owned(),
                temporary: Some(temporary),
            });
        };
        let failed = |source| DemoError::File {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(path).map_err(failed)?;
        if std::fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Err(DemoError::FolderNotEmpty { path: path.to_owned() });
        }
        let path = path.canonicalize().map_err(failed)?;
        Ok(Self { path, temporary: None })
    }

    fn close(self) {
        if let Some(temporary) = self.temporary {
            let path = self.path;
            if let Err(error) = temporary.close() {
                print_error(&format!("could not remove {}: {error}", path.display()));
            }
        }
    }
}
