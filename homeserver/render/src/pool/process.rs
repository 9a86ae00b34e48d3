//! One worker process. It has no environment, no arguments of a document, and pipes only. It is killed when the value is
//! dropped.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use weft_wire::limits::{RENDER_LIFE_CPU_SECONDS, RENDER_START_MS};

use super::PoolConfig;
use crate::error::RenderError;
use crate::protocol::{self, Answer, Frame, FrameError, Hello, Reply, Task};

/// Bytes of a worker's error output that are read: the reason why it did not start.
const ERROR_BYTES: u64 = 2_048;
/// How long the exit status of a worker whose pipe has closed is awaited.
const STATUS_WAIT: Duration = Duration::from_secs(1);

/// A worker.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    requests: u32,
    cpu_ms: u64,
    last_used: Instant,
}

/// Why a worker did not answer.
pub(super) enum ProcessError {
    /// The request can't be sent to any worker.
    Request(RenderError),
    /// The worker ended.
    Ended,
    /// The worker sent something else than an answer.
    Invalid,
}

impl Process {
    /// Starts a worker and waits until its sandbox is complete. The error is for the operator.
    pub(super) async fn start(config: &PoolConfig) -> Result<Self, String> {
        let mut child = Command::new(&config.program)
            .args(&config.arguments)
            .env_clear()
            // Arenas of further threads would use up the address space.
            .env("MALLOC_ARENA_MAX", "1")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", config.program.display()))?;
        let (Some(input), Some(mut output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err("no pipes".to_owned());
        };
        let hello = protocol::receive::<_, Hello>(&mut output);
        match timeout(Duration::from_millis(RENDER_START_MS), hello).await {
            Ok(Ok(Frame { header, .. })) if header.version == protocol::VERSION => {}
            Ok(Ok(Frame { header, .. })) => return Err(format!("it has version {}", header.version)),
            Ok(Err(error)) => return Err(said(errors).await.unwrap_or_else(|| error.to_string())),
            Err(_) => return Err(format!("it was not ready after {RENDER_START_MS} ms")),
        }
        // The engine's own messages may contain text of the document, so they are discarded.
        tokio::spawn(discard(errors));
        Ok(Self {
            child,
            input,
            output,
            requests: 0,
            cpu_ms: 0,
            last_used: Instant::now(),
        })
    }

    /// Sends a request and waits for its answer. After an error the worker can't be used.
    pub(super) async fn exchange(&mut self, request: &Frame<Task>) -> Result<Frame<Answer>, ProcessError> {
        self.requests += 1;
        protocol::send(&mut self.input, request).await.map_err(not_sent)?;
        let reply: Frame<Reply> = protocol::receive(&mut self.output).await.map_err(|error| match error {
            FrameError::Pipe(_) => ProcessError::Ended,
            FrameError::Header(_) | FrameError::TooLarge { .. } => ProcessError::Invalid,
        })?;
        self.cpu_ms = reply.header.cpu_ms;
        self.last_used = Instant::now();
        Ok(Frame {
            header: reply.header.answer,
            parts: reply.parts,
        })
    }

    /// Whether the worker may get another request.
    pub(super) fn can_continue(&self, requests: u32) -> bool {
        self.requests < requests && self.cpu_ms < RENDER_LIFE_CPU_SECONDS * 1_000 / 2
    }

    /// Whether the worker had no request for some time.
    pub(super) fn unused_for(&self, time: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.last_used) >= time
    }

    /// How the worker ended.
    pub(super) async fn status(&mut self) -> String {
        match timeout(STATUS_WAIT, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "a closed pipe".to_owned(),
        }
    }
}

fn not_sent(error: FrameError) -> ProcessError {
    match error {
        FrameError::Pipe(_) => ProcessError::Ended,
        FrameError::Header(_) => ProcessError::Invalid,
        FrameError::TooLarge { bytes, limit } => ProcessError::Request(RenderError::TooLarge {
            what: "the list of changes",
            bytes,
            limit,
        }),
    }
}

/// The reason that a worker which did not start gave: its first line.
async fn said(errors: impl AsyncRead + Unpin) -> Option<String> {
    let mut text = Vec::new();
    let mut errors = errors.take(ERROR_BYTES);
    timeout(STATUS_WAIT, errors.read_to_end(&mut text)).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().next().map(str::to_owned)
}

async fn discard(mut errors: impl AsyncRead + Unpin) {
    let mut buffer = [0; 1_024];
    while errors.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
}
