//! Edits by position over HTTP, as programs make them: edits per second, of many users in many documents. Must not assert a
//! duration.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{
    edit::as_f64,
    http::Connection,
    process, progress,
    report::{Figure, percentiles},
};
use weft_conformance_tests::client::{Client, segment};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Users, each with a document and one request at a time.
    #[arg(long, default_value_t = 32)]
    pub users: usize,
    /// Edits of all users together.
    #[arg(long, default_value_t = 20_000)]
    pub edits: usize,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self { users: 3, edits: 30 }
    }
}

/// A document of a user.
#[derive(Clone)]
struct Document {
    owner: Client,
    room: String,
}

/// Measures one server, at an address without TLS and with open registration. `pid` is the server's process, if known.
///
/// # Errors
/// When the server returns an error.
pub async fn measure(name: &str, client: &Client, pid: Option<u32>, options: &Options) -> Result<Vec<Figure>> {
    progress(&format!("{name}: {} edits by position", options.edits));
    let mut documents = Vec::new();
    for _ in 0..options.users {
        let owner = client
            .register_beside(&format!("writer-{:x}", rand::random::<u64>()))
            .await?;
        let room = owner.create_document("Log").await?;
        documents.push(Document { owner, room });
    }
    let each = (options.edits / options.users).max(1);
    edit_all(&documents, 0, each / 10 + 1).await?;
    let cpu = pid.map_or(Ok(Duration::ZERO), process::cpu)?;
    let began = Instant::now();
    let times = edit_all(&documents, each / 10 + 1, each).await?;
    let took = began.elapsed().as_secs_f64();
    let used = (pid.map_or(Ok(Duration::ZERO), process::cpu)? - cpu).as_secs_f64();
    let edits = as_f64(times.len());
    let mut figures = vec![
        Figure::new(name, "edits a second by PATCH", edits / took, "1/s"),
        Figure::new(
            name,
            "server CPU an edit, without the workers",
            used * 1e6 / edits,
            "µs",
        ),
    ];
    figures.extend(percentiles(name, "PATCH", times));
    Ok(figures)
}

async fn edit_all(documents: &[Document], version: usize, count: usize) -> Result<Vec<Duration>> {
    let mut tasks = JoinSet::new();
    for document in documents {
        tasks.spawn(edit(document.clone(), version, count));
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    Ok(times)
}

/// Appends lines, each at the version that the edit before it made.
async fn edit(document: Document, version: usize, count: usize) -> Result<Vec<Duration>> {
    let Document { owner, room } = document;
    let mut connection = Connection::open(&owner.url, &owner.token).await?;
    let path = format!("/_weft/client/v1/documents/{}/edit", segment(&room));
    let mut times = Vec::with_capacity(count);
    let mut version = u64::try_from(version)?;
    for _ in 0..count {
        let body = format!(r#"{{"changes":[{{"type":"insert","at":0,"text":"a line\n"}}],"clientVersion":{version}}}"#);
        let began = Instant::now();
        let answer: Value = serde_json::from_str(connection.patch(&path, &body).await?)?;
        times.push(began.elapsed());
        version = answer.get("newVersion").and_then(Value::as_u64).context("no version")?;
    }
    Ok(times)
}
