//! Processor time and memory of a process, from Linux' `/proc`. Must not need privileges.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};

/// Ticks per second in `/proc/PID/stat`. It is 100 on all current Linux systems (`getconf CLK_TCK`).
const TICKS: u32 = 100;

/// Processor time of a process, user and system.
///
/// # Errors
/// When there is no such process.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    // The name, in parentheses, may contain anything; the fields after it are counted from its end.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u32>);
    let mut next = || times.next().context("too few fields")?.context("no number");
    Ok(Duration::from_secs(1) * (next()? + next()?) / TICKS)
}

/// Processor time of a process and of those that it started and that still run.
///
/// # Errors
/// When there is no such process.
pub fn cpu_of_all(pid: u32) -> Result<Duration> {
    let mut used = cpu(pid)?;
    for entry in fs::read_dir("/proc")? {
        let Some(other) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended meanwhile.
        if parent(other) == Some(pid) {
            used += cpu(other).unwrap_or_default();
        }
    }
    Ok(used)
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

/// Waits until these processes are idle: less than a twentieth of a processor each, for half a second.
///
/// # Errors
/// When one of them has exited, or they don't become idle.
pub async fn at_rest(pids: &[u32]) -> Result<()> {
    const LOOK: Duration = Duration::from_millis(500);
    const MAX_LOOKS: u32 = 240;
    let used = || -> Result<Vec<Duration>> { pids.iter().copied().map(cpu).collect() };
    let mut before = used()?;
    for _ in 0..MAX_LOOKS {
        tokio::time::sleep(LOOK).await;
        let now = used()?;
        if now.iter().zip(&before).all(|(now, before)| *now - *before < LOOK / 20) {
            return Ok(());
        }
        before = now;
    }
    bail!("the servers did not become idle")
}

/// Memory of a process, bytes: resident pages minus shared ones.
///
/// # Errors
/// When there is no such process.
pub fn memory(pid: u32) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).with_context(|| format!("process {pid}"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).context("no Rss")?;
    Ok(kilobytes.parse::<u64>()? * 1024)
}

/// The limit of open files of this process.
#[must_use]
pub fn open_files_allowed() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(usize::MAX)
}
