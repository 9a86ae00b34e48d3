//! The description of the document API (`/_weft/openapi.json`) against a real server: schemathesis sends requests that the
//! description allows and requests that it does not allow, and compares the answers with it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};
use weft_conformance_tests::{
    client::{Client, segment},
    external::needs_own_servers,
    python,
    world::World,
};

const SCHEMATHESIS: &str = "4.32.5";
/// Requests of each operation that are made up; those that try each limit of each parameter are in addition.
const EXAMPLES: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(300);

/// What requests are about: operations that end something have a document each, so that the others go on with theirs.
struct Subjects {
    document: String,
    comment: String,
    suggestion: String,
    approval: String,
    member: String,
    file: String,
    link: String,
    /// By operation.
    documents: Vec<(&'static str, String)>,
}

async fn made(client: &Client, room: &str, rest: &str, body: Value, id: &str) -> Result<String> {
    let path = format!("/_weft/client/v1/documents/{}{rest}", segment(room));
    let answer = client.post(&path, body).await?;
    Ok(answer[id].as_str().context("no id")?.to_owned())
}

async fn with_text(client: &Client, title: &str) -> Result<String> {
    let create = json!({"title": title, "kind": "text"});
    let made = client.post("/_weft/client/v1/documents", create).await?;
    let room = made["docId"].as_str().context("no docId")?.to_owned();
    let edit = json!({"changes": [{"type": "insert", "at": 0, "text": "Weft keeps documents."}], "clientVersion": 0});
    let path = format!("/_weft/client/v1/documents/{}/edit", segment(&room));
    client.request(Method::PATCH, &path, Some(edit)).await?.ok()?;
    Ok(room)
}

impl Subjects {
    async fn make(world: &World) -> Result<(Client, Self)> {
        let alice = world.user(0, "alice").await?;
        let bob = world.user(0, "bob").await?;
        let document = with_text(&alice, "described").await?;
        alice.give_role(&document, &bob.user, "editor").await?;
        bob.accept_invitation(&document).await?;
        let comment = json!({"body": "Why?", "from": 0, "to": 4});
        let changes = json!([{"type": "insert", "at": 0, "text": "Today, "}]);
        let mut documents = Vec::new();
        for operation in [
            "deleteDocument",
            "lockDocument",
            "transferDocument",
            "removeMember",
            "setAccess",
        ] {
            documents.push((operation, with_text(&alice, operation).await?));
        }
        let subjects = Self {
            comment: made(&alice, &document, "/comments", comment, "eventId").await?,
            suggestion: made(
                &alice,
                &document,
                "/suggestions",
                json!({"changes": changes}),
                "eventId",
            )
            .await?,
            approval: made(&alice, &document, "/approvals", json!({}), "eventId").await?,
            link: made(&alice, &document, "/links", json!({"role": "viewer"}), "linkId").await?,
            file: alice.upload("a.txt", "text/plain", b"a file".to_vec()).await?,
            member: bob.user.clone(),
            document,
            documents,
        };
        Ok((alice, subjects))
    }

    /// The configuration: which checks are made, and what the parameters of paths are.
    fn configuration(&self) -> Result<String> {
        let file = self.file.rsplit('/').next().context("no media id")?;
        // What is too large is 413, and a body that breaks off is 408.
        let rejected = "[checks.negative_data_rejection]\nexpected-statuses = [400, 401, 403, 404, 405, 408, 409, 413, 422, 501]\n";
        let mut text = format!("{rejected}[parameters]\n");
        for (name, value) in [("id", &self.document), ("user", &self.member), ("link", &self.link)] {
            writeln!(text, "\"path.{name}\" = {}", json!(value))?;
        }
        let about = [
            ("include-tag", "Comments", "event", self.comment.as_str()),
            ("include-tag", "Suggestions", "event", &self.suggestion),
            ("include-operation-id", "withdrawApproval", "event", &self.approval),
            ("include-operation-id", "removeFile", "id", file),
        ];
        let own = self.documents.iter();
        let own = own.map(|(operation, room)| ("include-operation-id", *operation, "id", room.as_str()));
        for (filter, of, name, value) in about.into_iter().chain(own) {
            writeln!(
                text,
                "[[operations]]\n{filter} = \"{of}\"\nparameters = {{ \"path.{name}\" = {} }}",
                json!(value)
            )?;
        }
        Ok(text)
    }
}

async fn python() -> Result<std::path::PathBuf> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/schemathesis.txt");
    let install = tokio::task::spawn_blocking(move || {
        let list = list.to_string_lossy().into_owned();
        let name = format!("schemathesis-{SCHEMATHESIS}");
        python::environment(&name, &["--only-binary", ":all:", "--no-deps", "-r", &list])
    });
    install.await?
}

#[tokio::test]
async fn the_description_is_valid_by_the_standard() -> Result<()> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python().await?);
    command
        .arg(tests.join("python/described.py"))
        .arg(tests.join("../spec/openapi.json"));
    let output = command.output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[tokio::test]
async fn answers_are_as_the_description_says() -> Result<()> {
    if needs_own_servers("answers_are_as_the_description_says") {
        return Ok(());
    }
    let python = python().await?;
    let world = World::new(1).await?;
    let (alice, subjects) = Subjects::make(&world).await?;
    let folder = tempfile::tempdir()?;
    let configuration = folder.path().join("schemathesis.toml");
    fs::write(&configuration, subjects.configuration()?)?;
    let mut command = Command::new(python);
    command
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(&configuration)
        // The requests are the same each time.
        .args(["run", "--no-color", "--generation-deterministic"])
        .args(["--phases", "examples,coverage,fuzzing", "--workers", "1", "--continue-on-failure"])
        .args(["--max-examples", &EXAMPLES.to_string()])
        .args(["--header", &format!("Authorization: Bearer {}", alice.token)])
        .arg("--tls-verify")
        .arg(world.authority.certificate())
        .args(["--exclude-checks", "positive_data_acceptance", "--request-timeout", "20"])
        // A stream has no end.
        .args(["--exclude-operation-id", "streamEvents"])
        .arg(format!("{}/_weft/openapi.json", alice.url))
        .current_dir(folder.path())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output())
        .await
        .context("schemathesis did not end")??;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
