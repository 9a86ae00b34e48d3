//! The Unix socket over which `weft user ...` reaches the running server. It must be accessible only to the server's own
//! system user.

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
    /// Opens it, and replaces one that an earlier run left. The store is already open, so no other server uses this
    /// directory. A failure is only logged: the server works without the socket, and commands then need a stopped server.
    pub(super) fn open(data_dir: &Path, router: Router) -> Option<Self> {
        let path = storage::operator_socket_path(data_dir);
        let listener = match bind(&path) {
            Ok(listener) => listener,
            Err(error) => {
                let path = path.display();
                tracing::warn!(
                    event = "operator.socket_not_opened", %path, %error,
                    "cannot open the operator socket: `weft user` can't reach this server"
                );
                return None;
            }
        };
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(event = "operator.socket_failed", %error, "the operator socket failed");
            }
        });
        Some(Self { path, task })
    }

    /// Closes it; requests in progress end with the server.
    pub(super) fn close(self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds under a temporary name and renames it, so that the socket never exists with other permissions.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}
