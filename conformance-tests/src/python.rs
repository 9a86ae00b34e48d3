//! Python packages from their registry, for stock software that the tests run: each set in a virtual environment of its
//! own beside the test binaries. An environment is whole or is not there.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// Runs a command to its end.
///
/// # Errors
/// When it can't be run or fails; with what it said.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The Python of the environment of this name, which is made the first time by what pip is told. Tests in several
/// processes may come at once: one makes it, the others wait. Another set of packages needs another name.
///
/// # Errors
/// When Python is missing or the packages can't be installed.
pub fn environment(name: &str, pip: &[&str]) -> Result<PathBuf> {
    let tests = std::env::current_exe()?;
    let target = tests.ancestors().nth(2).context("no target folder")?;
    let ready = target.join(name);
    let python = ready.join("bin/python");
    let lock = File::create(target.join(format!("{name}.lock")))?;
    lock.lock()?;
    if !python.exists() {
        make(target, &ready, pip)?;
    }
    Ok(python)
}

/// Only the environment's scripts know its path, and they are not used: modules are run by its Python. So it can be made
/// elsewhere and moved when it is whole.
fn make(target: &Path, ready: &Path, pip: &[&str]) -> Result<()> {
    let own = tempfile::Builder::new().prefix("python-").tempdir_in(target)?;
    run(Command::new("python3").args(["-m", "venv"]).arg(own.path()))?;
    run(Command::new(own.path().join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(pip))?;
    fs::rename(own.path(), ready).with_context(|| ready.display().to_string())
}
