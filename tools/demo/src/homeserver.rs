//! One of the demo's servers: a process of the program `weft` with its own configuration. It must not outlive the demo: it
//! stops at the end of its standard input.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};

use crate::authority::Authority;
use crate::{DemoError, user};

/// The preferred ports, which are easy to read in a link.
const FIRST_PAGE_PORT: u16 = 8008;
const FIRST_FEDERATION_PORT: u16 = 8448;

/// Environment variables with this prefix change a server's configuration.
const VARIABLE_PREFIX: &str = "WEFT_";

/// Interval of the requests to a server that is starting.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Longest time for a server to sign pending edits and stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Lines of a log that are shown after a failure.
const LOG_LINES_SHOWN: usize = 30;

/// The ports of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    page: u16,
    federation: u16,
}

impl Ports {
    /// The preferred ports of the n-th server, or any free ones.
    pub(crate) fn choose(index: u16) -> Result<Self, DemoError> {
        let page = free_port(FIRST_PAGE_PORT + index)?;
        let federation = free_port(FIRST_FEDERATION_PORT + index)?;
        Ok(Self { page, federation })
    }
}

/// Finds a free port. If another process takes it before its use, the server reports that.
fn free_port(wanted: u16) -> Result<u16, DemoError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .and_then(|listener| listener.local_addr());
    match listener {
        Ok(address) => Ok(address.port()),
        Err(source) => Err(DemoError::System {
            what: "no free port on loopback",
            source,
        }),
    }
}

/// See the module.
pub(crate) struct Homeserver {
    pub(crate) name: &'static str,
    page: String,
    log: PathBuf,
    process: Child,
    /// The process stops when this is closed. Held separately, because waiting for the process would close it.
    stdin: Option<ChildStdin>,
}

impl Homeserver {
    /// Writes certificate and configuration into a directory of its own, and starts the process.
    pub(crate) fn start(
        (server, folder): (&Path, &Path),
        name: &'static str,
        ports: Ports,
        authority: &Authority,
    ) -> Result<Self, DemoError> {
        let home = folder.join(name);
        let file_error = |path: &Path| {
            let path = path.to_owned();
            move |source| DemoError::File { path, source }
        };
        std::fs::create_dir(&home).map_err(file_error(&home))?;
        let (certificate, key) = authority.issue(&home)?;
        let config = home.join("weft.toml");
        let text = configuration(ports, &home, &authority.certificate, &certificate, &key);
        std::fs::write(&config, text).map_err(file_error(&config))?;
        let log = home.join("log");
        let output = File::create(&log).map_err(file_error(&log))?;
        let mut command = Command::new(server);
        command.args(["serve", "--stop-with-stdin", "--config"]).arg(&config);
        for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)) {
            command.env_remove(variable);
        }
        let again = output.try_clone().map_err(file_error(&log))?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(again))
            .kill_on_drop(true);
        // Ctrl-C would reach every process of the terminal's group; a group of its own allows an orderly stop.
        command.process_group(0);
        let mut process = command.spawn().map_err(|source| DemoError::System {
            what: "cannot start a homeserver",
            source,
        })?;
        let stdin = process.stdin.take();
        let page = format!("http://127.0.0.1:{}", ports.page);
        Ok(Self {
            name,
            page,
            log,
            process,
            stdin,
        })
    }

    /// Base URL for browsers.
    pub(crate) fn page(&self) -> &str {
        &self.page
    }

    /// Waits until the server responds.
    pub(crate) async fn ready(&mut self, timeout: Duration) -> Result<(), DemoError> {
        let answers = async {
            while !user::responds(&self.page).await {
                if let Ok(Some(_)) = self.process.try_wait() {
                    return false;
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            true
        };
        match tokio::time::timeout(timeout, answers).await {
            Ok(true) => Ok(()),
            _ => Err(DemoError::NotStarted {
                name: self.name,
                log: self.log_tail(),
            }),
        }
    }

    /// Waits for the process to end, which is an error.
    pub(crate) async fn ended(&mut self) -> DemoError {
        let status = match self.process.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        DemoError::Ended {
            name: self.name,
            status,
            log: self.log_tail(),
        }
    }

    /// Lets the server sign pending edits and stop; kills it after [`STOP_TIMEOUT`].
    pub(crate) async fn stop(mut self) {
        drop(self.stdin.take());
        if tokio::time::timeout(STOP_TIMEOUT, self.process.wait()).await.is_err() {
            crate::print_error(&format!("the server {} takes too long to stop; killing it", self.name));
            // An error means that the process has already ended.
            let _ = self.process.kill().await;
        }
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(LOG_LINES_SHOWN).collect();
        lines.into_iter().rev().map(|line| format!("  {line}\n")).collect()
    }
}

fn configuration(ports: Ports, home: &Path, authority: &Path, certificate: &Path, key: &Path) -> String {
    let quoted = |path: &Path| toml::Value::String(path.to_string_lossy().into_owned()).to_string();
    let Ports { page, federation } = ports;
    format!(
        r#"# Written by `weft-demo`.
server_name = "127.0.0.1:{federation}"
data_dir = {data}

[[listen]]
address = "127.0.0.1:{page}"
serve = ["client", "documents", "web"]

[[listen]]
address = "127.0.0.1:{federation}"
serve = ["client", "documents", "federation", "web"]
tls = {{ certificate = {certificate}, private_key = {key} }}

[registration]
mode = "open"

[federation]
extra_ca_certificates = [{authority}]
allow_addresses = ["127.0.0.0/8"]

[documents]
seal_idle = "1s"
"#,
        data = quoted(&home.join("data")),
        certificate = quoted(certificate),
        key = quoted(key),
        authority = quoted(authority),
    )
}
