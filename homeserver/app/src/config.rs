//! Configuration in two stages: [`source`] holds the values as written (file, environment), each with its origin; the
//! sections convert them to the types that the program uses, and report all problems at once.
//!
//! One file per section, so that a setting, its default, its limits and its check are in one place. Must not open a port
//! or a database; must not write files. The only files read are the configuration and the certificates that it names.

mod access_log;
mod documents;
mod federation;
mod limits;
mod listen;
mod log;
mod media;
mod problem;
mod registration;
mod source;
mod storage;
mod template;
mod webhooks;
mod well_known;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use ruma::OwnedServerName;

pub(crate) use access_log::AccessLog;
pub(crate) use documents::Documents;
pub(crate) use federation::Federation;
pub(crate) use limits::Limits;
pub(crate) use listen::{Area, Listener, Tls};
pub(crate) use log::Log;
pub(crate) use media::Media;
pub(crate) use problem::{Invalid, Problem};
pub(crate) use registration::{Mode as RegistrationMode, Registration};
pub(crate) use storage::Storage;
pub(crate) use template::render as template;
pub(crate) use webhooks::Webhooks;
pub(crate) use well_known::WellKnown;

use source::{Context, Fields};

/// Prefix of the environment variables of this program: `WEFT_SERVER_NAME`, `WEFT_REGISTRATION_MODE`.
pub(crate) const VARIABLE_PREFIX: &str = "WEFT_";

/// The checked configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// The name in user IDs and room aliases. Can never change once the server has been used.
    pub(crate) server_name: OwnedServerName,
    /// The directory for all data.
    pub(crate) data_dir: PathBuf,
    /// The listeners, at least one.
    pub(crate) listen: Vec<Listener>,
    /// Reverse proxies whose `X-Forwarded-For` and `Forwarded` headers are trusted.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Who may register.
    pub(crate) registration: Registration,
    /// How other servers are reached.
    pub(crate) federation: Federation,
    /// How edits become events.
    pub(crate) documents: Documents,
    /// Where events of documents may be delivered to.
    pub(crate) webhooks: Webhooks,
    /// How long it is recorded who read which document.
    pub(crate) access_log: AccessLog,
    /// Uploaded files.
    pub(crate) media: Media,
    /// The layout of a new store.
    pub(crate) storage: Storage,
    /// Limits per user, per server and in total.
    pub(crate) limits: Limits,
    /// The content of `/.well-known/matrix`.
    pub(crate) well_known: WellKnown,
    /// Filter and format of the log.
    pub(crate) log: Log,
    /// Settings that are allowed but probably not intended.
    pub(crate) warnings: Vec<Problem>,
}

/// The reason why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}", path = path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// The file is not TOML, or has invalid settings.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Reads the file and overrides it with the variables. Without a file all settings come from the variables.
pub(crate) fn load(path: Option<&Path>, variables: &BTreeMap<String, String>) -> Result<Config, LoadError> {
    let text = match path {
        Some(path) => std::fs::read_to_string(path).map_err(|source| LoadError::Unreadable {
            path: path.to_owned(),
            source,
        })?,
        None => String::new(),
    };
    Ok(parse(&text, path, variables)?)
}

/// The environment variables of this process with the prefix.
pub(crate) fn variables() -> BTreeMap<String, String> {
    std::env::vars()
        .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
        .collect()
}

/// See [`load`]; a separate function so that tests need no files.
fn parse(text: &str, path: Option<&Path>, variables: &BTreeMap<String, String>) -> Result<Config, Invalid> {
    let context = Context::new(text, path, variables)?;
    let mut root = context.root();
    let server_name = server_name(&mut root);
    let data_dir = root.path("data_dir");
    if data_dir.is_none() {
        root.missing("data_dir", "the directory for all data, for example \"/var/lib/weft\"");
    }
    let listen = listen::read(&mut root);
    let trusted_proxies = federation::networks(&mut root, "trusted_proxies");
    let registration = registration::read(root.section("registration"));
    let federation = federation::read(root.section("federation"));
    let documents = documents::read(root.section("documents"));
    let webhooks = webhooks::read(root.section("webhooks"));
    let access_log = access_log::read(root.section("access_log"));
    let media = media::read(root.section("media"));
    let storage = storage::read(root.section("storage"));
    let limits = limits::read(root.section("limits"));
    let well_known = well_known::read(root.section("well_known"));
    let log = log::read(root.section("log"));
    root.finish();
    let (problems, warnings) = context.into_reports();
    match (server_name, data_dir) {
        (Some(server_name), Some(data_dir)) if problems.is_empty() => Ok(Config {
            server_name,
            data_dir,
            listen,
            trusted_proxies,
            registration,
            federation,
            documents,
            webhooks,
            access_log,
            media,
            storage,
            limits,
            well_known,
            log,
            warnings,
        }),
        _ => Err(Invalid { problems }),
    }
}

fn server_name(root: &mut Fields<'_>) -> Option<OwnedServerName> {
    let Some(found) = root.text("server_name") else {
        root.missing(
            "server_name",
            "the part of your user IDs after the colon, for example \"example.org\"",
        );
        return None;
    };
    match OwnedServerName::try_from(found.value.as_str()) {
        Ok(name) => Some(name),
        Err(_) => {
            root.wrong(
                "server_name",
                &found.origin,
                format!("{:?} is not a valid host name", found.value),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests;
