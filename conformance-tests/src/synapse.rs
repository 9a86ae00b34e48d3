//! A stock Synapse, the reference Matrix server, beside the servers under test: installed into a virtual environment of
//! its own with Python's own tools, configured for this machine only, started, stopped, restarted.
//!
//! Must not modify Synapse; no part of it is in this repository.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::{
    authority::Authority,
    client::Client,
    link::Link,
    python::{self, run},
    server::free_port,
};

/// The release with which the tests were written.
pub const VERSION: &str = "1.163.2";

/// Deadline for the first response: the first start creates the database.
const TIMEOUT: Duration = Duration::from_secs(120);

/// See the module.
pub struct Synapse {
    /// The Matrix server name, `127.0.0.1:PORT`.
    pub name: String,
    /// `https://127.0.0.1:PORT`, never through a link.
    pub url: String,
    folder: PathBuf,
    http: reqwest::Client,
    process: Option<Child>,
    starts: usize,
    /// Earlier signing keys, in the form of its configuration.
    old_keys: Map<String, Value>,
}

/// The configuration file that [`Synapse::rotate_key`] writes.
const OLD_KEYS: &str = "old-keys.yaml";

/// The ports of one Synapse.
struct Ports {
    /// With TLS, for clients and federation.
    port: u16,
    /// The port in its server name.
    public: u16,
    /// Without TLS, for clients only.
    plain: Option<u16>,
}

impl Ports {
    fn listeners(&self) -> String {
        let listener = |port: u16, tls: bool, serves: &str| {
            format!(
                r#"  - {{port: {port}, type: http, tls: {tls}, bind_addresses: ["127.0.0.1"], resources: [{{names: [{serves}]}}]}}"#
            )
        };
        let mut listeners = vec![listener(self.port, true, "client, federation")];
        listeners.extend(self.plain.map(|port| listener(port, false, "client")));
        listeners.join("\n")
    }
}

/// The Python interpreter with Synapse: `SYNAPSE_PYTHON`, or that of an environment of its own.
fn python() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SYNAPSE_PYTHON") {
        return Ok(path.into());
    }
    let package = format!("matrix-synapse=={VERSION}");
    python::environment(&format!("synapse-{VERSION}"), &[&package])
}

/// Rate limits are off. A server that could not be reached is retried after a second, not ten minutes. Responses to
/// `/sync` are not cached: by default an initial sync that is repeated within two minutes gets the first response.
fn configuration(name: &str, ports: &Ports, folder: &Path, certificate: &Path, key: &Path, authority: &Path) -> String {
    let (folder, certificate, key, authority) = (
        folder.display(),
        certificate.display(),
        key.display(),
        authority.display(),
    );
    let free = "{per_second: 1000, burst_count: 1000}";
    let listeners = ports.listeners();
    format!(
        r#"server_name: "{name}"
public_baseurl: "https://{name}/"
listeners:
{listeners}
tls_certificate_path: "{certificate}"
tls_private_key_path: "{key}"
federation_custom_ca_list: ["{authority}"]
ip_range_blacklist: []
trusted_key_servers: []
suppress_key_server_warning: true
allow_public_rooms_over_federation: true
room_list_publication_rules: [{{action: allow}}]
database: {{name: sqlite3, args: {{database: "{folder}/homeserver.db"}}}}
log_config: "{folder}/log.yaml"
media_store_path: "{folder}/media"
signing_key_path: "{folder}/signing.key"
pid_file: "{folder}/pid"
enable_registration: true
enable_registration_without_verification: true
report_stats: false
macaroon_secret_key: "conformance-tests-only"
form_secret: "conformance-tests-only"
bcrypt_rounds: 4
caches: {{sync_response_cache_duration: 0s}}
federation:
  max_short_retries: 1
  max_long_retries: 1
  max_long_retry_delay: 1s
  destination_min_retry_interval: 500
  destination_max_retry_interval: 1s
rc_federation: {{window_size: 1000, sleep_limit: 10000, sleep_delay: 1, reject_limit: 10000, concurrent: 100}}
rc_message: {free}
rc_presence: {{per_user: {free}}}
rc_registration: {free}
rc_room_creation: {free}
rc_joins_per_room: {free}
rc_joins: {{local: {free}, remote: {free}}}
rc_invites: {{per_room: {free}, per_user: {free}, per_issuer: {free}}}
"#
    )
}

/// Everything is logged to standard error, which is redirected to a file.
const LOG: &str = r#"version: 1
formatters: {precise: {format: "%(asctime)s %(name)s %(levelname)s %(request)s %(message)s"}}
handlers: {console: {class: logging.StreamHandler, formatter: precise}}
root: {level: INFO, handlers: [console]}
disable_existing_loggers: false
"#;

