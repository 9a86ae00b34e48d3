//! Log lines about many things that another server sent: how many are wrong, and one example.
//!
//! Whatever a loop over another server's input has to say is said once, after the loop. Must not log by itself for each
//! item: who sends fifty thousand bad events would otherwise write as many lines (T136).

use std::fmt::Display;

use crate::client::shorten;

/// Things that were not taken.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    count: u64,
    example: Option<String>,
}

impl Tally {
    /// Counts one; the first is the example.
    pub(crate) fn note(&mut self, reason: &(impl Display + ?Sized)) {
        self.count += 1;
        if self.example.is_none() {
            self.example = Some(shorten(&reason.to_string()));
        }
    }

    /// One line, where anything was counted.
    pub(crate) fn warn(self, what: impl Display) {
        if let Some(example) = self.example {
            tracing::warn!(count = self.count, example, "{what}");
        }
    }

    /// The same for what is of interest to developers only.
    pub(crate) fn debug(self, what: impl Display) {
        if let Some(example) = self.example {
            tracing::debug!(count = self.count, example, "{what}");
        }
    }
}
