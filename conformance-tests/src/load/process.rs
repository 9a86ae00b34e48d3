//! What the system says about a process: processor time and memory. Linux' `/proc` alone.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

/// Ticks of `/proc/PID/stat` a second. It is 100 on every Linux of today (`getconf CLK_TCK`).
const TICKS: u32 = 100;

/// Processor time that a process has used, its own and the kernel's for it.
///
/// # Errors
/// When there is no such process.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    // The name, in brackets, may hold anything; the fields after it are counted from its end.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u32>);
    let mut next = || times.next().context("too few fields")?.context("no number");
    Ok(Duration::from_secs(1) * (next()? + next()?) / TICKS)
}

/// Memory that a process holds, bytes: its pages that are in memory, less what it shares with others.
///
/// # Errors
/// When there is no such process.
pub fn memory(pid: u32) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).with_context(|| format!("process {pid}"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).context("no Rss")?;
    Ok(kilobytes.parse::<u64>()? * 1024)
}

/// Files that this process may have open at once.
#[must_use]
pub fn open_files_allowed() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(usize::MAX)
}