impl Synapse {
    /// Installs Synapse if necessary, configures it in `folder/synapse` and starts it.
    ///
    /// # Errors
    /// When it can't be installed or started, or does not respond.
    pub async fn start(authority: &Authority, folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let ports = Ports {
            port,
            public: port,
            plain: None,
        };
        Self::configure(authority, folder, ports).await
    }

    /// Like [`Synapse::start`], with an additional listener without TLS, as our own server has in measurements; returns
    /// its URL.
    ///
    /// # Errors
    /// When it can't be installed or started, or does not respond.
    pub async fn start_with_plain(authority: &Authority, folder: &Path) -> Result<(Self, String)> {
        let (port, plain) = (free_port()?, free_port()?);
        let ports = Ports {
            port,
            public: port,
            plain: Some(plain),
        };
        let synapse = Self::configure(authority, folder, ports).await?;
        Ok((synapse, format!("http://127.0.0.1:{plain}")))
    }

    /// Like [`Synapse::start`], with a link in front: other servers reach it through the link, its own users directly.
    ///
    /// # Errors
    /// When it can't be installed or started, or does not respond.
    pub async fn start_behind(authority: &Authority, folder: &Path, link: &Link) -> Result<Self> {
        let port = free_port()?;
        link.lead_to(port);
        let ports = Ports {
            port,
            public: link.port(),
            plain: None,
        };
        Self::configure(authority, folder, ports).await
    }

    async fn configure(authority: &Authority, folder: &Path, ports: Ports) -> Result<Self> {
        let name = format!("127.0.0.1:{}", ports.public);
        let folder = folder.join("synapse");
        fs::create_dir_all(&folder)?;
        let (certificate, key) = authority.issue("synapse")?;
        let configuration = configuration(&name, &ports, &folder, &certificate, &key, &authority.certificate());
        fs::write(folder.join("homeserver.yaml"), configuration)?;
        fs::write(folder.join("log.yaml"), LOG)?;
        let mut synapse = Self {
            url: format!("https://127.0.0.1:{}", ports.port),
            name,
            folder,
            http: authority.http()?,
            process: None,
            starts: 0,
            old_keys: Map::new(),
        };
        synapse.write_old_keys()?;
        run(synapse.command()?.arg("--generate-keys"))?;
        synapse.boot().await?;
        Ok(synapse)
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(python()?);
        command
            .current_dir(&self.folder)
            .args(["-m", "synapse.app.homeserver", "-c", "homeserver.yaml", "-c", OLD_KEYS])
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Starts the process and waits until it responds.
    ///
    /// # Errors
    /// When it exits or does not respond in time; the error contains the end of its log.
    pub async fn boot(&mut self) -> Result<()> {
        self.starts += 1;
        let log = File::create(self.log_path())?;
        let process = self.command()?.stdout(log.try_clone()?).stderr(log).spawn()?;
        self.process = Some(process);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let url = format!("{}/_matrix/client/versions", self.url);
            let answer = self.http.get(url).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if let Some(status) = self.process.as_mut().and_then(|process| process.try_wait().transpose()) {
                bail!("Synapse exited with {status:?}:\n{}", self.log_tail());
            }
            ensure!(
                Instant::now() < deadline,
                "Synapse does not respond:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Sends SIGKILL: no graceful shutdown.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have exited already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Writes JSON, which is valid YAML.
    fn write_old_keys(&self) -> Result<()> {
        let keys = json!({ "old_signing_keys": self.old_keys });
        Ok(fs::write(self.folder.join(OLD_KEYS), keys.to_string())?)
    }

    /// Stops Synapse, replaces its signing key, publishes the old key as expired, and starts it again.
    ///
    /// # Errors
    /// When it does not publish its key, or does not start again.
    pub async fn rotate_key(&mut self) -> Result<()> {
        let url = format!("{}/_matrix/key/v2/server", self.url);
        let published: Value = self.http.get(url).send().await?.error_for_status()?.json().await?;
        self.kill();
        let expired = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let keys = published.get("verify_keys").and_then(Value::as_object);
        for (id, key) in keys.context("no verify_keys")? {
            let old = json!({"key": key.get("key"), "expired_ts": u64::try_from(expired)?});
            self.old_keys.insert(id.clone(), old);
        }
        self.write_old_keys()?;
        fs::remove_file(self.folder.join("signing.key"))?;
        run(self.command()?.arg("--generate-keys"))?;
        self.boot().await
    }

    /// Registers a user.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn user(&self, name: &str) -> Result<Client> {
        Client::register(&self.http, &self.url, name).await
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(format!("log-{}.txt", self.starts))
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.iter().skip(lines.len().saturating_sub(60));
        tail.copied().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Synapse {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() || std::env::var_os("WEFT_TEST_LOGS").is_some() {
            eprintln!("--- log of Synapse ---\n{}", self.log_tail());
        }
    }
}
