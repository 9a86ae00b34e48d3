//! Queued awareness: keeps the newest entry of each client id. Pure.

use std::collections::BTreeMap;

use weft_wire::{limits::MAX_AWARENESS_CLIENTS_PER_DEVICE, live::awareness::Entry};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cursors(BTreeMap<u64, Entry>);

impl Cursors {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds entries; for each client id the newest is kept. Client ids above the limit of a device are ignored.
    pub(super) fn add(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            match self.0.get(&entry.client) {
                Some(known) if !entry.supersedes(known) => {}
                None if self.0.len() >= MAX_AWARENESS_CLIENTS_PER_DEVICE => {}
                _ => drop(self.0.insert(entry.client, entry)),
            }
        }
    }

    /// Takes all entries.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.0).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(client: u64, clock: u64, state: &str) -> Entry {
        Entry {
            client,
            clock,
            state: state.to_owned(),
        }
    }

    #[test]
    fn the_newest_entry_of_each_client_is_kept() {
        let mut cursors = Cursors::default();
        cursors.add(vec![entry(1, 1, "{}"), entry(2, 5, "{}")]);
        cursors.add(vec![entry(1, 2, "{\"n\":1}")]);
        cursors.add(vec![entry(2, 4, "{}"), entry(1, 2, "{\"n\":2}")]);
        cursors.add(vec![entry(2, 5, "null")]);
        assert_eq!(cursors.take(), [entry(1, 2, "{\"n\":1}"), entry(2, 5, "null")]);
        assert!(cursors.is_empty());
        cursors.add((0..1_000).map(|client| entry(client, 1, "{}")).collect());
        assert_eq!(cursors.take().len(), MAX_AWARENESS_CLIENTS_PER_DEVICE);
    }
}
