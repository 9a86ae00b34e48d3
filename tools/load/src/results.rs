//! The figures of `RESULTS.md`: the kept figures as one table with the goals and the source of each.
//!
//! Must not change anything but the text between the two marks.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

use crate::report::{Figure, Run, rounded};

const BEGIN: &str = "<!-- figures: written by `make load` -->";
const END: &str = "<!-- end of figures -->";

/// The order of the table.
const SCENARIOS: [&str; 17] = [
    "edit",
    "seen",
    "open",
    "crowd",
    "events",
    "sync",
    "federation-in",
    "join",
    "growth",
    "history",
    "edit-rest",
    "audit",
    "media",
    "search",
    "hostile",
    "large",
    "restart",
];

/// The goals: scenario, prefix of the figure's name, and limit.
const GOALS: &[(&str, &str, Goal)] = &[
    ("edit", "server CPU an edit", Goal::AtMost(30.0)),
    ("edit", "edits a second", Goal::AtLeast(10_000.0)),
    ("seen", "edit to seen, 10 editors", Goal::OfBestPeer(0.5)),
    ("seen", "edit to seen, 100 editors", Goal::OfBestPeer(0.5)),
    ("seen", "edit to seen on the other server, P99", Goal::AtMost(80.0)),
    ("open", "memory an open document, idle", Goal::AtMost(40.0)),
    ("open", "memory an open document", Goal::AtMost(130.0)),
    ("open", "late joiner, server CPU", Goal::AtMost(1.0)),
    ("open", "late joiner after a restart, server CPU", Goal::AtMost(1.0)),
    ("crowd", "edit to seen, P99", Goal::AtMost(50.0)),
    ("events", "events a second", Goal::AtLeast(10_000.0)),
    ("federation-in", "events a second", Goal::AtLeast(10_000.0)),
    ("join", "join answered", Goal::OfBestPeer(0.1)),
    ("join", "join until all members", Goal::OfBestPeer(0.1)),
    ("growth", "on disk, times a fresh one", Goal::AtMost(1.2)),
    ("history", "content at the start, P", Goal::AtMost(20.0)),
    ("history", "content at the middle, P", Goal::AtMost(20.0)),
    ("history", "content at the end, P", Goal::AtMost(20.0)),
    ("history", "difference at the start, P", Goal::AtMost(20.0)),
    ("history", "difference at the middle, P", Goal::AtMost(20.0)),
    ("history", "difference at the end, P", Goal::AtMost(20.0)),
    ("history", "blame, P", Goal::AtMost(100.0)),
    ("history", "opening, times a fresh one", Goal::AtMost(1.2)),
    ("search", "query ", Goal::AtMost(20.0)),
    ("search", "edits a second while", Goal::AtLeast(990.0)),
    ("search", "last of these edits to found", Goal::AtMost(20.0)),
    ("hostile", "edit, attacked, P99", Goal::AtMost(50.0)),
    ("hostile", "content, attacked, P99", Goal::AtMost(50.0)),
    ("hostile", "rendered text, attacked, P99", Goal::AtMost(50.0)),
    ("large", "large text: memory", Goal::AtMost(1_000.0)),
    ("large", "many edits: memory", Goal::AtMost(1_000.0)),
    ("large", "large text: opened", Goal::AtMost(5.0)),
    ("large", "many edits: opened", Goal::AtMost(1.0)),
    ("edit-rest", "edits a second by PATCH", Goal::AtLeast(2_000.0)),
    ("media", "media: memory", Goal::AtMost(32.0)),
    ("audit", "audit: events a second", Goal::AtLeast(20_000.0)),
    ("restart", "restart to serving", Goal::AtMost(1_000.0)),
];

/// See [`GOALS`].
#[derive(Clone, Copy)]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// A fraction of the best (smallest) value of the peers.
    OfBestPeer(f64),
}

/// Reads the kept figures and rewrites the file.
///
/// # Errors
/// When there are no kept figures, or the file has no marks.
pub fn rewrite(folder: &Path, file: &Path) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let (before, rest) = text.split_once(BEGIN).context("the mark of the beginning is missing")?;
    let (_, after) = rest.split_once(END).context("the mark of the end is missing")?;
    let section = section(&kept(folder)?)?;
    Ok(fs::write(file, format!("{before}{BEGIN}\n\n{section}\n{END}{after}"))?)
}

