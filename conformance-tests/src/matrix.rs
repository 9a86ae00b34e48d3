//! Stock Matrix clients, each in a process of its own: matrix-js-sdk (`node/matrix.mjs`) and matrix-nio
//! (`python/matrix.py`). Both scripts take the same commands, so that one test serves for either. Must not bypass the
//! client library.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{authority::Authority, client::Client, editors, lines::Process, python};

/// Deadline for a client to see something, milliseconds. Generous: a test fails if the event never arrives, not if it
/// is late.
const TIMEOUT_MS: u64 = 30_000;

/// The release of matrix-nio; `python/requirements.txt` names the same one, with all dependencies.
const NIO: &str = "0.26.0";

/// The client library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// matrix-js-sdk.
    JsSdk,
    /// matrix-nio.
    Nio,
}

/// One signed-in client.
pub struct Stock {
    /// The client library.
    pub kind: Kind,
    /// Its user id.
    pub user: String,
    /// Its device.
    pub device: String,
    process: Process,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

async fn nio(authority: &Authority) -> Result<Command> {
    let requirements = folder().join("requirements.txt");
    let name = format!("matrix-nio-{NIO}");
    let python = tokio::task::spawn_blocking(move || {
        let list = requirements.to_string_lossy().into_owned();
        python::environment(&name, &["--only-binary", ":all:", "--no-deps", "-r", &list])
    });
    let mut command = Command::new(python.await??);
    command
        .arg("matrix.py")
        .arg(authority.certificate())
        .current_dir(folder());
    Ok(command)
}

impl Stock {
    /// Starts a client, logs the user in with the password that [`Client::register`] gave it, and starts its sync loop
    /// with this timeline filter: `{"limit": 5}` for a client that names no event types.
    ///
    /// # Errors
    /// When the client can't be installed, or the server returns an error.
    pub async fn start(authority: &Authority, kind: Kind, owner: &Client, timeline: Value) -> Result<Self> {
        let command = match kind {
            Kind::JsSdk => editors::script("matrix.mjs", authority).await?,
            Kind::Nio => nio(authority).await?,
        };
        let process = Process::start(command)?;
        let device = format!("{kind:?}-{:x}", rand::random::<u32>());
        let request = json!({
            "command": "login", "url": owner.url, "user": owner.user, "password": owner.password(), "device": device,
        });
        let signed_in = process.call(request).await.context("login")?;
        let stock = Self {
            kind,
            user: text(&signed_in, "user_id")?,
            device: text(&signed_in, "device_id")?,
            process,
        };
        stock.ask("start", json!({"timeline": timeline})).await?;
        Ok(stock)
    }

    /// Calls any command that both scripts have.
    ///
    /// # Errors
    /// When the client reports an error.
    pub async fn ask(&self, command: &str, mut request: Value) -> Result<Value> {
        if let Some(fields) = request.as_object_mut() {
            fields.insert("command".to_owned(), json!(command));
            fields.entry("timeout").or_insert(json!(TIMEOUT_MS));
        }
        let what = format!("{:?} of {}: {request}", self.kind, self.user);
        self.process.call(request).await.context(what)
    }

    /// Sends an event; returns its id.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn send(&self, room: &str, kind: &str, content: Value) -> Result<String> {
        let sent = self
            .ask("send", json!({"room": room, "type": kind, "content": content}))
            .await?;
        text(&sent, "event_id")
    }

    /// Waits until the sync loop has returned something that has these fields; returns it.
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn until_seen(&self, part: Value) -> Result<Value> {
        self.ask("until_seen", json!({"part": part})).await
    }

    /// Waits until the client's own membership of a room has this value.
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn until_membership(&self, room: &str, is: &str) -> Result<()> {
        self.ask("until_membership", json!({"room": room, "is": is}))
            .await
            .map(drop)
    }
}

/// A string field of a response.
///
/// # Errors
/// When the field is missing or not a string.
pub fn text(answer: &Value, field: &str) -> Result<String> {
    let found = answer.get(field).and_then(Value::as_str).map(str::to_owned);
    found.with_context(|| format!("no {field} in {answer}"))
}
