//! A real server process: configured, started, asked whether it answers, stopped, killed, started again.
//!
//! The data survives in its folder, so a killed server comes back with what was on its disk.

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

/// Shared secret by which the tests register users.
pub const SHARED_SECRET: &str = "conformance-tests-only";

/// How long a server may take until it answers. A loaded machine with two cores is slow, not broken.
const TIMEOUT: Duration = Duration::from_secs(60);

/// See the module.
pub struct Server {
    /// The Matrix server name, `127.0.0.1:PORT`; the port is that of the link, where there is one in front.
    pub name: String,
    /// `https://127.0.0.1:PORT`, never through a link.
    pub url: String,
    folder: PathBuf,
    http: reqwest::Client,
    process: Option<Child>,
    starts: usize,
    namespace: Option<String>,
    /// Of the environment of the process, at each start.
    variables: Variables,
}

/// Names and values of an environment.
pub type Variables = &'static [(&'static str, &'static str)];

/// Lets glibc give freed blocks of half a megabyte and more back to the system, always: by itself it keeps them once it has
/// seen some. For tests that hold what a server holds against a limit, where that is not a limit of the allocator.
pub const GIVES_MEMORY_BACK: Variables = &[("MALLOC_MMAP_THRESHOLD_", "524288")];

/// Where a server listens and is found.
struct Place {
    /// Its Matrix server name.
    name: String,
    /// Where it listens.
    listen: String,
    /// The port of this machine's loopback on which its users find it.
    port: u16,
    namespace: Option<Namespace>,
    variables: Variables,
}

impl Place {
    fn on_loopback(port: u16, public_port: u16) -> Self {
        Self {
            name: format!("127.0.0.1:{public_port}"),
            listen: format!("127.0.0.1:{port}"),
            port,
            namespace: None,
            variables: &[],
        }
    }
}

/// The binary to test: `WEFT_BIN`, or the one that was built beside this program or the tests.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("WEFT_BIN") {
        return Ok(path.into());
    }
    let this = std::env::current_exe()?;
    // Programs are in the folder of a profile, tests in one below it.
    let folders = this.ancestors().skip(1).take(2);
    let mut beside = folders.map(|folder| folder.join("weft"));
    beside.find(|path| path.exists()).with_context(|| {
        format!(
            "no weft beside {}: build it with `cargo build --workspace`",
            this.display()
        )
    })
}

/// A port that is free at this moment.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn open_to_all() -> String {
    format!("[registration]\nmode = \"open\"\nshared_secret = \"{SHARED_SECRET}\"\n")
}

impl Server {
    /// Configures a server in `folder/label` and starts it. `extra` is appended to its configuration; with
    /// `[registration]` in it, it says who may register, else anybody may.
    ///
    /// # Errors
    /// When it can't be started or does not answer.
    pub async fn start(authority: &Authority, folder: &Path, label: &str, extra: &str) -> Result<Self> {
        let port = free_port()?;
        Self::configure(authority, folder, label, extra, Place::on_loopback(port, port)).await
    }

    /// The same with variables of the environment, at each of its starts.
    ///
    /// # Errors
    /// When it can't be started or does not answer.
    pub async fn start_with(
        authority: &Authority,
        folder: &Path,
        label: &str,
        extra: &str,
        variables: Variables,
    ) -> Result<Self> {
        let port = free_port()?;
        let place = Place {
            variables,
            ..Place::on_loopback(port, port)
        };
        Self::configure(authority, folder, label, extra, place).await
    }

    /// The same, with a link in front of it: other servers reach it through that, its own users don't.
    ///
    /// # Errors
    /// When it can't be started or does not answer.
    pub async fn start_behind(
        authority: &Authority,
        folder: &Path,
        label: &str,
        extra: &str,
        link: &Link,
    ) -> Result<Self> {
        let port = free_port()?;
        link.lead_to(port);
        Self::configure(authority, folder, label, extra, Place::on_loopback(port, link.port())).await
    }

