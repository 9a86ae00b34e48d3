//! The data directory: its paths, its permissions, and opening the store in it. Must not open a store of another server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ruma::{OwnedUserId, ServerName};
use weft_store::tables::accounts::USERS;
use weft_store::tables::meta::SERVER_NAME;
use weft_store::{Batch, OpenError, OpenOptions, Store};
use weft_store_rocksdb::{OpenReport, RocksEngine, RocksOpenError, RocksOptions};
use weft_telemetry::{MeteredEngine, Metrics};

use super::ServeError;
use super::descriptors::Descriptors;
use crate::config::Config;

/// The permissions of the data directory.
const OWNER_ONLY: u32 = 0o700;
/// The permission bits of other users.
const OTHERS: u32 = 0o077;

/// The directory of the store.
fn store_path(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

/// The server's signing keys.
pub(crate) fn keys_path(data_dir: &Path) -> PathBuf {
    data_dir.join("signing-keys")
}

/// The socket for the operator's commands to the running server.
pub(crate) fn operator_socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("operator.sock")
}

/// Opens the store, or creates it if there is none. A store of another server name is refused.
pub(crate) async fn open(config: &Config, metrics: &Metrics) -> Result<Store, ServeError> {
    let store = open_any(config, metrics).await?;
    match claim(&store, &config.server_name).await {
        Ok(()) => Ok(store),
        Err(reason) => {
            store.close().await;
            let path = store_path(&config.data_dir);
            Err(match reason {
                Unclaimed::Name(found) => ServeError::OtherName {
                    path,
                    found,
                    configured: config.server_name.clone(),
                },
                Unclaimed::Store(reason) => ServeError::Store { path, reason },
            })
        }
    }
}

/// The reason why a store can't be opened as this server's.
enum Unclaimed {
    Name(String),
    Store(String),
}

/// Checks the server's name in the store, or writes it if there is none. In stores of older versions without a name, the
/// first account has it.
async fn claim(store: &Store, name: &ServerName) -> Result<(), Unclaimed> {
    let failed = |error: &dyn std::error::Error| Unclaimed::Store(error.to_string());
    let noted = store.get(&SERVER_NAME, &()).await.map_err(|error| failed(&error))?;
    let found = match noted {
        Some(found) => Some(found),
        None => {
            let first = store
                .scan(USERS.under(&()).limit(1))
                .await
                .map_err(|error| failed(&error))?;
            let name_of = |((user,), _): &((OwnedUserId,), _)| user.server_name().to_string();
            first.first().map(name_of)
        }
    };
    match found {
        Some(found) if found != name.as_str() => Err(Unclaimed::Name(found)),
        _ => {
            let mut batch = Batch::new();
            batch.put(&SERVER_NAME, &(), &name.to_string());
            store.commit(batch).await.map_err(|error| failed(&error))
        }
    }
}

async fn open_any(config: &Config, metrics: &Metrics) -> Result<Store, ServeError> {
    prepare(&config.data_dir)?;
    let path = store_path(&config.data_dir);
    let opening = path.clone();
    let options = RocksOptions {
        open_files: Descriptors::now().store_files(),
        ..RocksOptions::default()
    };
    let opened = tokio::task::spawn_blocking(move || RocksEngine::open(&opening, &options)).await;
    let (engine, report) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(RocksOpenError::Locked { path })) => return Err(ServeError::StoreInUse { path }),
        Ok(Err(error)) => {
            return Err(ServeError::Store {
                path,
                reason: error.to_string(),
            });
        }
        Err(failure) => {
            return Err(ServeError::Store {
                path,
                reason: failure.to_string(),
            });
        }
    };
    log_report(&report);
    let options = OpenOptions {
        new_era: report.new_era,
        lanes: config.storage.lanes,
    };
    Store::open_with(MeteredEngine::new(engine, metrics), options)
        .await
        .map_err(|error| match error {
            OpenError::Newer { .. } => ServeError::NewerStore {
                path,
                reason: error.to_string(),
            },
            OpenError::OtherLanes { found, wanted } => ServeError::OtherLanes {
                path,
                found,
                configured: wanted,
            },
            error => ServeError::Store {
                path,
                reason: error.to_string(),
            },
        })
}

/// Creates the directory, readable only by this system user: it contains keys and all documents.
fn prepare(data_dir: &Path) -> Result<(), ServeError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let failed = |source| ServeError::DataFolder {
        path: data_dir.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(OWNER_ONLY)
        .create(data_dir)
        .map_err(failed)?;
    // An existing directory may be accessible to others.
    let found = std::fs::metadata(data_dir).map_err(failed)?.permissions();
    if found.mode() & OTHERS == 0 {
        return Ok(());
    }
    let path = data_dir.display();
    match std::fs::set_permissions(data_dir, std::fs::Permissions::from_mode(OWNER_ONLY)) {
        Ok(()) => tracing::info!(%path, "removed the access of other system users to the data directory"),
        // It belongs to another system user, as volumes of container platforms do.
        Err(error) => tracing::warn!(
            event = "store.directory_open", %path, %error,
            "other system users can read the data directory"
        ),
    }
    Ok(())
}

fn log_report(report: &OpenReport) {
    if let Some(reason) = &report.accepted {
        tracing::error!(
            event = "store.loss_accepted",
            lost = report.lost(),
            acknowledged = report.acknowledged,
            recovered = report.recovered,
            reason,
            "continuing without commits that were acknowledged, as allowed by the file ACCEPT-LOSS, which was deleted"
        );
    } else if report.clean {
        tracing::debug!(commits = report.recovered, "store opened");
    } else {
        tracing::info!(
            commits = report.recovered,
            "the last run did not close the store; no acknowledged commit is lost"
        );
    }
    for complaint in &report.complaints {
        tracing::warn!(
            event = "store.recovery_problem",
            complaint,
            "problem during the recovery of the store"
        );
    }
}
