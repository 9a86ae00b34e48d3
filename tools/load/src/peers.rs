//! Other Yjs servers from the package registries, for comparison: installed into `peers/`, started with default
//! settings, stopped when dropped. Must not modify them.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{progress, target::Target};
use weft_conformance_tests::server::free_port;

/// Deadline for accepting connections.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// `@y/websocket-server` on Node.
    YWebsocketServer,
    /// `@hocuspocus/server` on Node.
    Hocuspocus,
    /// `pycrdt-websocket` on uvicorn.
    PycrdtWebsocket,
}

impl Kind {
    /// All peers.
    pub const ALL: [Self; 3] = [Self::YWebsocketServer, Self::Hocuspocus, Self::PycrdtWebsocket];

    fn name(self) -> &'static str {
        match self {
            Self::YWebsocketServer => "@y/websocket-server 0.1.1",
            Self::Hocuspocus => "@hocuspocus/server 3.4.4",
            Self::PycrdtWebsocket => "pycrdt-websocket 0.16.5",
        }
    }

    fn command(self, port: u16) -> Command {
        let (program, script): (PathBuf, _) = match self {
            Self::YWebsocketServer => ("node".into(), "node_modules/@y/websocket-server/src/server.js"),
            Self::Hocuspocus => ("node".into(), "hocuspocus.mjs"),
            Self::PycrdtWebsocket => (folder().join("venv/bin/python"), "pycrdt_websocket_server.py"),
        };
        let mut command = Command::new(program);
        command
            .arg(script)
            .current_dir(folder())
            .env("HOST", "127.0.0.1")
            .env("PORT", port.to_string());
        command
    }
}

/// A running peer.
pub struct Peer {
    process: Child,
    /// The peer as a target.
    pub target: Target,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Installs the packages of the lock files, once for a checkout.
///
/// # Errors
/// When Node or Python is missing, or a package can't be installed.
pub fn install() -> Result<()> {
    let script = "exec 9>.install.lock; flock 9; \
        if ! cmp -s package-lock.json node_modules/.installed-lock; then \
        npm ci --no-fund --no-audit >/dev/null && cp package-lock.json node_modules/.installed-lock; fi; \
        if ! cmp -s requirements.txt venv/.installed; then python3 -m venv venv && \
        venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt && \
        cp requirements.txt venv/.installed; fi";
    let status = Command::new("bash")
        .arg("-ec")
        .arg(script)
        .current_dir(folder())
        .status()?;
    ensure!(
        status.success(),
        "the peers can't be installed in {}",
        folder().display()
    );
    Ok(())
}

impl Peer {
    /// Starts a peer and waits until it accepts connections. [`install`] must have been called.
    ///
    /// # Errors
    /// When it exits or does not accept connections.
    pub async fn start(kind: Kind) -> Result<Self> {
        let port = free_port()?;
        progress(&format!("starting {}", kind.name()));
        let process = kind
            .command(port)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| kind.name())?;
        let target = Target::peer(kind.name(), port, process.id(), kind == Kind::Hocuspocus);
        let mut peer = Self { process, target };
        let deadline = Instant::now() + TIMEOUT;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if let Some(status) = peer.process.try_wait()? {
                bail!("{} ended with {status}", kind.name());
            }
            ensure!(Instant::now() < deadline, "{} does not accept connections", kind.name());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
