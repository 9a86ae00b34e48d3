//! `weft export` and `weft import`: all documents of the running server as archives, one file each, and documents from archives
//! (`spec/docs/archive.md`). Both go on where an earlier run ended: what is done already is left alone.
//!
//! Must not hold an archive in memory.

mod export;
mod import;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Client;
use weft_gateway::documents::archive::ArchiveError;

use crate::cli::{ConfigFile, ExportArguments, ImportArguments};
use crate::config::{self, Config, LoadError};
use crate::operator_client::{self, OperatorError};
use crate::terminal;
use crate::user_command::UserError;

/// Longest pause of the running server within an answer: it renders a document, or requests an attachment elsewhere.
const PAUSE: Duration = Duration::from_secs(300);

/// The reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveCommandError {
    #[error(transparent)]
    Config(#[from] LoadError),
    /// There is no server to ask.
    #[error("no server runs with this data_dir; start `weft serve` first")]
    NotRunning,
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Operator(#[from] OperatorError),
    #[error("{path}: {source}", path = path.display())]
    Archive { path: PathBuf, source: ArchiveError },
    /// The archive is not one of a whole server.
    #[error("{path}: the archive does not name its server", path = path.display())]
    NoServer { path: PathBuf },
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// Some documents failed; each was reported.
    #[error("{failed} of {all} documents failed")]
    Some { failed: usize, all: usize },
}

/// `weft export`
pub(crate) fn export(arguments: &ExportArguments) -> Result<(), ArchiveCommandError> {
    let (runtime, config) = begin(&arguments.config)?;
    runtime.block_on(async { export::run(&client(&config).await?, &config, &arguments.folder).await })
}

/// `weft import`
pub(crate) fn import(arguments: &ImportArguments) -> Result<(), ArchiveCommandError> {
    let (runtime, config) = begin(&arguments.config)?;
    let user = crate::user_access::user_id(&config, &arguments.user)?;
    runtime.block_on(async { import::run(&client(&config).await?, &user, &arguments.from).await })
}

fn begin(file: &ConfigFile) -> Result<(tokio::runtime::Runtime, Config), ArchiveCommandError> {
    let config = config::load(file.path.as_deref(), &config::variables())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok((runtime.map_err(ArchiveCommandError::Runtime)?, config))
}

async fn client(config: &Config) -> Result<Client, ArchiveCommandError> {
    let client = operator_client::builder(config).await?;
    let client = client.ok_or(ArchiveCommandError::NotRunning)?;
    Ok(client.read_timeout(PAUSE).build().map_err(OperatorError::from)?)
}

fn print(line: &str) -> Result<(), ArchiveCommandError> {
    terminal::print(line).map_err(ArchiveCommandError::Output)
}

fn at(path: &Path) -> impl Fn(io::Error) -> ArchiveCommandError + use<> {
    let path = path.to_owned();
    move |source| ArchiveCommandError::File {
        path: path.clone(),
        source,
    }
}

fn in_archive(path: &Path) -> impl Fn(ArchiveError) -> ArchiveCommandError + use<> {
    let path = path.to_owned();
    move |source| ArchiveCommandError::Archive {
        path: path.clone(),
        source,
    }
}