fn kept(folder: &Path) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for scenario in SCENARIOS {
        let path = folder.join(format!("{scenario}.json"));
        if let Ok(text) = fs::read_to_string(&path) {
            runs.push(serde_json::from_str(&text).with_context(|| path.display().to_string())?);
        }
    }
    Ok(runs)
}

/// The table of figures and the list of runs.
///
/// # Errors
/// When there are no runs.
pub fn section(runs: &[Run]) -> Result<String> {
    let first = runs.first().context("nothing was measured")?;
    let machine = &first.machine;
    let mut text = format!(
        "Machine: {} processors ({}), {:.0} GB of memory, Linux {}; appending 1 KB with fsync takes {} µs (median).\n\n",
        machine.cores,
        machine.processor,
        in_gigabytes(machine.memory),
        machine.kernel,
        rounded(machine.fsync_us)
    );
    text.push_str(
        "| scenario | figure | Weft | goal | reached | others in the same run |\n|---|---|---|---|---|---|\n",
    );
    for run in runs {
        rows(run, &mut text)?;
    }
    text.push_str(
        "\n| scenario | command | commit | load average before and after | took | at (seconds since 1970) |\n",
    );
    text.push_str("|---|---|---|---|---|---|\n");
    for run in runs {
        writeln!(
            text,
            "| {} | `{}` | {} | {:.1}, {:.1} | {:.0} s | {} |",
            run.scenario, run.command, run.commit, run.load.0, run.load.1, run.took, run.at
        )?;
    }
    Ok(text)
}

#[expect(clippy::cast_precision_loss, reason = "shown with no digit after the point")]
fn in_gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

fn is_ours(figure: &Figure) -> bool {
    figure.target.starts_with("Weft")
}

fn rows(run: &Run, text: &mut String) -> Result<()> {
    for figure in run.figures.iter().filter(|figure| is_ours(figure)) {
        let same = |other: &&Figure| other.name == figure.name && !is_ours(other);
        let others: Vec<&Figure> = run.figures.iter().filter(same).collect();
        let goal = GOALS
            .iter()
            .find(|(scenario, name, _)| *scenario == run.scenario && figure.name.starts_with(name))
            .and_then(|(_, _, goal)| goal.limit(&others).map(|limit| (goal, limit)));
        let (goal, reached) = goal.map_or((String::new(), ""), |(goal, limit)| {
            let reached = if goal.holds(figure.value, limit) {
                "yes"
            } else {
                "**no**"
            };
            (goal.shown(limit, &figure.unit), reached)
        });
        let others: Vec<String> = others
            .iter()
            .map(|other| format!("{} {}", other.target, rounded(other.value)))
            .collect();
        let how = figure
            .target
            .strip_prefix("Weft, ")
            .map(|how| format!(" ({how})"))
            .unwrap_or_default();
        writeln!(
            text,
            "| {} | {}{how} | {} {} | {goal} | {reached} | {} |",
            run.scenario,
            figure.name,
            rounded(figure.value),
            figure.unit,
            others.join(", ")
        )?;
    }
    Ok(())
}

impl Goal {
    /// The limit; `None` if it depends on peers that were not measured.
    fn limit(self, others: &[&Figure]) -> Option<f64> {
        match self {
            Self::AtMost(limit) | Self::AtLeast(limit) => Some(limit),
            Self::OfBestPeer(share) => {
                let best = others.iter().map(|other| other.value).min_by(f64::total_cmp)?;
                Some(best * share)
            }
        }
    }

    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::AtLeast(_) => value >= limit,
            Self::AtMost(_) | Self::OfBestPeer(_) => value <= limit,
        }
    }

    fn shown(self, limit: f64, unit: &str) -> String {
        let sense = if matches!(self, Self::AtLeast(_)) {
            "at least"
        } else {
            "at most"
        };
        format!("{sense} {} {unit}", rounded(limit))
    }
}
