//! The script of the README, as it stands there, against a real server: what it promises is what it prints.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::{env, path::Path};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use weft_conformance_tests::{server::binary, world::World};

/// The block of the README that begins with this line.
const FIRST_LINE: &str = "# An access token is needed";

fn script() -> Result<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme)?;
    let start = readme.find(FIRST_LINE).context("the README has no script")?;
    let rest = &readme[start..];
    let end = rest.find("```").context("the script has no end")?;
    Ok(rest[..end].to_owned())
}

#[tokio::test]
async fn the_script_of_the_readme_does_what_it_says() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let folder = tempfile::tempdir()?;
    let programs = binary()?.parent().context("no directory")?.to_owned();
    let path = env::join_paths(
        [programs]
            .into_iter()
            .chain(env::split_paths(&env::var_os("PATH").unwrap())),
    )?;
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script()?])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("SERVER", &alice.url)
        .env("TOKEN", &alice.token)
        .env("CURL_CA_BUNDLE", world.authority.certificate())
        .kill_on_drop(true)
        .output()
        .await?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{printed}\n{errors}");
    let lines: Vec<&str> = printed.lines().map(str::trim).collect();
    for expected in [
        "Present: Alice, Bob",
        "Present: Alice, Bob Marley",
        "Present: Alice",
        "true",
        "GOOD",
    ] {
        ensure!(lines.contains(&expected), "{expected} is not in:\n{printed}");
    }
    Ok(())
}
