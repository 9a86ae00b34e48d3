//! Etherpad from the package registry, for comparison where it has the operation: appending by request, the text at a
//! revision, and the difference of two revisions. Installed into `peers/etherpad`, started with its own file store, stopped
//! when dropped. Must not modify it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    edit::as_f64,
    edit_rest,
    history::{self, Author},
    http::Connection,
    process, progress,
    report::{Figure, percentiles},
    versions,
};
use weft_conformance_tests::server::free_port;

/// Deadline for its first answer: it looks for its plugins first.
const TIMEOUT: Duration = Duration::from_secs(180);
/// The version of its API.
const API: &str = "/api/1.2.15";
/// The secret of the API, in a file that is made for the run.
const KEY: &str = "load";
/// Changes of the history that it is given: each one is a request with the whole text.
const EDITS: usize = 5_000;
/// Revisions between the two of a difference: it works out each of them.
const BETWEEN: usize = 100;

/// A running Etherpad.
pub(crate) struct Etherpad {
    process: Child,
    url: String,
    _data: TempDir,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/etherpad")
}

/// Installs the packages of the lock file, once for a checkout. Etherpad finds its own files only in a folder `src`.
fn install() -> Result<()> {
    let script = "exec 9>.install.lock; flock 9; \
        if ! cmp -s package-lock.json node_modules/.installed-lock; then \
        npm ci --no-fund --no-audit >/dev/null && rm -rf src && mv node_modules/ep_etherpad-lite src && \
        ln -s ../src node_modules/ep_etherpad-lite && cp package-lock.json node_modules/.installed-lock; fi";
    let mut command = Command::new("bash");
    let status = command.arg("-ec").arg(script).current_dir(folder()).status()?;
    ensure!(
        status.success(),
        "Etherpad can't be installed in {}",
        folder().display()
    );
    Ok(())
}

