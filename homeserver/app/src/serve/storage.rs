//! The folder of the data: what is in it, and opening the store there.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ruma::{OwnedUserId, ServerName};
use weft_store::tables::accounts::USERS;
use weft_store::tables::meta::SERVER_NAME;
use weft_store::{Batch, OpenError, Store};
use weft_store_rocksdb::{OpenReport, RocksEngine, RocksOpenError, RocksOptions};

use super::ServeError;
use super::descriptors::Descriptors;
use crate::config::Config;

/// The permissions of the folder of the data.
const OWNER_ONLY: u32 = 0o700;
/// Of them those of everybody else.
const OTHERS: u32 = 0o077;

/// The store's own folder.
fn store_path(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

/// The server's signing keys.
pub(crate) fn keys_path(data_dir: &Path) -> PathBuf {
    data_dir.join("signing-keys")
}

/// The socket on which the running server takes the operator's commands.
pub(crate) fn operator_socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("operator.sock")
}

/// Opens the store, made anew where there is none. It is this server's, and no other's.
pub(crate) async fn open(config: &Config) -> Result<Store, ServeError> {
    let store = open_any(&config.data_dir).await?;
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

/// Why a store is not taken for this server's.
enum Unclaimed {
    Name(String),
    Store(String),
}

/// Notes the server's name in a store that has none. Stores of older versions have none: there the first account tells.
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

async fn open_any(data_dir: &Path) -> Result<Store, ServeError> {
    prepare(data_dir)?;
    let path = store_path(data_dir);
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
    tell(&report);
    Store::open(engine).await.map_err(|error| match error {
        OpenError::Newer { .. } => ServeError::NewerStore {
            path,
            reason: error.to_string(),
        },
        error => ServeError::Store {
            path,
            reason: error.to_string(),
        },
    })
}

/// Only this user may look into the folder: keys and everybody's documents are in it.
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
    // One that was there already may be open to others.
    let found = std::fs::metadata(data_dir).map_err(failed)?.permissions();
    if found.mode() & OTHERS == 0 {
        return Ok(());
    }
    let path = data_dir.display();
    match std::fs::set_permissions(data_dir, std::fs::Permissions::from_mode(OWNER_ONLY)) {
        Ok(()) => tracing::info!(%path, "closed the folder of the data to other users of this machine"),
        // It belongs to somebody else, as volumes of container platforms do.
        Err(error) => tracing::warn!(%path, %error, "other users of this machine can look into the folder of the data"),
    }
    Ok(())
}

fn tell(report: &OpenReport) {
    if let Some(reason) = &report.accepted {
        tracing::error!(
            lost = report.lost(),
            acknowledged = report.acknowledged,
            recovered = report.recovered,
            reason,
            "goes on without commits that were acknowledged, as the file ACCEPT-LOSS said; the file is gone"
        );
    } else if report.clean {
        tracing::debug!(commits = report.recovered, "store opened");
    } else {
        tracing::info!(
            commits = report.recovered,
            "the last run ended without closing the store; nothing acknowledged is lost"
        );
    }
    for complaint in &report.complaints {
        tracing::warn!(complaint, "while recovering the store");
    }
}
