//! The binary as users and scripts run it: output and exit codes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption must fail the test"
)]

#[path = "command_line/accounts.rs"]
mod accounts;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const CONFIG: i32 = 78;
const UNAVAILABLE: i32 = 69;

fn weft(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WEFT_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn output_of(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Writes a configuration that listens on this address, with more lines in that `[[listen]]`.
fn configured(folder: &Path, address: &str, more: &str) -> PathBuf {
    let file = folder.join("weft.toml");
    let text = format!(
        "server_name = \"alpha.example\"\ndata_dir = \"data\"\n[[listen]]\naddress = \"{address}\"\nserve = [\"client\"]\n{more}"
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn check(folder: &Path, more: &str) -> Output {
    let file = configured(folder, "127.0.0.1:8008", more);
    weft(&["config", "check", "--config", file.to_str().unwrap()])
}

#[test]
fn a_new_configuration_passes_its_check_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weft.toml");
    let file = file.to_str().unwrap();
    let new = [
        "config",
        "new",
        "--server-name",
        "alpha.example",
        "--data-dir",
        "data",
        "--output",
        file,
    ];
    assert_eq!(weft(&new).status.code(), Some(0));

    let checked = weft(&["config", "check", "--config", file]);
    assert_eq!(checked.status.code(), Some(0), "{}", output_of(&checked));
    let shown = output_of(&checked);
    assert!(shown.contains("alpha.example") && shown.contains("127.0.0.1:8448 (plain): client, documents, federation"));

    let before = std::fs::read(file).unwrap();
    let again = weft(&new);
    assert_eq!(again.status.code(), Some(1));
    assert!(output_of(&again).contains("cannot write the configuration"));
    assert_eq!(std::fs::read(file).unwrap(), before);
}

#[test]
fn without_output_the_configuration_is_printed() {
    let printed = weft(&[
        "config",
        "new",
        "--server-name",
        "alpha.example:8448",
        "--data-dir",
        "/srv/weft",
    ]);
    assert!(output_of(&printed).contains("server_name = \"alpha.example:8448\""));
    let refused = weft(&[
        "config",
        "new",
        "--server-name",
        "not a name",
        "--data-dir",
        "/srv/weft",
    ]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn a_wrong_configuration_is_refused_with_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    let checked = check(folder.path(), "[documents]\nseal_idel = \"2s\"\n");
    assert_eq!(checked.status.code(), Some(CONFIG));
    assert!(
        output_of(&checked)
            .contains("weft.toml:7: documents.seal_idel: there is no such setting; did you mean seal_idle?")
    );
    let missing = weft(&["serve", "--config", "nowhere/weft.toml"]);
    assert_eq!(missing.status.code(), Some(CONFIG));
    assert!(output_of(&missing).contains("cannot read the configuration nowhere/weft.toml"));
}

#[test]
fn a_wrong_certificate_is_reported_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let pair = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(path(&format!("{name}.pem")), made.cert.pem()).unwrap();
        std::fs::write(path(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    };
    pair("one");
    pair("other");
    std::fs::write(path("nonsense.pem"), "nonsense").unwrap();
    let cases = [
        ("no.pem", "one.key", Some("cannot read the certificate")),
        ("one.pem", "no.key", Some("cannot read the private key")),
        ("nonsense.pem", "one.key", Some("contains no certificate in PEM format")),
        ("one.pem", "one.pem", Some("contains no private key in PEM format")),
        ("one.pem", "other.key", Some("cannot be used together")),
        ("one.pem", "one.key", None),
    ];
    for (certificate, key, complaint) in cases {
        let checked = check(
            folder.path(),
            &format!("tls = {{ certificate = \"{certificate}\", private_key = \"{key}\" }}\n"),
        );
        let shown = output_of(&checked);
        match complaint {
            Some(complaint) => {
                assert_eq!(checked.status.code(), Some(CONFIG), "{shown}");
                assert!(shown.contains(complaint), "{certificate}, {key}: {shown}");
                // Like every problem of the configuration: file, line, setting.
                let named = if complaint.contains("key") && !complaint.contains("together") {
                    "weft.toml:6: listen[0].tls.private_key: "
                } else {
                    "weft.toml:6: listen[0].tls.certificate: "
                };
                assert!(shown.contains(named), "{certificate}, {key}: {shown}");
            }
            None => assert_eq!(checked.status.code(), Some(0), "{shown}"),
        }
    }
}

#[test]
fn a_port_in_use_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let file = configured(folder.path(), &address, "");
    let served = weft(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(served.status.code(), Some(UNAVAILABLE), "{}", output_of(&served));
    assert!(output_of(&served).contains(&format!("cannot listen on {address}: another program already uses it")));
}

/// A running server with its log and the socket for its notifications to `systemd`.
struct Served {
    process: std::process::Child,
    notified: std::os::unix::net::UnixDatagram,
    log: PathBuf,
}

impl Served {
    /// Starts a server and waits for its notification that it is ready.
    fn start(file: &Path) -> Self {
        let folder = file.parent().unwrap();
        let socket = folder.join("notify");
        let _ = std::fs::remove_file(&socket);
        let notified = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
        notified
            .set_read_timeout(Some(std::time::Duration::from_secs(60)))
            .unwrap();
        let log = folder.join("log");
        let output = std::fs::File::create(&log).unwrap();
        let process = Self::command(file, &socket).stderr(output).spawn().unwrap();
        let mut served = Self { process, notified, log };
        assert_eq!(served.notification(), "READY=1");
        served
    }

    fn command(file: &Path, socket: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
        command
            .args(["serve", "--stop-with-stdin", "--config"])
            .arg(file)
            .env("NOTIFY_SOCKET", socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        command
    }

    /// Waits until the log contains this; returns the log.
    fn until_logged(&self, text: &str) -> String {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let log = std::fs::read_to_string(&self.log).unwrap();
            if log.contains(text) {
                return log;
            }
            assert!(std::time::Instant::now() < deadline, "no {text:?} in\n{log}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// The address on which it listens.
    fn address(&self) -> std::net::SocketAddr {
        let log = self.until_logged("listening");
        let line = log.lines().find(|line| line.contains("listening")).unwrap();
        let address = line
            .split("address=")
            .nth(1)
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap();
        address.parse().unwrap()
    }

    fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    fn notification(&mut self) -> String {
        let mut buffer = [0; 256];
        let length = self.notified.recv(&mut buffer).unwrap_or_else(|error| {
            panic!(
                "no notification from the server ({error}); its log:\n{}",
                std::fs::read_to_string(&self.log).unwrap()
            )
        });
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_service_manager_is_notified_of_readiness_and_stop() {
    let folder = tempfile::tempdir().unwrap();
    // Port 0: the system chooses a free one.
    let file = configured(folder.path(), "127.0.0.1:0", "");
    let mut served = Served::start(&file);
    drop(served.process.stdin.take());
    assert_eq!(served.notification(), "STOPPING=1");
    assert!(served.process.wait().unwrap().success());
    let log = std::fs::read_to_string(&served.log).unwrap();
    assert!(log.contains("stopped"), "{log}");
}

#[test]
fn a_signal_stops_the_server_gracefully() {
    let folder = tempfile::tempdir().unwrap();
    let file = configured(folder.path(), "127.0.0.1:0", "");
    for signal in ["-INT", "-TERM"] {
        let mut served = Served::start(&file);
        let id = served.process.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        assert_eq!(served.notification(), "STOPPING=1");
        assert!(served.process.wait().unwrap().success());
    }
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused() {
    use weft_store::tables::meta::SCHEMA;
    use weft_store::{Batch, SCHEMA_VERSION, Store};
    use weft_store_rocksdb::{RocksEngine, RocksOptions};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/store");
    std::fs::create_dir_all(&path).unwrap();
    let (engine, _) = RocksEngine::open(&path, &RocksOptions::default()).unwrap();
    let store = Store::open(engine).await.unwrap();
    let mut batch = Batch::new();
    batch.put(&SCHEMA, &(), &(SCHEMA_VERSION + 1));
    store.commit(batch).await.unwrap();
    store.close().await;

    let file = configured(folder.path(), "127.0.0.1:0", "");
    let served = weft(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(served.status.code(), Some(65), "{}", output_of(&served));
    assert!(output_of(&served).contains("use a newer one"));
}

#[tokio::test]
async fn a_store_with_lost_acknowledged_commits_is_refused_until_the_loss_is_accepted() {
    use weft_store::engine::Op;
    use weft_store::{Engine, WriteBatch};
    use weft_store_rocksdb::{RocksEngine, RocksOptions};

    let folder = tempfile::tempdir().unwrap();
    let file = configured(folder.path(), "127.0.0.1:0", "");
    drop(Served::start(&file));
    let path = folder.path().join("data/store");
    let (engine, _) = RocksEngine::open(&path, &RocksOptions::default()).unwrap();
    let put = Op::Put {
        key: vec![0xFE].into(),
        value: vec![1; 1000].into(),
    };
    let batch = WriteBatch {
        ops: vec![put],
        fences: Vec::new(),
    };
    engine.commit(vec![batch]).await.remove(0).unwrap();
    // The state after a crash and the loss of the end of the log by the disk.
    drop(engine);
    let logs = std::fs::read_dir(path.join("rocksdb")).unwrap();
    let logs = logs
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"));
    let log = logs.max_by_key(|log| std::fs::metadata(log).unwrap().len()).unwrap();
    let length = std::fs::metadata(&log).unwrap().len();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(length - 100)
        .unwrap();

    for _ in 0..2 {
        let served = weft(&["serve", "--config", file.to_str().unwrap()]);
        assert_eq!(served.status.code(), Some(65), "{}", output_of(&served));
        assert!(
            output_of(&served).contains("has lost commits that were acknowledged"),
            "{}",
            output_of(&served)
        );
        assert!(
            output_of(&served).contains("store/ACCEPT-LOSS"),
            "{}",
            output_of(&served)
        );
    }
    let acceptance = path.join("ACCEPT-LOSS");
    std::fs::write(&acceptance, "").unwrap();
    drop(Served::start(&file));
    assert!(!acceptance.exists());
    drop(Served::start(&file));
}

#[test]
fn damaged_signing_keys_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let file = configured(folder.path(), "127.0.0.1:0", "");
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/signing-keys"), "ed25519 a nonsense\n").unwrap();
    let served = weft(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(served.status.code(), Some(CONFIG), "{}", output_of(&served));
    assert!(output_of(&served).contains("the signing keys in") && !output_of(&served).contains("nonsense"));
}

#[test]
fn a_new_signing_key_keeps_the_old_one_as_expired() {
    let folder = tempfile::tempdir().unwrap();
    let file = configured(folder.path(), "127.0.0.1:0", "");
    let rotate = || weft(&["keys", "rotate", "--config", file.to_str().unwrap()]);
    let keys = || std::fs::read_to_string(folder.path().join("data/signing-keys")).unwrap();
    let first = rotate();
    assert_eq!(first.status.code(), Some(0), "{}", output_of(&first));
    let lines = keys().lines().count();
    let second = rotate();
    assert!(
        output_of(&second).contains("signs with ed25519:"),
        "{}",
        output_of(&second)
    );
    assert_ne!(output_of(&first), output_of(&second), "each key has its own ID");
    assert_eq!(
        keys().lines().count(),
        lines + 1,
        "no key is deleted: old events must stay verifiable"
    );

    let _served = Served::start(&file);
    let while_running = rotate();
    assert_eq!(
        while_running.status.code(),
        Some(UNAVAILABLE),
        "{}",
        output_of(&while_running)
    );
}

/// GET on a new connection; returns the whole response.
fn get(address: std::net::SocketAddr, path: &str) -> std::io::Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// F15: `weft serve | head` and the like.
#[test]
fn a_server_continues_when_the_reader_of_its_log_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = configured(
        folder.path(),
        &format!("127.0.0.1:{port}"),
        "[log]\nfilter = \"debug\"\n",
    );
    let socket = folder.path().join("notify");
    let notified = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    notified
        .set_read_timeout(Some(std::time::Duration::from_secs(60)))
        .unwrap();
    let mut process = Served::command(&file, &socket).stderr(Stdio::piped()).spawn().unwrap();
    drop(process.stderr.take());
    let log = folder.path().join("log");
    std::fs::write(&log, "").unwrap();
    let mut served = Served { process, notified, log };
    assert_eq!(served.notification(), "READY=1");
    let address = ([127, 0, 0, 1], port).into();
    for _ in 0..3 {
        assert!(get(address, "/health").unwrap().starts_with("HTTP/1.1 200"));
    }
    drop(served.process.stdin.take());
    assert!(served.process.wait().unwrap().success());
}

/// F16, P6: for every command that opens the store.
#[test]
fn a_store_of_another_server_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = configured(folder.path(), "127.0.0.1:0", "");
    drop(Served::start(&file));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("alpha.example", "beta.example")).unwrap();
    let config = file.to_str().unwrap();
    let commands: [&[&str]; 3] = [
        &["serve", "--config", config],
        &["user", "add", "bob", "--generate-password", "--config", config],
        &["keys", "rotate", "--config", config],
    ];
    for command in commands {
        let refused = weft(command);
        assert_eq!(
            refused.status.code(),
            Some(CONFIG),
            "{command:?}: {}",
            output_of(&refused)
        );
        let shown = output_of(&refused);
        assert!(
            shown.contains("is the store of alpha.example, and server_name is beta.example"),
            "{shown}"
        );
    }
    std::fs::write(&file, text).unwrap();
    drop(Served::start(&file));
}

/// The number of lanes is that of the time when the store was created, for every command that opens the store.
#[test]
fn a_store_with_another_number_of_lanes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = configured(folder.path(), "127.0.0.1:0", "[storage]\nlanes = 16\n");
    drop(Served::start(&file));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("lanes = 16", "lanes = 8")).unwrap();
    let config = file.to_str().unwrap();
    let commands: [&[&str]; 2] = [&["serve", "--config", config], &["keys", "rotate", "--config", config]];
    for command in commands {
        let refused = weft(command);
        let shown = output_of(&refused);
        assert_eq!(refused.status.code(), Some(CONFIG), "{command:?}: {shown}");
        assert!(shown.contains("has 16 lanes, and storage.lanes is 8"), "{shown}");
    }
    // Without the setting the store keeps its number.
    std::fs::write(&file, text.replace("lanes = 16", "")).unwrap();
    drop(Served::start(&file));
    std::fs::write(&file, text).unwrap();
    drop(Served::start(&file));
}

/// A store of a version that did not write the server name: the accounts have it.
#[tokio::test]
async fn the_server_name_of_an_older_store_comes_from_its_accounts() {
    use weft_store::tables::meta::SERVER_NAME;
    use weft_store::{Batch, Store};
    use weft_store_rocksdb::{RocksEngine, RocksOptions};

    let folder = tempfile::tempdir().unwrap();
    let file = configured(folder.path(), "127.0.0.1:0", "");
    let config = file.to_str().unwrap();
    let made = weft(&["user", "add", "alice", "--generate-password", "--config", config]);
    assert_eq!(made.status.code(), Some(0), "{}", output_of(&made));
    let path = folder.path().join("data/store");
    let store = Store::open(RocksEngine::open(&path, &RocksOptions::default()).unwrap().0)
        .await
        .unwrap();
    let mut batch = Batch::new();
    batch.delete(&SERVER_NAME, &());
    store.commit(batch).await.unwrap();
    store.close().await;
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("alpha.example", "beta.example")).unwrap();
    let refused = weft(&["serve", "--config", config]);
    assert_eq!(refused.status.code(), Some(CONFIG), "{}", output_of(&refused));
    std::fs::write(&file, text).unwrap();
    drop(Served::start(&file));
}

/// T135: also for an existing directory, and for all files created in it.
#[test]
fn the_data_directory_is_inaccessible_to_other_users() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = configured(folder.path(), "127.0.0.1:0", "");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let served = Served::start(&file);
    served.until_logged("removed the access of other system users");
    let mut folders = vec![data];
    while let Some(path) = folders.pop() {
        let found = std::fs::metadata(&path).unwrap();
        let mode = found.permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} has {mode:o}", path.display());
        if found.is_dir() {
            folders.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

/// F14: SIGHUP does not end the process, and a renewed certificate is used.
#[test]
fn sighup_reloads_certificates_and_keeps_the_old_one_if_the_new_is_wrong() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let write = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("one.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("one.key"), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    };
    let first = write();
    let tls = "tls = { certificate = \"one.pem\", private_key = \"one.key\" }\n";
    let mut served = Served::start(&configured(folder.path(), "127.0.0.1:0", tls));
    let address = served.address();
    let shakes_hands = |certificate: &rustls_pki_types::CertificateDer<'static>| {
        let mut trusted = rustls::RootCertStore::empty();
        trusted.add(certificate.clone()).unwrap();
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(trusted)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let mut session = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        while session.is_handshaking() {
            if session.complete_io(&mut stream).is_err() {
                return false;
            }
        }
        true
    };
    assert!(shakes_hands(&first));
    let second = write();
    served.signal("-HUP");
    served.until_logged("certificate reloaded");
    assert!(shakes_hands(&second) && !shakes_hands(&first));
    std::fs::write(folder.path().join("one.pem"), "nonsense").unwrap();
    served.signal("-HUP");
    served.until_logged("the previous one stays in use");
    assert!(shakes_hands(&second));
    drop(served.process.stdin.take());
    assert!(served.process.wait().unwrap().success());
}

#[test]
fn health_readiness_and_the_usage_of_budgets_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(&configured(folder.path(), "127.0.0.1:0", ""));
    let address = served.address();
    for (path, status) in [
        ("/health", "200"),
        ("/ready", "200"),
        ("/metrics", "404"),
        ("/nothing", "404"),
    ] {
        let answer = get(address, path).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
    served.signal("-USR1");
    let mut budgets = budgets_in_source();
    let is_name = |name: &String| name.chars().all(|letter| letter == '_' || letter.is_ascii_lowercase());
    budgets.retain(|name| is_name(name) && !name.starts_with("test_"));
    assert!(budgets.len() >= 11, "{budgets:?}");
    for name in budgets
        .iter()
        .map(String::as_str)
        .chain(["history", "redacted_updates"])
    {
        served.until_logged(&format!("name=\"{name}\""));
    }
}

/// The names of all budgets in the crates of the server.
fn budgets_in_source() -> std::collections::BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut folders = vec![root.join("homeserver"), root.join("federation")];
    let mut names = std::collections::BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(path).unwrap();
                // `Budget::new(name, …)` and `KeyedBudget::new(name, …)`.
                for made in text.split("Budget::new(").skip(1) {
                    let name = made
                        .trim_start()
                        .strip_prefix('"')
                        .and_then(|rest| rest.split('"').next());
                    names.extend(name.map(str::to_owned));
                }
            }
        }
    }
    names
}

/// T120: connections above the limit of a network are closed at once, and descriptors come back.
#[test]
fn connections_above_the_limit_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let limits = "[limits]\nconnections_per_network = 5\n";
    let served = Served::start(&configured(folder.path(), "127.0.0.1:0", limits));
    let address = served.address();
    let mut open: Vec<_> = (0..6).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    // The order in which the server counts them is not defined.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while open.len() == 6 {
        assert!(std::time::Instant::now() < deadline, "no connection is closed");
        open.retain(|stream| {
            use std::io::Read as _;
            stream.set_nonblocking(true).unwrap();
            let mut stream = stream;
            matches!(stream.read(&mut [0; 16]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(open.len(), 5, "more connections are closed than necessary");
    drop(open.pop());
    // The server notices the closed connections later.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !get(address, "/health").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
        assert!(std::time::Instant::now() < deadline);
    }
}
