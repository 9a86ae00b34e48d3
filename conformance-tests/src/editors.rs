//! Stock Yjs editors in a Node process (`node/editors.mjs`), one method per action of a person or an application. Must
//! not encode Yjs itself.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::{process::Command, sync::OnceCell};

use crate::{authority::Authority, client::Client, lines::Process};

/// Deadline for an editor to see something, milliseconds. Generous: a test fails if the change never arrives, not if it
/// is late.
const TIMEOUT_MS: u64 = 30_000;

/// Deadline for awareness, milliseconds: less than the 15 s after which stock clients send their state again by
/// themselves.
const BEFORE_RENEWAL_MS: u64 = 8_000;

/// A process with editors.
pub struct Editors(Process);

/// One editor.
#[derive(Clone)]
pub struct Editor {
    process: Arc<Editors>,
    name: String,
}

/// Which stock provider an editor uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// y-websocket.
    Plain,
    /// Hocuspocus with a socket of its own.
    Hocuspocus,
    /// Hocuspocus on a socket that is shared with the other editors of this process and server with the same number.
    Shared(u32),
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("node")
}

/// Installs the packages of the lock file, once for all tests of a checkout.
async fn install() -> Result<()> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED
        .get_or_try_init(|| async {
            // The file lock serialises concurrent test processes: the first one installs.
            let script = "exec 9>.install.lock; flock 9; \
                          if ! cmp -s package-lock.json node_modules/.installed-lock; then \
                          npm ci --no-fund --no-audit >/dev/null && cp package-lock.json node_modules/.installed-lock; fi";
            let status = Command::new("bash").arg("-c").arg(script).current_dir(folder()).status().await?;
            ensure!(status.success(), "npm ci failed in {}", folder().display());
            Ok(())
        })
        .await
        .copied()
}

/// The command that runs a script of that folder in a Node process that trusts the authority.
///
/// # Errors
/// When the packages can't be installed.
pub async fn script(name: &str, authority: &Authority) -> Result<Command> {
    install().await?;
    let mut command = Command::new("node");
    command
        .arg(name)
        .current_dir(folder())
        .env("NODE_EXTRA_CA_CERTS", authority.certificate());
    Ok(command)
}

impl Editors {
    /// Starts a process that trusts the authority.
    ///
    /// # Errors
    /// When Node is missing or the packages can't be installed.
    pub async fn start(authority: &Authority) -> Result<Arc<Self>> {
        let script = script("editors.mjs", authority).await?;
        Ok(Arc::new(Self(Process::start(script)?)))
    }

    /// The content of an update event: the update that stock Yjs generates for typing `text` into an empty document as
    /// this Yjs client id. A client without a live connection sends such events through a Matrix server.
    ///
    /// # Errors
    /// When the process has exited.
    pub async fn update_event(&self, client: u32, text: &str) -> Result<Value> {
        self.0
            .call(json!({"command": "update_event", "client": client, "text": text}))
            .await
    }

    /// Opens a document of the client's server with a stock provider.
    ///
    /// # Errors
    /// When the process has exited.
    pub async fn open(self: &Arc<Self>, name: &str, provider: Provider, client: &Client, room: &str) -> Result<Editor> {
        self.open_with_token(name, provider, &client.url, room, &client.token)
            .await
    }

    /// Like [`Editors::open`], with a copy of another editor's document, as when two people share a browser's storage,
    /// and with text (at a position) that was typed before the editor is connected.
    ///
    /// # Errors
    /// When the process has exited.
    pub async fn open_copy(
        self: &Arc<Self>,
        name: &str,
        provider: Provider,
        client: &Client,
        room: &str,
        (copy_of, at, text): (&str, usize, &str),
    ) -> Result<Editor> {
        let first = json!({"copy_of": copy_of, "first": {"at": at, "text": text}});
        self.open_request(name, provider, (&client.url, room, &client.token), first)
            .await
    }

    /// Like [`Editors::open`], with any token.
    ///
    /// # Errors
    /// When the process has exited.
    pub async fn open_with_token(
        self: &Arc<Self>,
        name: &str,
        provider: Provider,
        url: &str,
        room: &str,
        token: &str,
    ) -> Result<Editor> {
        self.open_request(name, provider, (url, room, token), json!({})).await
    }

    async fn open_request(
        self: &Arc<Self>,
        name: &str,
        provider: Provider,
        (url, room, token): (&str, &str, &str),
        more: Value,
    ) -> Result<Editor> {
        let base = format!("{}/_weft/client/v1/live", url.replacen("http", "ws", 1));
        let request = match provider {
            Provider::Plain => json!({"kind": "plain", "url": base}),
            Provider::Hocuspocus => json!({"kind": "hocuspocus", "url": format!("{base}/socket")}),
            Provider::Shared(number) => {
                json!({"kind": "hocuspocus", "url": format!("{base}/socket"), "socket": format!("{url}#{number}")})
            }
        };
        let editor = Editor {
            process: Arc::clone(self),
            name: name.to_owned(),
        };
        let mut request = request;
        if let Some(fields) = request.as_object_mut() {
            fields.insert("room".to_owned(), json!(room));
            fields.insert("token".to_owned(), json!(token));
            fields.extend(more.as_object().cloned().unwrap_or_default());
        }
        editor.call("open", request).await?;
        Ok(editor)
    }
}

impl Editor {
    async fn call(&self, command: &str, mut request: Value) -> Result<Value> {
        if let Some(fields) = request.as_object_mut() {
            fields.insert("command".to_owned(), json!(command));
            fields.insert("editor".to_owned(), json!(self.name));
            fields.entry("timeout").or_insert(json!(TIMEOUT_MS));
        }
        self.process
            .0
            .call(request)
            .await
            .with_context(|| format!("editor {}: {command}", self.name))
    }

