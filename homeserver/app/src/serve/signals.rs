//! When to stop: SIGINT, SIGTERM, or the end of standard input where that was asked for. The second signal ends the
//! process at once, whatever is still going on. SIGHUP and SIGUSR1 are for others: see [`reload`] and [`report`].

use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a second signal ends the process with: 128 and SIGINT's number, as shells have it.
const INTERRUPTED: i32 = 130;

/// SIGHUP: files are to be read again. Must be made before anything slow happens: until then it ends the process.
pub(super) fn reload() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// SIGUSR1: the log is to say what is in use. As with [`reload`].
pub(super) fn report() -> std::io::Result<Signal> {
    signal(SignalKind::user_defined1())
}

/// Listens for signals from the moment it is made, so that none is lost between start and waiting.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    with_stdin: bool,
}

impl Signals {
    pub(super) fn new(with_stdin: bool) -> std::io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self {
            interrupt,
            terminate,
            with_stdin,
        })
    }

    /// Ends with the reason to stop.
    pub(super) async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            () = end_of_stdin(), if self.with_stdin => "end of standard input",
        }
    }

    /// From now on a signal ends the process at once.
    pub(super) fn exit_on_next(mut self) {
        tokio::spawn(async move {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
            tracing::warn!(
                "a second signal: ending at once; acknowledged edits are on disk and will be signed next time"
            );
            std::process::exit(INTERRUPTED);
        });
    }
}

async fn end_of_stdin() {
    let mut ignored = [0; 64];
    let mut stdin = tokio::io::stdin();
    while stdin.read(&mut ignored).await.is_ok_and(|count| count > 0) {}
}
