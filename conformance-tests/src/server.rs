//! A real server process: configures, starts, probes, stops, kills and restarts it.
//!
//! The data directory survives, so a killed server restarts with what was on disk.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    authority::Authority,
    link::Link,
    namespaces::{self, Namespace},
};

/// The shared secret with which the tests register users.
pub const SHARED_SECRET: &str = "conformance-tests-only";

/// Maximum time until a server responds, or stops. Generous, because a loaded machine with two cores is slow.
const TIMEOUT: Duration = Duration::from_secs(60);

/// See the module.
pub struct Server {
    /// The Matrix server name, `127.0.0.1:PORT`. The port is that of the link, if the server has one.
    pub name: String,
    /// `https://127.0.0.1:PORT`, never through a link.
    pub url: String,
    folder: PathBuf,
    http: reqwest::Client,
    process: Option<Child>,
    starts: usize,
    namespace: Option<String>,
}

/// The addresses of a server.
struct Endpoint {
    /// The Matrix server name.
    name: String,
    /// The address of the listener.
    listen: String,
    /// The loopback port of this machine to which its users connect.
    port: u16,
    namespace: Option<Namespace>,
}

impl Endpoint {
    fn on_loopback(port: u16, public_port: u16) -> Self {
        Self {
            name: format!("127.0.0.1:{public_port}"),
            listen: format!("127.0.0.1:{port}"),
            port,
            namespace: None,
        }
    }
}

/// The binary to test: `WEFT_BIN`, or the one in the build directory of this program or test.
///
/// # Errors
/// If there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("WEFT_BIN") {
        return Ok(path.into());
    }
    let this = std::env::current_exe()?;
    // Programs are in the directory of a profile, tests in a subdirectory of it.
    let folders = this.ancestors().skip(1).take(2);
    let mut candidates = folders.map(|folder| folder.join("weft"));
    candidates.find(|path| path.exists()).with_context(|| {
        format!(
            "No `weft` binary in the build directory of {}. Build it with `cargo build --workspace`.",
            this.display()
        )
    })
}

/// A currently unused port.
///
/// # Errors
/// If there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn open_to_all() -> String {
    format!("[registration]\nmode = \"open\"\nshared_secret = \"{SHARED_SECRET}\"\n")
}

impl Server {
    /// Configures a server in `folder/label` and starts it. `extra` is appended to its configuration. Registration is
    /// open unless `extra` has a section `[registration]`.
    ///
    /// # Errors
    /// If it can't be started or does not respond.
    pub async fn start(authority: &Authority, folder: &Path, label: &str, extra: &str) -> Result<Self> {
        let port = free_port()?;
        Self::configure(authority, folder, label, extra, Endpoint::on_loopback(port, port)).await
    }

    /// The same, behind a link: other servers connect through the link, its own users directly.
    ///
    /// # Errors
    /// If it can't be started or does not respond.
    pub async fn start_behind(
        authority: &Authority,
        folder: &Path,
        label: &str,
        extra: &str,
        link: &Link,
    ) -> Result<Self> {
        let port = free_port()?;
        link.lead_to(port);
        Self::configure(
            authority,
            folder,
            label,
            extra,
            Endpoint::on_loopback(port, link.port()),
        )
        .await
    }

    /// The same, in a network namespace: other servers connect through the switch, its own users through
    /// `namespace.door`.
    ///
    /// # Errors
    /// If it can't be started or does not respond.
    pub async fn start_in(
        authority: &Authority,
        folder: &Path,
        label: &str,
        extra: &str,
        namespace: &Namespace,
    ) -> Result<Self> {
        let endpoint = Endpoint {
            name: format!("{}:{}", namespace.address, namespaces::PORT),
            listen: format!("0.0.0.0:{}", namespaces::PORT),
            port: namespace.door,
            namespace: Some(namespace.clone()),
        };
        Self::configure(authority, folder, label, extra, endpoint).await
    }

    async fn configure(
        authority: &Authority,
        folder: &Path,
        label: &str,
        extra: &str,
        endpoint: Endpoint,
    ) -> Result<Self> {
        let folder = folder.join(label);
        fs::create_dir_all(&folder)?;
        let address = endpoint.namespace.as_ref().map(|namespace| namespace.address.as_str());
        let (certificate, key) = authority.issue_also_for(label, address)?;
        let config = format!(
            r#"server_name = "{name}"
data_dir = "{data}"
[[listen]]
address = "{listen}"
serve = ["federation", "client", "documents", "web"]
tls = {{ certificate = "{certificate}", private_key = "{key}" }}
{registration}[federation]
extra_ca_certificates = ["{authority}"]
allow_addresses = ["127.0.0.0/8", "10.77.0.0/24"]
[limits]
rate_limit = false
event_bytes_per_user_and_day = 1099511627776
{connections}{extra}"#,
            name = endpoint.name,
            listen = endpoint.listen,
            data = folder.join("data").display(),
            // All clients of a test have one address.
            connections = if extra.contains("connections_per_network") {
                ""
            } else {
                "connections_per_network = 8192\n"
            },
            registration = if extra.contains("[registration]") {
                String::new()
            } else {
                open_to_all()
            },
            certificate = certificate.display(),
            key = key.display(),
            authority = authority.certificate().display(),
        );
        fs::write(folder.join("weft.toml"), config)?;
        let mut server = Self {
            name: endpoint.name,
            url: format!("https://127.0.0.1:{}", endpoint.port),
            folder,
            http: authority.http()?,
            process: None,
            starts: 0,
            namespace: endpoint.namespace.map(|namespace| namespace.path),
        };
        server.boot().await?;
        Ok(server)
    }

