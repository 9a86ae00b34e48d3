//! The real binary, as a person or a script calls it: what it says and how it ends.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

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

fn said(output: &Output) -> String {
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
    assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));
    let shown = said(&checked);
    assert!(shown.contains("alpha.example") && shown.contains("127.0.0.1:8448 (plain): client, documents, federation"));

    let before = std::fs::read(file).unwrap();
    let again = weft(&new);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("cannot write the configuration"));
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
    assert!(said(&printed).contains("server_name = \"alpha.example:8448\""));
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
        said(&checked).contains("weft.toml:7: documents.seal_idel: there is no such setting; did you mean seal_idle?")
    );
    let missing = weft(&["serve", "--config", "nowhere/weft.toml"]);
    assert_eq!(missing.status.code(), Some(CONFIG));
    assert!(said(&missing).contains("cannot read the configuration nowhere/weft.toml"));
}

#[test]
fn a_wrong_certificate_is_told_by_its_file() {
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
        ("nonsense.pem", "one.key", Some("holds no certificate in PEM form")),
        ("one.pem", "one.pem", Some("holds no private key in PEM form")),
        ("one.pem", "other.key", Some("cannot be used together")),
        ("one.pem", "one.key", None),
    ];
    for (certificate, key, complaint) in cases {
        let checked = check(
            folder.path(),
            &format!("tls = {{ certificate = \"{certificate}\", private_key = \"{key}\" }}\n"),
        );
        let shown = said(&checked);
        match complaint {
            Some(complaint) => {
                assert_eq!(checked.status.code(), Some(CONFIG), "{shown}");
                assert!(shown.contains(complaint), "{certificate}, {key}: {shown}");
            }
            None => assert_eq!(checked.status.code(), Some(0), "{shown}"),
        }
    }
}

#[test]
fn a_port_in_use_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let file = configured(folder.path(), &address, "");
    let served = weft(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(served.status.code(), Some(UNAVAILABLE), "{}", said(&served));
    assert!(said(&served).contains(&format!("cannot listen on {address}: another program does already")));
}
