//! Output and format of the log. The callers are responsible for the content: fields, and never tokens, keys or text of a
//! document. Must not panic if standard error is closed.

use std::io::{self, Write};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::TraceIds;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Human-readable.
    #[default]
    Pretty,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error. `filter` has the syntax of `RUST_LOG`. A second call has no effect.
pub fn start_logging(format: LogFormat, filter: &str) {
    // The filter was checked with the configuration.
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Unfailing(io::stderr()));
    let registry = tracing_subscriber::registry().with(filter).with(TraceIds);
    let started = match format {
        LogFormat::Pretty => registry
            .with(lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())))
            .try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging is already started");
    }
}

/// Standard error whose reader may be gone (`weft serve | head`): a line that can't be written is dropped, and the server
/// continues. `tracing` would report the failure to the same standard error, which panics.
struct Unfailing(io::Stderr);

impl Write for Unfailing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.write(bytes).unwrap_or(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        // As above.
        let _ = self.0.flush();
        Ok(())
    }
}
