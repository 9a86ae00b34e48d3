//! A server with many rooms is stopped and started: time until it responds, after a graceful stop and after kill -9.
//! Must not assert a duration.

use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{edit::as_f64, local::Local, process, progress, report::Figure};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Number of rooms; every other one is a document.
    #[arg(long, default_value_t = 10_000)]
    pub rooms: usize,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self { rooms: 20 }
    }
}

/// Concurrent requests.
const AT_ONCE: usize = 32;

/// Measures a Weft server.
///
/// # Errors
/// When the server returns an error or does not start again.
pub async fn measure(options: &Options) -> Result<Vec<Figure>> {
    let mut local = Local::start(1).await?;
    let alice = local.user(0, "alice").await?;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..options.rooms {
        if number % 2_000 == 0 {
            progress(&format!("{number} of {} rooms", options.rooms));
        }
        if tasks.len() >= AT_ONCE
            && let Some(done) = tasks.join_next().await
        {
            done??;
        }
        let alice = alice.clone();
        tasks.spawn(async move {
            if number % 2 == 0 {
                alice.create_document("Many").await
            } else {
                alice.create_room(json!({})).await
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let made = as_f64(options.rooms) / began.elapsed().as_secs_f64();
    let mut figures = vec![Figure::new("Weft", "rooms made a second", made, "1/s")];
    let server = local.servers.first_mut().context("no server")?;
    for what in ["a good stop", "kill -9"] {
        if what == "kill -9" {
            server.kill();
        } else {
            server.terminate().await?;
        }
        progress(&format!("starting after {what}"));
        let began = Instant::now();
        server.boot().await?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        figures.push(Figure::new(
            "Weft",
            format!("restart to serving after {what}"),
            took,
            "ms",
        ));
    }
    let bytes = server.pid().map(process::memory).transpose()?.unwrap_or_default();
    let memory = as_f64(usize::try_from(bytes)?) / 1e6;
    figures.push(Figure::new("Weft", "memory after the restart", memory, "MB"));
    Ok(figures)
}
