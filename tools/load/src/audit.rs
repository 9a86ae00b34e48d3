//! A document with many signed updates: events a second of its export and of `weft verify`. Must not assert a duration.

use std::{io::Write as _, path::PathBuf, process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;
use weft_conformance_tests::{
    client::{Client, segment},
    server::binary,
};
use weft_wire::update::UpdateContent;

use crate::{edit::as_f64, http::Connection, local::Local, process, progress, report::Figure};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Updates in the document, one event each.
    #[arg(long, default_value_t = 20_000)]
    pub events: usize,
    /// Connections that write them, each with a client id of its own.
    #[arg(long, default_value_t = 50)]
    pub connections: usize,
    /// Exports and verifications; the best of each counts.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Keep the exported file here.
    #[arg(long)]
    pub file: Option<PathBuf>,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self {
            events: 60,
            connections: 4,
            runs: 1,
            file: None,
        }
    }
}

/// Measures a Weft server of its own.
///
/// # Errors
/// When the server returns an error, or the file is not good.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Figure>> {
    let local = Local::start(1).await?;
    let alice = local.user(0, "alice").await?;
    let room = alice.create_document("A long log").await?;
    progress(&format!("{} updates", options.events));
    write(&alice, &room, options).await?;
    let pid = local.server(0)?.pid().context("no process")?;
    let path = options
        .file
        .clone()
        .unwrap_or_else(|| local.folder().join("audit.jsonl"));
    let (mut exported, mut verified, mut used) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    let mut events = 0.0;
    for _ in 0..options.runs {
        let (began, cpu) = (Instant::now(), process::cpu(pid)?);
        let answer = alice.of_document(Method::GET, &room, "/audit", &[], Vec::new()).await?;
        ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
        let file = answer.bytes().await?;
        exported = exported.min(began.elapsed().as_secs_f64());
        used = used.min((process::cpu(pid)? - cpu).as_secs_f64());
        events = as_f64(file.iter().filter(|byte| **byte == b'\n').count());
        std::fs::File::create(&path)?.write_all(&file)?;
        let began = Instant::now();
        let output = Command::new(binary()?).arg("verify").arg(&path).output()?;
        verified = verified.min(began.elapsed().as_secs_f64());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && said.ends_with("GOOD\n"), "{said}");
    }
    Ok(vec![
        Figure::new("Weft", "audit: events a second, exported", events / exported, "1/s"),
        Figure::new("Weft", "audit: server CPU an exported event", used * 1e6 / events, "µs"),
        Figure::new("Weft", "audit: events a second, verified", events / verified, "1/s"),
    ])
}

/// Each connection writes the letters of one client, one event each.
async fn write(client: &Client, room: &str, options: &Options) -> Result<()> {
    let mut tasks = JoinSet::new();
    for number in 0..options.connections {
        let (client, room, count) = (client.clone(), room.to_owned(), options.events / options.connections);
        tasks.spawn(async move {
            let mut connection = Connection::open(&client.url, &client.token).await?;
            for clock in 0..count {
                let content = letter(u64::try_from(number)? + 1, u32::try_from(clock)?);
                let path = format!(
                    "/_matrix/client/v3/rooms/{}/send/dev.weft.update/{number}.{clock}",
                    segment(&room)
                );
                connection.put(&path, &content.to_string()).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// The content of an update with one letter of a client, after its one before.
fn letter(client: u64, clock: u32) -> serde_json::Value {
    let mut writer = weft_crdt::lib0::Writer::new();
    writer.var_uint(1);
    writer.var_uint(1);
    writer.var_uint(client);
    writer.var_uint(u64::from(clock));
    if clock == 0 {
        // A text in the root `body`.
        writer.u8(4);
        writer.var_uint(1);
        writer.var_bytes(b"body");
    } else {
        // With an origin: the letter before.
        writer.u8(0x84);
        writer.var_uint(client);
        writer.var_uint(u64::from(clock) - 1);
    }
    writer.var_bytes(b"x");
    writer.var_uint(0);
    let content = UpdateContent::new(&writer.into_vec(), [(client, (clock, clock + 1))]);
    json!(content)
}
