//! Signals to stop: SIGINT, SIGTERM, or the end of standard input if configured. A second signal ends the process
//! immediately. Must not handle SIGHUP and SIGUSR1 beyond their registration: see [`reload`] and [`report`].

use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code after a second signal: 128 plus the number of SIGINT, as in shells.
const INTERRUPTED: i32 = 130;

/// SIGHUP: reload certificates. Must be registered before anything slow happens: until then SIGHUP ends the process.
pub(super) fn reload() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// SIGUSR1: log the usage of the budgets. Registered early for the same reason as [`reload`].
pub(super) fn report() -> std::io::Result<Signal> {
    signal(SignalKind::user_defined1())
}

/// Receives signals from its creation on, so that none is lost before [`Signals::stop`] is awaited.
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

    /// Waits for a reason to stop and returns it.
    pub(super) async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            () = end_of_stdin(), if self.with_stdin => "end of standard input",
        }
    }

    /// From now on a signal ends the process immediately.
    pub(super) fn exit_on_next(mut self) {
        tokio::spawn(async move {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
            tracing::warn!(
                event = "server.stopped_at_once",
                "second signal: exiting immediately; acknowledged edits are on disk and are signed at the next start"
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