impl Etherpad {
    /// Installs and starts it.
    ///
    /// # Errors
    /// When it can't be installed, or exits, or does not answer.
    pub(crate) async fn start() -> Result<Self> {
        install()?;
        progress("starting Etherpad");
        let (data, port) = (tempfile::tempdir()?, free_port()?);
        let file = |name: &str| data.path().join(name);
        let settings = json!({
            "ip": "127.0.0.1", "port": port, "dbType": "dirty", "dbSettings": {"filename": file("dirty.db")},
            "minify": false, "loglevel": "ERROR", "requireSession": false,
        });
        std::fs::write(file("settings.json"), settings.to_string())?;
        std::fs::write(file("APIKEY.txt"), KEY)?;
        std::fs::write(file("SESSIONKEY.txt"), KEY)?;
        let process = Command::new("node")
            .arg("src/node/server.js")
            .arg("--settings")
            .arg(file("settings.json"))
            .arg("--apikey")
            .arg(file("APIKEY.txt"))
            .arg("--sessionkey")
            .arg(file("SESSIONKEY.txt"))
            .current_dir(folder())
            .env("NODE_ENV", "production")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let url = format!("http://127.0.0.1:{port}");
        let mut etherpad = Self {
            process,
            url,
            _data: data,
        };
        let deadline = Instant::now() + TIMEOUT;
        while etherpad.connect().await.is_err() {
            if let Some(status) = etherpad.process.try_wait()? {
                bail!("Etherpad ended with {status}");
            }
            ensure!(Instant::now() < deadline, "Etherpad does not answer");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(etherpad)
    }

    async fn connect(&self) -> Result<Connection> {
        let mut connection = Connection::open(&self.url, KEY).await?;
        connection.get("/api").await?;
        Ok(connection)
    }

    /// Appends lines to pads, as [`edit_rest`] does in documents; a tenth of its edits.
    ///
    /// # Errors
    /// When it returns an error.
    pub(crate) async fn appending(&self, options: &edit_rest::Options) -> Result<Vec<Figure>> {
        let each = (options.edits / options.users / 10).max(1);
        let (cpu, began) = (process::cpu(self.process.id())?, Instant::now());
        let mut tasks = JoinSet::new();
        for number in 0..options.users {
            let mut connection = self.connect().await?;
            tasks.spawn(async move {
                let pad = format!("log{number}");
                call(&mut connection, "createPad", json!({"padID": pad})).await?;
                let mut times = Vec::with_capacity(each);
                for _ in 0..each {
                    let began = Instant::now();
                    call(&mut connection, "appendText", json!({"padID": pad, "text": "a line\n"})).await?;
                    times.push(began.elapsed());
                }
                anyhow::Ok(times)
            });
        }
        let mut times = Vec::new();
        while let Some(done) = tasks.join_next().await {
            times.extend(done??);
        }
        let (edits, took) = (as_f64(times.len()), began.elapsed().as_secs_f64());
        let used = (process::cpu(self.process.id())? - cpu).as_secs_f64() * 1e6 / edits;
        let name = "Etherpad 1.8.14";
        let mut figures = vec![
            Figure::new(name, "edits a second by PATCH", edits / took, "1/s"),
            Figure::new(name, "server CPU an edit, without the workers", used, "µs"),
        ];
        figures.extend(percentiles(name, "PATCH", times));
        Ok(figures)
    }

    /// Gives it the beginning of the history, one revision for each change, and reads revisions and differences.
    ///
    /// # Errors
    /// When it returns an error, or a text that was not typed.
    pub(crate) async fn history(&self, options: &versions::Options) -> Result<Vec<Figure>> {
        let patches = history::patches(options.edits.min(EDITS))?.0;
        let name = format!("Etherpad 1.8.14 ({} edits, differences of {BETWEEN})", patches.len());
        progress(&name);
        let mut connection = self.connect().await?;
        call(&mut connection, "createPad", json!({"padID": "long", "text": ""})).await?;
        let (author, mut texts) = (Author::new(), Vec::new());
        for patch in &patches {
            author.make(patch);
            let text = author.text();
            call(&mut connection, "setText", json!({"padID": "long", "text": text})).await?;
            texts.push(text);
        }
        let answer = call(&mut connection, "getRevisionsCount", json!({"padID": "long"})).await?;
        let last = answer
            .get("revisions")
            .and_then(Value::as_u64)
            .context("no revisions")?;
        let last = usize::try_from(last)?;
        let mut figures = Vec::new();
        for (place, at) in [
            ("the start", BETWEEN.min(last)),
            ("the middle", last / 2),
            ("the end", last),
        ] {
            let (mut contents, mut differences) = (Vec::new(), Vec::new());
            for back in 0..options.requests {
                let rev = at.saturating_sub(back);
                let began = Instant::now();
                call(&mut connection, "getText", json!({"padID": "long", "rev": rev})).await?;
                contents.push(began.elapsed());
                let body = json!({"padID": "long", "startRev": rev.saturating_sub(BETWEEN), "endRev": rev});
                let began = Instant::now();
                call(&mut connection, "createDiffHTML", body).await?;
                differences.push(began.elapsed());
            }
            figures.extend(percentiles(&name, &format!("content at {place}"), contents));
            figures.extend(percentiles(&name, &format!("difference at {place}"), differences));
        }
        let found = call(&mut connection, "getText", json!({"padID": "long"})).await?;
        let found = found.get("text").and_then(Value::as_str).context("no text")?;
        let typed = texts.last().map(String::as_str).unwrap_or_default();
        ensure!(found.trim_end() == typed.trim_end(), "Etherpad has another text");
        Ok(figures)
    }
}

/// Calls a function of its API; returns its data.
async fn call(connection: &mut Connection, function: &str, mut body: Value) -> Result<Value> {
    if let Some(body) = body.as_object_mut() {
        body.insert("apikey".to_owned(), KEY.into());
    }
    let path = format!("{API}/{function}");
    let answer = connection.post(&path, body.to_string().as_bytes()).await?;
    let mut answer: Value = serde_json::from_str(answer)?;
    ensure!(
        answer.get("code").and_then(Value::as_i64) == Some(0),
        "Etherpad, {function}: {answer}"
    );
    Ok(answer.get_mut("data").map(Value::take).unwrap_or_default())
}

impl Drop for Etherpad {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