    /// An external server, by its base URL.
    ///
    /// # Errors
    /// If it does not respond.
    pub async fn external(url: &str, http: reqwest::Client) -> Result<Self> {
        let keys = http.get(format!("{url}/_matrix/key/v2/server")).send().await?;
        let keys: serde_json::Value = keys.error_for_status()?.json().await?;
        let name = keys
            .get("server_name")
            .and_then(serde_json::Value::as_str)
            .context("no server_name")?;
        Ok(Self {
            name: name.to_owned(),
            url: url.to_owned(),
            folder: PathBuf::new(),
            http,
            process: None,
            starts: 0,
            namespace: None,
        })
    }

    /// Starts the process and waits until it responds.
    ///
    /// # Errors
    /// If it exits or does not respond in time; the error has the end of its log.
    pub async fn boot(&mut self) -> Result<()> {
        self.boot_with(&[]).await
    }

    /// The same, with additional environment variables.
    ///
    /// # Errors
    /// If it exits or does not respond in time; the error has the end of its log.
    pub async fn boot_with(&mut self, variables: &[(&str, &str)]) -> Result<()> {
        self.spawn(variables)?;
        self.until_ready().await
    }

    /// Waits until the started process responds.
    ///
    /// # Errors
    /// If it exits or does not respond in time; the error has the end of its log.
    pub async fn until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let answer = self
                .http
                .get(format!("{}/_matrix/client/versions", self.url))
                .send()
                .await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if let Some(status) = self.process.as_mut().and_then(|process| process.try_wait().transpose()) {
                bail!("{} exited with {:?}:\n{}", self.name, status, self.log_tail());
            }
            ensure!(
                Instant::now() < deadline,
                "{} does not respond:\n{}",
                self.name,
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts the process without waiting for a response.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn spawn(&mut self, variables: &[(&str, &str)]) -> Result<()> {
        self.starts += 1;
        let log = File::create(self.log_path())?;
        let mut command = match &self.namespace {
            None => Command::new(binary()?),
            // `nsenter` executes the server in the same process, so killing it kills the server.
            Some(namespace) => {
                let mut enter = Command::new("nsenter");
                enter.arg(format!("--net={namespace}")).arg("--").arg(binary()?);
                enter
            }
        };
        let process = command
            .arg("serve")
            .arg("--config")
            .arg(self.folder.join("weft.toml"))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting weft")?;
        self.process = Some(process);
        Ok(())
    }

    /// Waits until the process exits by itself. Returns false if it is still running after `patience`.
    ///
    /// # Errors
    /// If the status of the process can't be read.
    pub async fn until_dead(&mut self, patience: Duration) -> Result<bool> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let Some(process) = self.process.as_mut() else {
                return Ok(true);
            };
            if process.try_wait()?.is_some() {
                self.process = None;
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(false)
    }

    /// The process id, while the process runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// The resident set of the process, bytes.
    ///
    /// # Errors
    /// If it doesn't run.
    pub fn resident_bytes(&self) -> Result<u64> {
        let pid = self.pid().context("not running")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line
            .and_then(|line| line.split_whitespace().next())
            .context("no VmRSS")?;
        Ok(number.parse::<u64>()? * 1024)
    }

    /// The number of open file descriptors of the process.
    ///
    /// # Errors
    /// If it doesn't run.
    pub fn open_files(&self) -> Result<usize> {
        let pid = self.pid().context("not running")?;
        Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
    }

    /// A command of the program with the configuration of this server.
    ///
    /// # Errors
    /// If the program does not exist.
    pub fn command_line(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command
            .args(arguments)
            .arg("--config")
            .arg(self.folder.join("weft.toml"));
        Ok(command)
    }

    /// Runs a command of the program with the configuration of this server. Returns its standard output.
    ///
    /// # Errors
    /// If the command fails.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command_line(arguments)?.output()?;
        ensure!(
            output.status.success(),
            "weft {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sends SIGKILL: nothing is flushed, and no connection is closed gracefully.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have exited by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Sends SIGTERM and waits until the process exits.
    ///
    /// # Errors
    /// If it does not exit in time, or with an exit code other than 0.
    pub async fn terminate(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        Command::new("kill")
            .arg("-TERM")
            .arg(process.id().to_string())
            .status()?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = process.try_wait()? {
                ensure!(
                    status.success(),
                    "{} exited with {status}:\n{}",
                    self.name,
                    self.log_tail()
                );
                return Ok(());
            }
            if Instant::now() > deadline {
                process.kill()?;
                bail!("{} did not stop:\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The server's log since its last start.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(format!("log-{}.txt", self.starts))
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(120))
            .copied()
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() || std::env::var_os("WEFT_TEST_LOGS").is_some() {
            eprintln!("--- log of {} ---\n{}", self.name, self.log_tail());
        }
    }
}
