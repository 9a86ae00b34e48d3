//! An index of clock ranges: which events claim which clocks of a client.
//!
//! Only a malicious server, or one that was restored from an old backup, makes two events with different blocks at the
//! same ids. [`crate::rivals`] decides between them. Must not read the store or the update's text.

use std::collections::BTreeMap;

use weft_crdt::ClientId;

/// The claimed clocks `[from, to)` of each client, each with the claim's number.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    clients: BTreeMap<ClientId, Ranges>,
}

/// The claims on one client's clocks, by first clock.
#[derive(Debug, Default)]
struct Ranges {
    by_start: BTreeMap<u32, Vec<(u32, usize)>>,
    longest: u32,
}

impl Claims {
    /// The numbers of the claims that overlap these clocks.
    pub(crate) fn overlapping(&self, client: ClientId, (from, to): (u32, u32)) -> impl Iterator<Item = usize> {
        let ranges = self.clients.get(&client);
        // No claim that begins before this is long enough to overlap.
        let first = from.saturating_sub(ranges.map_or(0, |ranges| ranges.longest));
        ranges
            .into_iter()
            .flat_map(move |ranges| ranges.by_start.range(first..to.max(first)))
            .flat_map(|(start, claims)| claims.iter().map(move |(end, who)| (*start, *end, *who)))
            .filter(move |(start, end, _)| *end > from && *start < to)
            .map(|(_, _, who)| who)
    }

    /// Adds a claim.
    pub(crate) fn add(&mut self, client: ClientId, (from, to): (u32, u32), who: usize) {
        let ranges = self.clients.entry(client).or_default();
        ranges.longest = ranges.longest.max(to.saturating_sub(from));
        ranges.by_start.entry(from).or_default().push((to, who));
    }

    /// Removes a claim.
    pub(crate) fn remove(&mut self, client: ClientId, (from, to): (u32, u32), who: usize) {
        let Some(ranges) = self.clients.get_mut(&client) else {
            return;
        };
        if let Some(claims) = ranges.by_start.get_mut(&from) {
            claims.retain(|claim| *claim != (to, who));
            if claims.is_empty() {
                ranges.by_start.remove(&from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exactly_the_overlapping_claims_are_found(
            claims in prop::collection::vec((0..3_u64, 0..20_u32, 1..8_u32), 0..30),
            (client, from, length) in (0..3_u64, 0..20_u32, 1..8_u32),
        ) {
            let mut index = Claims::default();
            let mut expected = Vec::new();
            for (who, (whose, start, length)) in claims.iter().enumerate() {
                index.add(ClientId::new(*whose).unwrap(), (*start, start + length), who);
            }
            let to = from + length;
            for (who, (whose, start, length)) in claims.iter().enumerate() {
                let shared = (from.max(*start)..to.min(start + length)).len();
                if *whose == client && shared > 0 {
                    expected.push(who);
                }
            }
            let mut found: Vec<usize> = index.overlapping(ClientId::new(client).unwrap(), (from, to)).collect();
            found.sort_unstable();
            prop_assert_eq!(&found, &expected);
            for (who, (whose, start, length)) in claims.iter().enumerate().filter(|(who, _)| who % 2 == 0) {
                index.remove(ClientId::new(*whose).unwrap(), (*start, start + length), who);
            }
            expected.retain(|who| who % 2 == 1);
            let mut found: Vec<usize> = index.overlapping(ClientId::new(client).unwrap(), (from, to)).collect();
            found.sort_unstable();
            prop_assert_eq!(&found, &expected);
        }
    }

    #[test]
    fn the_largest_clocks_are_handled() {
        let mut index = Claims::default();
        let client = ClientId::new(1).unwrap();
        index.add(client, (u32::MAX - 1, u32::MAX), 0);
        index.add(client, (0, u32::MAX), 1);
        let found: Vec<usize> = index.overlapping(client, (u32::MAX - 1, u32::MAX)).collect();
        assert_eq!(found, [1, 0]);
    }
}
