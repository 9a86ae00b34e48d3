//! What an import leaves out, counted by kind. Must not grow with the input.

use std::collections::BTreeMap;

use weft_render::LostContent;
use weft_wire::limits::{MAX_IMPORT_LOSSES, MAX_LOST_EXAMPLE_CHARS};

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Lost(BTreeMap<String, (u64, Option<String>)>);

impl Lost {
    /// Counts one thing that is left out.
    pub(super) fn add(&mut self, kind: &str, example: Option<&str>) {
        let is_new = !self.0.contains_key(kind);
        let kind = if is_new && self.0.len() >= MAX_IMPORT_LOSSES {
            "other"
        } else {
            kind
        };
        let short = |text: &str| text.chars().take(MAX_LOST_EXAMPLE_CHARS).collect();
        let entry = self.0.entry(kind.to_owned()).or_default();
        entry.0 = entry.0.saturating_add(1);
        if entry.1.is_none() {
            entry.1 = example.filter(|text| !text.is_empty()).map(short);
        }
    }

    /// The counts, by kind.
    pub(super) fn list(self) -> Vec<LostContent> {
        let lost = self.0.into_iter();
        lost.map(|(kind, (count, example))| LostContent { kind, count, example })
            .collect()
    }
}
