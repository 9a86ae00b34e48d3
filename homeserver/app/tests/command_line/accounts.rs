//! Accounts managed on the command line, and the effect on clients of the server.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{Served, UNAVAILABLE, configured, output_of, weft};

/// The same with a configuration and with standard input.
fn weft_with_input(arguments: &[&str], file: &Path, input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WEFT_")) {
        command.env_remove(name);
    }
    command.args(arguments).arg("--config").arg(file);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    // A program that exits without reading its input is not an error.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    process.wait_with_output().unwrap()
}

#[test]
fn accounts_are_created_while_no_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = configured(folder.path(), "127.0.0.1:0", "");
    let add = |arguments: &[&str]| {
        let all: Vec<&str> = ["user", "add"]
            .iter()
            .chain(arguments)
            .copied()
            .chain(["--config", file.to_str().unwrap()])
            .collect();
        weft(&all)
    };
    let made = add(&["alice", "--admin", "--generate-password"]);
    assert_eq!(made.status.code(), Some(0), "{}", output_of(&made));
    assert!(output_of(&made).contains("created administrator @alice:alpha.example\npassword: "));
    let again = add(&["@alice:alpha.example", "--generate-password"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(output_of(&again).contains("the user name is taken"));
    let foreign = add(&["@bob:beta.example", "--generate-password"]);
    assert!(output_of(&foreign).contains("is not a user of alpha.example"));
    let unasked = add(&["bob"]);
    assert!(output_of(&unasked).contains("standard input is not a terminal"));

    let invalid = add(&["\u{c6}lice", "--generate-password"]);
    assert!(
        output_of(&invalid).contains("is not a valid user name"),
        "{}",
        output_of(&invalid)
    );

    let weak = weft_with_input(&["user", "add", "dave", "--password-stdin"], &file, "1234567\n");
    assert_eq!(weak.status.code(), Some(1));
    assert!(
        output_of(&weak).contains("a password has at least 8 characters"),
        "{}",
        output_of(&weak)
    );

    let _served = Served::start(&file);
    let while_running = weft(&["keys", "rotate", "--config", file.to_str().unwrap()]);
    assert_eq!(while_running.status.code(), Some(UNAVAILABLE));
    assert!(output_of(&while_running).contains("is in use: another weft runs with this data_dir"));
}

/// The commands have the same effect with a running server and with the store opened by the command.
#[test]
fn accounts_are_managed_with_and_without_a_running_server() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = configured(folder.path(), "127.0.0.1:0", "");
    let user = |arguments: &[&str], input: &str| {
        let all: Vec<&str> = ["user"].iter().chain(arguments).copied().collect();
        let output = weft_with_input(&all, &file, input);
        (output.status.code(), output_of(&output))
    };
    let socket = folder.path().join("data/operator.sock");
    for (runs, alice, bob) in [(true, "alice", "bob"), (false, "alice2", "bob2")] {
        let served = runs.then(|| Served::start(&file));
        if runs {
            let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let id = |name: &str| format!("@{name}:alpha.example");
        assert_eq!(
            user(&["add", alice, "--admin", "--password-stdin"], "correct horse\n"),
            (Some(0), format!("created administrator {}\n", id(alice)))
        );
        let (code, made) = user(&["add", &id(bob), "--generate-password"], "");
        assert_eq!(code, Some(0), "{made}");
        assert!(made.contains("password: "), "{made}");

        let (code, again) = user(&["add", alice, "--generate-password"], "");
        assert_eq!(code, Some(1));
        assert!(again.contains("taken"), "{again}");
        let (code, weak) = user(&["password", alice, "--password-stdin"], "x\n");
        assert_eq!(code, Some(1));
        assert!(
            weak.to_lowercase().contains("a password has at least 8 characters"),
            "{weak}"
        );
        for command in ["password", "deactivate"] {
            let password: &[&str] = if command == "password" {
                &["--generate-password"]
            } else {
                &[]
            };
            let (code, unknown) = user(&[&[command, "nobody"], password].concat(), "");
            assert_eq!(code, Some(1));
            assert!(unknown.to_lowercase().contains("account not found"), "{unknown}");
        }

        let (code, set) = user(&["password", bob, "--password-stdin"], "battery staple\n");
        assert_eq!(code, Some(0), "{set}");
        assert_eq!(set, format!("set the password of {} and ended all sessions\n", id(bob)));
        let (code, deactivated) = user(&["deactivate", bob, "--erase"], "");
        assert_eq!(code, Some(0), "{deactivated}");
        assert!(deactivated.starts_with(&format!("deactivated {}\n", id(bob))));
        assert_eq!(deactivated.contains("while the server runs"), !runs);

        let (code, listed) = user(&["list"], "");
        assert_eq!(code, Some(0), "{listed}");
        assert!(
            listed.contains(&format!("{}\tadministrator\t20", id(alice))),
            "{listed}"
        );
        assert!(listed.contains(&format!("{}\tdeactivated\t20", id(bob))), "{listed}");

        if let Some(mut served) = served {
            drop(served.process.stdin.take());
            assert!(served.process.wait().unwrap().success());
            assert!(!socket.exists());
        }
    }
    // A socket left by a killed server causes no error.
    drop(Served::start(&file));
    assert!(socket.exists());
    assert_eq!(user(&["list"], "").0, Some(0));
    let _served = Served::start(&file);
    assert_eq!(user(&["list"], "").0, Some(0));
}

/// A running server that answers on a known port, with an account `alice` whose password is `correct horse`.
struct Reached {
    _served: Served,
    file: PathBuf,
    url: String,
    client: reqwest::Client,
}

impl Reached {
    fn start(folder: &Path, more: &str) -> Self {
        let file = configured(folder, "127.0.0.1:0", "");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{more}\n{text}")).unwrap();
        let served = Served::start(&file);
        let address = served.address();
        let added = weft_with_input(&["user", "add", "alice", "--password-stdin"], &file, "correct horse\n");
        assert_eq!(added.status.code(), Some(0), "{}", output_of(&added));
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            _served: served,
            file,
            url: format!("http://{address}/_matrix/client/v3"),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    async fn login(&self, password: &str, forwarded_for: &str) -> (u16, serde_json::Value) {
        let body = serde_json::json!({"type": "m.login.password", "user": "alice", "password": password});
        let request = self.client.post(format!("{}/login", self.url)).json(&body);
        let answer = request.header("x-forwarded-for", forwarded_for).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn is_signed_in(&self, token: &str) -> bool {
        let request = self
            .client
            .get(format!("{}/account/whoami", self.url))
            .bearer_auth(token);
        request.send().await.unwrap().status().is_success()
    }
}

#[tokio::test]
async fn the_address_of_a_client_comes_from_trusted_proxies_only() {
    let folder = tempfile::tempdir().unwrap();
    let trusting = Reached::start(folder.path(), "trusted_proxies = [\"127.0.0.1\"]");
    for _ in 0..10 {
        assert_eq!(trusting.login("a guess", "198.51.100.9, 192.0.2.1").await.0, 403);
    }
    assert_eq!(trusting.login("a guess", "198.51.100.8, 192.0.2.1").await.0, 429);
    assert_eq!(trusting.login("correct horse", "192.0.2.2").await.0, 200);

    let folder = tempfile::tempdir().unwrap();
    let other = Reached::start(folder.path(), "");
    for n in 0..10 {
        assert_eq!(other.login("a guess", &format!("192.0.2.{n}")).await.0, 403);
    }
    assert_eq!(other.login("a guess", "192.0.2.200").await.0, 429);
}

#[tokio::test]
async fn an_operator_ends_sessions_of_a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Reached::start(folder.path(), "");
    let user = |arguments: &[&str], input: &str| {
        let output = weft_with_input(&[&["user"], arguments].concat(), &server.file, input);
        assert_eq!(output.status.code(), Some(0), "{}", output_of(&output));
    };
    let sign_in = async |password: &str| {
        let (status, session) = server.login(password, "").await;
        assert_eq!(status, 200, "{session}");
        session["access_token"].as_str().unwrap().to_owned()
    };
    let first = sign_in("correct horse").await;
    user(
        &["password", "alice", "--keep-sessions", "--password-stdin"],
        "battery staple\n",
    );
    assert!(server.is_signed_in(&first).await);
    user(&["password", "alice", "--password-stdin"], "correct battery\n");
    assert!(!server.is_signed_in(&first).await);
    assert_eq!(server.login("battery staple", "").await.0, 403);
    let second = sign_in("correct battery").await;
    user(&["deactivate", "alice"], "");
    assert!(!server.is_signed_in(&second).await);
    assert_eq!(server.login("correct battery", "").await.0, 403);
}
