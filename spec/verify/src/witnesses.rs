//! Which servers have confirmed which events. A server confirms everything that its own events follow, membership events
//! excepted: another server may have chosen what those follow (`spec/docs/events.md`). Must not count a rejected event.

/// The graph, in an order in which each event follows its `prev_events`.
pub(crate) trait Graph {
    /// The number of events.
    fn len(&self) -> usize;
    /// The `prev_events` of an event.
    fn prev(&self, at: usize) -> &[u32];
    /// The server that the event is a statement of.
    fn statement_of(&self, at: usize) -> Option<u32>;
    /// Whether it is counted: it is in the file and not before a cut.
    fn counts(&self, at: usize) -> bool;
}

/// For each of these servers, the number of events that it has confirmed.
pub(crate) fn confirmed(graph: &impl Graph, servers: u32) -> Vec<u64> {
    let mut counts = vec![0_u64; usize::try_from(servers).unwrap_or(usize::MAX)];
    // 64 servers at a time: one bit each.
    for first in (0..servers).step_by(64) {
        let mut masks = vec![0_u64; graph.len()];
        for at in (0..graph.len()).rev() {
            let own = graph.statement_of(at).and_then(|server| server.checked_sub(first));
            let own = own.filter(|bit| *bit < 64).map_or(0, |bit| 1_u64 << bit);
            let Some(mask) = masks.get_mut(at) else { continue };
            *mask |= own;
            let mask = *mask;
            for prev in graph.prev(at) {
                let prev = usize::try_from(*prev).ok().and_then(|prev| masks.get_mut(prev));
                prev.into_iter().for_each(|prev| *prev |= mask);
            }
            for bit in (0..64_u32).filter(|bit| graph.counts(at) && mask >> bit & 1 == 1) {
                let server = usize::try_from(first + bit).ok();
                let count = server.and_then(|server| counts.get_mut(server));
                count.into_iter().for_each(|count| *count += 1);
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Events(Vec<(Vec<u32>, Option<u32>)>);

    impl Graph for Events {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn prev(&self, at: usize) -> &[u32] {
            &self.0[at].0
        }

        fn statement_of(&self, at: usize) -> Option<u32> {
            self.0[at].1
        }

        fn counts(&self, _: usize) -> bool {
            true
        }
    }

    #[test]
    fn a_server_confirms_what_its_events_follow() {
        // 0 <- 1 (server 0) <- 3 (a membership), 0 <- 2 (server 70)
        let graph = Events(vec![
            (vec![], None),
            (vec![0], Some(0)),
            (vec![0], Some(70)),
            (vec![1], None),
        ]);
        let counts = confirmed(&graph, 71);
        assert_eq!((counts[0], counts[70]), (2, 2));
        assert_eq!(counts.iter().sum::<u64>(), 4);
    }
}
