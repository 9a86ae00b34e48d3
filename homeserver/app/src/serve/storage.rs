//! The folder of the data: what is in it, and opening the store there.

use std::path::{Path, PathBuf};

use weft_store::{OpenError, Store};
use weft_store_rocksdb::{OpenReport, RocksEngine, RocksOpenError, RocksOptions};

use super::ServeError;

/// The store's own folder.
fn store_path(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

/// The server's signing keys.
pub(crate) fn keys_path(data_dir: &Path) -> PathBuf {
    data_dir.join("signing-keys")
}

/// Opens the store, made anew where there is none.
pub(crate) async fn open(data_dir: &Path) -> Result<Store, ServeError> {
    prepare(data_dir)?;
    let path = store_path(data_dir);
    let opening = path.clone();
    let opened = tokio::task::spawn_blocking(move || RocksEngine::open(&opening, &RocksOptions::default())).await;
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
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(|source| ServeError::DataFolder {
            path: data_dir.to_owned(),
            source,
        })
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
