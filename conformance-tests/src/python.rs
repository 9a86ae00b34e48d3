//! Python packages for stock software that the tests run. Each set is installed from the package registry into a
//! separate virtual environment in the directory of the test binaries. Must not leave an incomplete environment.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// Runs a command and waits until it exits.
///
/// # Errors
/// When it can't be started or fails; the error contains its standard error.
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

/// The path of the Python interpreter of the environment with this name. The first call creates the environment with
/// these arguments of pip. Test processes that call this at the same time are serialised by a file lock. Another set of
/// packages needs another name.
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

/// Only the scripts of the environment contain its path, and they are not used: modules are run by its Python. So the
/// environment can be created elsewhere and renamed once it is complete.
fn make(target: &Path, ready: &Path, pip: &[&str]) -> Result<()> {
    let own = tempfile::Builder::new().prefix("python-").tempdir_in(target)?;
    run(Command::new("python3").args(["-m", "venv"]).arg(own.path()))?;
    run(Command::new(own.path().join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(pip))?;
    fs::rename(own.path(), ready).with_context(|| ready.display().to_string())
}