    /// Types at the end of the text.
    ///
    /// # Errors
    /// When the process has exited; the same for all methods below.
    pub async fn type_end(&self, text: &str) -> Result<()> {
        self.call("insert", json!({"at": "end", "text": text})).await.map(drop)
    }

    /// Types at a position (or at the end, if the text is shorter).
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn type_at(&self, at: usize, text: &str) -> Result<()> {
        self.call("insert", json!({"at": at, "text": text})).await.map(drop)
    }

    /// Deletes `length` characters.
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn delete(&self, at: usize, length: usize) -> Result<()> {
        self.call("remove", json!({"at": at, "length": length})).await.map(drop)
    }

    /// The editor's current text.
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn text(&self) -> Result<String> {
        let answer = self.call("text", json!({})).await?;
        answer
            .get("text")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .context("no text")
    }

    /// Waits until the provider reports that it is synced.
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn synced(&self) -> Result<()> {
        self.call("until_synced", json!({})).await.map(drop)
    }

    /// Waits until the provider reports no unsaved changes (Hocuspocus only).
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn saved(&self) -> Result<()> {
        self.call("until_saved", json!({})).await.map(drop)
    }

    /// Waits until the text equals `text`.
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn until_text(&self, text: &str) -> Result<()> {
        self.call("until_text", json!({"text": text})).await.map(drop)
    }

    /// Waits until the text contains `part`.
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn until_contains(&self, part: &str) -> Result<()> {
        self.call("until_contains", json!({"part": part})).await.map(drop)
    }

    /// Waits for an event of the provider (`close`, `denied`, `authenticated`, …); returns its detail.
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn until_event(&self, event: &str) -> Result<Value> {
        let answer = self.call("until_event", json!({"event": event})).await?;
        Ok(answer.get("detail").cloned().unwrap_or(Value::Null))
    }

    /// Whether an event of the provider has happened.
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn has_seen(&self, event: &str) -> Result<bool> {
        let answer = self.call("events", json!({})).await?;
        let events = answer.get("events").and_then(Value::as_array).context("no events")?;
        Ok(events.iter().any(|seen| seen.get("event") == Some(&json!(event))))
    }

    /// Waits until a field of any awareness state has this value, for less time than stock clients take to renew it.
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn until_field(&self, field: &str, value: Value) -> Result<()> {
        let request = json!({"field": field, "value": value, "timeout": BEFORE_RENEWAL_MS});
        self.call("until_field", request).await.map(drop)
    }

    /// Waits until the text has `length` UTF-16 code units.
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn until_length(&self, length: usize) -> Result<()> {
        self.call("until_length", json!({"length": length})).await.map(drop)
    }

    /// The details of all events of this kind since they were last forgotten.
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn details_of(&self, event: &str) -> Result<Vec<Value>> {
        let answer = self.call("events", json!({})).await?;
        let seen = answer.get("events").and_then(Value::as_array).context("no events")?;
        let seen = seen.iter().filter(|seen| seen.get("event") == Some(&json!(event)));
        Ok(seen.filter_map(|seen| seen.get("detail").cloned()).collect())
    }

    /// Runs a command of `editors.mjs` that only some tests need.
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn does(&self, command: &str, request: Value) -> Result<()> {
        self.call(command, request).await.map(drop)
    }

    /// A position of the text as a Yjs relative position in JSON.
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn relative(&self, at: u32, assoc: i32) -> Result<Value> {
        let answer = self.call("relative", json!({"at": at, "assoc": assoc})).await?;
        answer.get("position").cloned().context("no position")
    }

    /// Where a Yjs relative position is in the text now; null if it is nowhere.
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn absolute(&self, position: &Value) -> Result<Value> {
        let answer = self.call("absolute", json!({ "position": position })).await?;
        answer.get("at").cloned().context("no position")
    }

    /// Waits until the awareness contains this user.
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn until_present(&self, user: &str) -> Result<()> {
        self.call("until_present", json!({"user": user})).await.map(drop)
    }

    /// Like [`Editor::until_present`], for less time than stock clients take to renew their states.
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn until_back(&self, user: &str) -> Result<()> {
        let request = json!({"user": user, "timeout": BEFORE_RENEWAL_MS});
        self.call("until_present", request).await.map(drop)
    }

    /// Waits until the awareness no longer contains this user.
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn until_gone(&self, user: &str) -> Result<()> {
        self.call("until_gone", json!({"user": user})).await.map(drop)
    }

    /// Sets a field of the editor's own awareness state.
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn set_awareness(&self, field: &str, value: Value) -> Result<()> {
        self.call("set_awareness", json!({"field": field, "value": value}))
            .await
            .map(drop)
    }

    /// All awareness states, by Yjs client id.
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn awareness(&self) -> Result<Value> {
        let answer = self.call("awareness", json!({})).await?;
        answer.get("states").cloned().context("no states")
    }

    /// `{synced, unsynced, client}`.
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn state(&self) -> Result<Value> {
        self.call("state", json!({})).await
    }

    /// Discards the events received so far, so that waits only see later ones.
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn forget_events(&self) -> Result<()> {
        self.call("forget_events", json!({})).await.map(drop)
    }

    /// Closes the connection, as a lost network does.
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn disconnect(&self) -> Result<()> {
        self.call("disconnect", json!({})).await.map(drop)
    }

    /// Connects again.
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn connect(&self) -> Result<()> {
        self.call("connect", json!({})).await.map(drop)
    }

    /// Closes the editor.
    ///
    /// # Errors
    /// See [`Editor::type_end`].
    pub async fn close(self) -> Result<()> {
        self.call("close", json!({})).await.map(drop)
    }
}
