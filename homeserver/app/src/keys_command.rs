//! `weft keys rotate`: a new signing key for the server, which must not be running.
//!
//! The old key stays published as expired, so that its signatures can always be verified.

use ruma::MilliSecondsSinceUnixEpoch;
use weft_federation::KeyRing;
use weft_telemetry::Metrics;

use crate::cli::ConfigFile;
use crate::config::{self, Config, LoadError};
use crate::serve::{ServeError, storage};
use crate::terminal;

/// The reason why no key was generated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A system call failed.
    #[error("{what}: {source}")]
    System { what: &'static str, source: std::io::Error },
}

/// See the module.
pub(crate) fn rotate(file: &ConfigFile) -> Result<(), KeysError> {
    let config = config::load(file.path.as_deref(), &config::variables())?;
    let system = |what| move |source| KeysError::System { what, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("cannot start the runtime"))?;
    let key_id = runtime.block_on(replace(&config))?;
    terminal::print(&format!("the server signs with {key_id} from its next start"))
        .map_err(system("cannot write to standard output"))
}

/// Replaces the key. The store is opened only to make sure that no server runs, which would still sign with the old key.
async fn replace(config: &Config) -> Result<String, ServeError> {
    let store = storage::open(config, &Metrics::default()).await?;
    let path = storage::keys_path(&config.data_dir);
    let rotated = KeyRing::load_or_generate(config.server_name.clone(), &path).and_then(|ring| {
        ring.rotate(MilliSecondsSinceUnixEpoch::now())?;
        Ok(ring.signer().key_id())
    });
    store.close().await;
    rotated.map_err(|error| ServeError::Keys {
        path,
        reason: error.to_string(),
    })
}
