//! Description of the machine of a run, which is recorded with the figures: they depend on it. Must not identify its
//! user.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Number of processors.
    pub cores: usize,
    /// Model name of the processors.
    pub processor: String,
    /// Memory, bytes.
    pub memory: u64,
    /// Median time of appending 1 KB to a file and waiting until it is on disk, microseconds.
    pub fsync_us: f64,
    /// The kernel's release.
    pub kernel: String,
}

/// Number of timed appends.
const APPENDS: usize = 200;

impl Machine {
    /// Reads the properties of this machine.
    ///
    /// # Errors
    /// When the folder for temporary files can't be written.
    pub fn look() -> Result<Self> {
        let processor = field("/proc/cpuinfo", "model name").unwrap_or_default();
        let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
        let memory = memory
            .split_whitespace()
            .next()
            .and_then(|kilobytes| kilobytes.parse::<u64>().ok());
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor,
            memory: memory.unwrap_or_default() * 1024,
            fsync_us: fsync(tempfile::tempdir()?.path())?,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
        })
    }
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn fsync(folder: &Path) -> Result<f64> {
    let mut file = File::create(folder.join("appended"))?;
    let mut times = Vec::with_capacity(APPENDS);
    for _ in 0..APPENDS {
        let began = Instant::now();
        file.write_all(&[b'x'; 1024])?;
        file.sync_data()?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    times.get(APPENDS / 2).copied().context("no append was timed")
}

/// The load average of the last minute.
#[must_use]
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|load| load.parse().ok())
        .unwrap_or_default()
}

/// The commit of this checkout, with a plus sign if it has uncommitted changes.
#[must_use]
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "*.rs", "*.toml"]);
    if changed.is_some_and(|changed| !changed.is_empty()) {
        format!("{commit}+")
    } else {
        commit
    }
}
