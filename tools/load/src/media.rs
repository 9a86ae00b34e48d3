//! The memory that one large file needs: a server receives it from one user and sends it to another. Must not hold the file
//! itself.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, Method, StatusCode};
use serde_json::Value;

use crate::{edit::as_f64, local::Local, process, progress, report::Figure};

/// Bytes that are sent at once.
const PART: usize = 256 * 1024;
/// Time between two looks at the memory of the server.
const LOOK: Duration = Duration::from_millis(20);

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Bytes of the file, in MiB.
    #[arg(long, default_value_t = 1_024)]
    pub mebibytes: usize,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self { mebibytes: 2 }
    }
}

/// The greatest memory of a process since the value was made.
struct Peak {
    highest: Arc<AtomicU64>,
    before: u64,
    task: tokio::task::JoinHandle<()>,
}

impl Peak {
    fn watch(pid: u32) -> Result<Self> {
        let before = process::memory(pid)?;
        let highest = Arc::new(AtomicU64::new(before));
        let seen = Arc::clone(&highest);
        let task = tokio::spawn(async move {
            while let Ok(now) = process::memory(pid) {
                seen.fetch_max(now, Ordering::Relaxed);
                tokio::time::sleep(LOOK).await;
            }
        });
        Ok(Self { highest, before, task })
    }

    /// What was added at the highest point, in MB.
    fn end(self) -> Result<f64> {
        self.task.abort();
        let added = self.highest.load(Ordering::Relaxed).saturating_sub(self.before);
        Ok(as_f64(usize::try_from(added)?) / 1e6)
    }
}

/// Measures a Weft server of its own.
///
/// # Errors
/// When the server returns an error, or a file of another length.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Figure>> {
    let size = options.mebibytes * 1024 * 1024;
    let local = Local::start_with(1, "[media]\nmax_upload_bytes = 10737418240\n").await?;
    let (alice, bob) = (local.user(0, "alice").await?, local.user(0, "bob").await?);
    let pid = local.server(0)?.pid().context("no process")?;
    // What the first file needs once, as later ones do not.
    alice.upload("small", "text/plain", vec![b'x'; PART]).await?;

    progress("upload");
    let peak = Peak::watch(pid)?;
    let began = Instant::now();
    let parts = (0..size / PART).map(|n| Ok::<_, io::Error>(Bytes::from(vec![n.to_le_bytes()[0]; PART])));
    let body = Body::wrap_stream(stream::iter(parts));
    let answer = alice.send(Method::POST, "/_matrix/media/v3/upload", &[], body).await?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.text().await?);
    let (received, received_memory) = (began.elapsed().as_secs_f64(), peak.end()?);
    let answer: Value = answer.json().await?;
    let uri = answer.get("content_uri").and_then(Value::as_str);
    let file = uri
        .and_then(|uri| uri.strip_prefix("mxc://"))
        .context("no content_uri")?;

    progress("download");
    let peak = Peak::watch(pid)?;
    let began = Instant::now();
    let mut answer = bob.file("download", file, &[]).await?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
    let mut length = 0;
    while let Some(part) = answer.chunk().await? {
        length += part.len();
    }
    ensure!(length == size, "{length} bytes");
    let (sent, sent_memory) = (began.elapsed().as_secs_f64(), peak.end()?);
    let megabytes = as_f64(size) / 1e6;
    Ok(vec![
        Figure::new("Weft", "media: memory of an upload, at most", received_memory, "MB"),
        Figure::new("Weft", "media: upload", megabytes / received, "MB/s"),
        Figure::new("Weft", "media: memory of a download, at most", sent_memory, "MB"),
        Figure::new("Weft", "media: download", megabytes / sent, "MB/s"),
    ])
}
