//! The local socket on which `weft user ...` reaches the running server. Only the server's own system user can open it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use axum::Router;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::storage;

/// The open socket.
pub(super) struct OperatorSocket {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl OperatorSocket {
    /// Opens it, in place of one that an earlier run left. The store is open, so no other server has this folder. A server
    /// without the socket works, only commands have to wait until it is stopped: a failure is logged.
    pub(super) fn open(data_dir: &Path, router: Router) -> Option<Self> {
        let path = storage::operator_socket_path(data_dir);
        let listener = match bind(&path) {
            Ok(listener) => listener,
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "weft user ... can't reach this server: the socket can't be opened");
                return None;
            }
        };
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "the operator's socket failed");
            }
        });
        Some(Self { path, task })
    }

    /// Closes it; what was begun over it ends with the server.
    pub(super) fn close(self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds under another name and renames, so that the socket is never there with other permissions.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}