    /// The same in a network namespace: other servers reach it through the switch, its own users by its door.
    ///
    /// # Errors
    /// When it can't be started or does not answer.
    pub async fn start_in(
        authority: &Authority,
        folder: &Path,
        label: &str,
        extra: &str,
        namespace: &Namespace,
    ) -> Result<Self> {
        let place = Place {
            name: format!("{}:{}", namespace.address, namespaces::PORT),
            listen: format!("0.0.0.0:{}", namespaces::PORT),
            port: namespace.door,
            namespace: Some(namespace.clone()),
            variables: &[],
        };
        Self::configure(authority, folder, label, extra, place).await
    }

    async fn configure(authority: &Authority, folder: &Path, label: &str, extra: &str, place: Place) -> Result<Self> {
        let folder = folder.join(label);
        fs::create_dir_all(&folder)?;
        let address = place.namespace.as_ref().map(|namespace| namespace.address.as_str());
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
{connections}{extra}"#,
            name = place.name,
            listen = place.listen,
            data = folder.join("data").display(),
            // Everybody in a test comes from one address.
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
            name: place.name,
            url: format!("https://127.0.0.1:{}", place.port),
            folder,
            http: authority.http()?,
            process: None,
            starts: 0,
            namespace: place.namespace.map(|namespace| namespace.path),
            variables: place.variables,
        };
        server.boot().await?;
        Ok(server)
    }

    /// A server that somebody else runs, by its base URL.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn given(url: &str, http: reqwest::Client) -> Result<Self> {
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
            variables: &[],
        })
    }

    /// Starts the process and waits until it answers.
    ///
    /// # Errors
    /// When it ends or does not answer in time; with the end of its log.
    pub async fn boot(&mut self) -> Result<()> {
        self.boot_with(&[]).await
    }

    /// The same, with variables of the environment.
    ///
    /// # Errors
    /// When it ends or does not answer in time; with the end of its log.
    pub async fn boot_with(&mut self, variables: &[(&str, &str)]) -> Result<()> {
        self.spawn(variables)?;
        self.until_ready().await
    }

    /// Waits until the process, which was started before, answers.
    ///
    /// # Errors
    /// When it ends or does not answer in time; with the end of its log.
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
                bail!("{} ended with {:?}:\n{}", self.name, status, self.log_tail());
            }
            ensure!(
                Instant::now() < deadline,
                "{} does not answer:\n{}",
                self.name,
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts the process and doesn't wait.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&mut self, variables: &[(&str, &str)]) -> Result<()> {
        self.starts += 1;
        let log = File::create(self.log_path())?;
        let mut command = match &self.namespace {
            None => Command::new(binary()?),
            // It becomes the server itself: to kill it is to kill that.
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
            .envs(self.variables.iter().chain(variables).copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting weft")?;
        self.process = Some(process);
        Ok(())
    }

    /// Until the process has ended by itself; false where it goes on for longer than that.
    ///
    /// # Errors
    /// When it can't be asked.
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

    /// The process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Bytes of memory that the process has now (its resident set).
    ///
    /// # Errors
    /// When it doesn't run.
    pub fn resident_bytes(&self) -> Result<u64> {
        let pid = self.pid().context("not running")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line
            .and_then(|line| line.split_whitespace().next())
            .context("no VmRSS")?;
        Ok(number.parse::<u64>()? * 1024)
    }

    /// How many files and sockets the process has open now.
    ///
    /// # Errors
    /// When it doesn't run.
    pub fn open_files(&self) -> Result<usize> {
        let pid = self.pid().context("not running")?;
        Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
    }

    /// Runs a command of the program on this server's configuration, which must not be running; gives what it printed.
    ///
    /// # Errors
    /// When the command fails.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(binary()?)
            .args(arguments)
            .arg("--config")
            .arg(self.folder.join("weft.toml"))
            .output()?;
        ensure!(
            output.status.success(),
            "weft {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end in time or not with exit code 0.
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
                    "{} ended with {status}:\n{}",
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

    /// The folder of its data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What the server has logged since its last start.
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
