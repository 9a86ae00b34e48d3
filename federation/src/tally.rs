//! Summary log lines for input of another server: how many items are wrong, and one example.
//!
//! A loop over another server's input logs once, after the loop. Must not log each item: 50,000 bad events would
//! otherwise cause as many lines (T136).

use std::fmt::Display;

use crate::client::shorten;

/// Counts refused items.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    count: u64,
    example: Option<String>,
}

impl Tally {
    /// Counts one item; the first is the example.
    pub(crate) fn note(&mut self, reason: &(impl Display + ?Sized)) {
        self.count += 1;
        if self.example.is_none() {
            self.example = Some(shorten(&reason.to_string()));
        }
    }

    /// Logs one line at level warn, if anything was counted.
    pub(crate) fn warn(self, what: impl Display) {
        if let Some(example) = self.example {
            tracing::warn!(
                event = "federation.items_refused",
                count = self.count,
                example,
                "{what}"
            );
        }
    }

    /// The same at level debug.
    pub(crate) fn debug(self, what: impl Display) {
        if let Some(example) = self.example {
            tracing::debug!(count = self.count, example, "{what}");
        }
    }
}
