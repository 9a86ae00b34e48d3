//! What the system says about a process: processor time and memory. Linux' `/proc` alone.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};

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

/// Waits until these processes have nothing to do: less than a twentieth of a processor each, for half a second.
///
/// # Errors
/// When one of them is no more, or they never come to rest.
pub async fn at_rest(pids: &[u32]) -> Result<()> {
    const LOOK: Duration = Duration::from_millis(500);
    const MOST_LOOKS: u32 = 240;
    let used = || -> Result<Vec<Duration>> { pids.iter().copied().map(cpu).collect() };
    let mut before = used()?;
    for _ in 0..MOST_LOOKS {
        tokio::time::sleep(LOOK).await;
        let now = used()?;
        if now.iter().zip(&before).all(|(now, before)| *now - *before < LOOK / 20) {
            return Ok(());
        }
        before = now;
    }
    bail!("the servers did not come to rest")
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
