//! Figures: their names, their presentation, and their storage for the table of `RESULTS.md`. Must not measure.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// One measured number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// The name of the server.
    pub target: String,
    /// The name of the figure.
    pub name: String,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: String,
}

impl Figure {
    /// A figure; see the fields.
    #[must_use]
    pub fn new(target: &str, name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self {
            target: target.to_owned(),
            name: name.into(),
            value,
            unit: unit.to_owned(),
        }
    }
}

/// The result of one scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Name of the scenario.
    pub scenario: String,
    /// The command line to repeat it.
    pub command: String,
    /// The commit that was measured.
    pub commit: String,
    /// See [`Machine`].
    pub machine: Machine,
    /// Load averages (1 minute) before and after the run.
    pub load: (f64, f64),
    /// Time of the run, seconds since 1970.
    pub at: u64,
    /// Duration, seconds.
    pub took: f64,
    /// The figures.
    pub figures: Vec<Figure>,
}

/// Median and 99th percentile, milliseconds.
pub fn percentiles(target: &str, name: &str, mut times: Vec<Duration>) -> Vec<Figure> {
    times.sort();
    let at = |share: usize| {
        let index = (times.len() * share / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    vec![
        Figure::new(target, format!("{name}, P50"), at(50), "ms"),
        Figure::new(target, format!("{name}, P99"), at(99), "ms"),
    ]
}

/// A number rounded to three significant digits.
#[must_use]
pub fn rounded(value: f64) -> String {
    let size = value.abs();
    if size >= 1_000.0 {
        grouped(value)
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Adds a comma after each three digits.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// A table for the terminal, one line per figure.
#[must_use]
pub fn table(runs: &[Run]) -> String {
    let mut lines = Vec::new();
    for run in runs {
        lines.push(format!(
            "{} (load {:.1} to {:.1}, {:.0} s)",
            run.scenario, run.load.0, run.load.1, run.took
        ));
        let width = |of: fn(&Figure) -> &str| run.figures.iter().map(|figure| of(figure).chars().count()).max();
        let (names, targets) = (width(|figure| &figure.name), width(|figure| &figure.target));
        for figure in &run.figures {
            lines.push(format!(
                "  {:<names$}  {:<targets$}  {:>9} {}",
                figure.name,
                figure.target,
                rounded(figure.value),
                figure.unit,
                names = names.unwrap_or(0),
                targets = targets.unwrap_or(0),
            ));
        }
    }
    lines.join("\n")
}

/// Writes a run to a folder; replaces the one before.
///
/// # Errors
/// When the folder can't be written.
pub fn keep(folder: &Path, run: &Run) -> Result<()> {
    fs::create_dir_all(folder)?;
    let text = serde_json::to_string_pretty(run)? + "\n";
    let path = folder.join(format!("{}.json", run.scenario));
    fs::write(&path, text).with_context(|| path.display().to_string())
}
