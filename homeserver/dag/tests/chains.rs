//! The chain cover compared with walking the graph, and state groups as chains of differences.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic fails the test"
)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, sample::Index};
use ruma::{EventId, OwnedEventId};
use weft_dag::{
    ChainCover, StateMap,
    groups::{GroupId, GroupRow, MAX_HOPS, Parent, derive, flatten},
};

fn id(n: usize) -> OwnedEventId {
    EventId::parse(format!("$event{n}")).unwrap()
}

type Graph = Vec<Vec<usize>>;

/// Up to 60 events, each citing up to 10 earlier ones.
fn graph() -> impl Strategy<Value = Graph> {
    prop::collection::vec(prop::collection::vec(any::<Index>(), 0..10), 1..60).prop_map(|events| {
        let cite = |(n, cites): (usize, Vec<Index>)| match n {
            0 => Vec::new(),
            // Mostly recent ones, as in real rooms.
            _ => cites
                .iter()
                .map(|index| n - 1 - index.index(n).min(index.index(6).max(index.index(n) % 4)))
                .collect(),
        };
        events.into_iter().enumerate().map(cite).collect()
    })
}

/// The event and all its ancestors, by walking the graph.
fn chain_of(graph: &Graph, from: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut work = vec![from];
    while let Some(at) = work.pop() {
        if seen.insert(at) {
            work.extend(&graph[at]);
        }
    }
    seen
}

fn index(graph: &Graph) -> (ChainCover, Vec<weft_dag::chain_cover::EventChain>) {
    let mut cover = ChainCover::default();
    let mut rows = Vec::new();
    for (n, cites) in graph.iter().enumerate() {
        let cites: Vec<OwnedEventId> = cites.iter().map(|cited| id(*cited)).collect();
        rows.push(cover.add_event(&id(n), &cites).unwrap().unwrap());
        assert!(cover.add_event(&id(n), &cites).unwrap().is_none());
    }
    (cover, rows)
}

fn state(events: &BTreeSet<usize>) -> StateMap {
    events
        .iter()
        .map(|n| (("t".to_owned(), n.to_string()), id(*n)))
        .collect()
}

fn ids(events: impl IntoIterator<Item = usize>) -> BTreeSet<OwnedEventId> {
    events.into_iter().map(id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_index_agrees_with_walking_the_graph(
        graph in graph(),
        picks in prop::collection::vec(prop::collection::btree_set(any::<Index>().prop_map(|i| i.index(1_000)), 1..6), 2..4),
        seed in any::<Index>(),
    ) {
        let (cover, mut rows) = index(&graph);
        let at = seed.index(rows.len());
        rows.rotate_left(at);
        let reloaded = ChainCover::from_rows(rows.clone());
        let chains: Vec<BTreeSet<usize>> = (0..graph.len()).map(|n| chain_of(&graph, n)).collect();

        for (from, chain) in chains.iter().enumerate() {
            for to in 0..graph.len() {
                prop_assert_eq!(cover.reachable(&id(from), &id(to)), chain.contains(&to), "{} to {}", from, to);
            }
        }

        let sets: Vec<BTreeSet<usize>> =
            picks.iter().map(|set| set.iter().map(|n| n % graph.len()).collect()).collect();
        let full: Vec<BTreeSet<usize>> =
            sets.iter().map(|set| set.iter().flat_map(|n| chains[*n].iter().copied()).collect()).collect();
        let any: BTreeSet<usize> = full.iter().flatten().copied().collect();
        let difference = any.iter().copied().filter(|n| !full.iter().all(|chain| chain.contains(n)));
        let states: Vec<StateMap> = sets.iter().map(state).collect();
        let states: Vec<&StateMap> = states.iter().collect();
        let expected = ids(difference);
        prop_assert_eq!(&cover.difference(&states).unwrap(), &expected);
        prop_assert_eq!(&reloaded.difference(&states).unwrap(), &expected);

        let conflicted: BTreeSet<usize> = sets.iter().flatten().copied().collect();
        let between = (0..graph.len()).filter(|n| {
            conflicted.iter().any(|from| chains[*from].contains(n)) && conflicted.iter().any(|to| chains[*n].contains(to))
        });
        let expected = ids(between);
        let conflicted = ids(conflicted);
        prop_assert_eq!(&cover.conflicted_subgraph(&conflicted).unwrap(), &expected);
        prop_assert_eq!(&reloaded.conflicted_subgraph(&conflicted).unwrap(), &expected);
        prop_assert_eq!(cover.with_ancestors(&conflicted).unwrap(), ids(any));

        // There are never more links than auth events: no graph can inflate the index.
        let links: usize = rows.iter().map(|row| row.links.len()).sum();
        prop_assert!(links <= graph.iter().map(Vec::len).sum());
    }

    #[test]
    fn a_state_is_read_back_through_any_chain_of_differences(
        steps in prop::collection::vec((0..12_u8, 0..2_000_usize, prop::bool::weighted(0.03)), 1..400),
    ) {
        let mut rows: BTreeMap<GroupId, GroupRow> = BTreeMap::new();
        let mut state = StateMap::default();
        let mut last: Option<(GroupId, StateMap)> = None;
        for (n, (key, event, removes)) in steps.into_iter().enumerate() {
            let key = ("t".to_owned(), key.to_string());
            drop(if removes { state.remove(&key) } else { state.insert(key, id(event)) });
            let parent = last.as_ref().map(|(id, state)| Parent { id: *id, hops: rows[id].hops, state });
            let row = derive(parent, &state);
            prop_assert!(row.hops <= MAX_HOPS);
            let group = GroupId(n as u64);
            rows.insert(group, row);
            let mut chain = vec![&rows[&group]];
            while let Some(parent) = chain.last().unwrap().parent {
                chain.push(&rows[&parent]);
            }
            prop_assert!(chain.len() <= usize::from(MAX_HOPS) + 1);
            prop_assert_eq!(chain.len(), usize::from(rows[&group].hops) + 1);
            prop_assert_eq!(&flatten(chain), &state);
            last = Some((group, state.clone()));
        }
    }
}

#[test]
fn events_that_are_not_in_the_index_are_named() {
    let mut cover = ChainCover::default();
    cover.add_event(&id(0), &[]).unwrap();
    assert_eq!(cover.add_event(&id(2), &[id(0), id(1)]).unwrap_err().0, [id(1)]);
    assert!(!cover.contains(&id(2)));
    assert!(cover.difference(&[&state(&[0, 7].into())]).is_err());
    assert!(!cover.reachable(&id(0), &id(9)));
}

/// CVE-2024-31208, T15: a chain of 50,000, and a ladder in which everything conflicts.
#[test]
fn the_index_of_a_hostile_graph_is_linear_in_its_auth_events() {
    let mut cover = ChainCover::default();
    cover.add_event(&id(0), &[]).unwrap();
    for n in 1..50_000 {
        assert!(cover.add_event(&id(n), &[id(n - 1)]).unwrap().unwrap().links.is_empty());
    }
    assert_eq!(cover.with_ancestors(&[id(49_999)]).unwrap().len(), 50_000);

    let mut ladder = ChainCover::default();
    let (mut links, rungs) = (0, 2_000);
    for n in 0..rungs {
        for side in 0..2 {
            let cites: Vec<OwnedEventId> = if n == 0 {
                vec![]
            } else {
                vec![id(2 * n - 2), id(2 * n - 1)]
            };
            links += ladder
                .add_event(&id(2 * n + side), &cites)
                .unwrap()
                .unwrap()
                .links
                .len();
        }
    }
    assert!(links <= 2 * rungs);
    let (left, right): (StateMap, StateMap) = (
        state(&(0..rungs).map(|n| 2 * n).collect()),
        state(&(0..rungs).map(|n| 2 * n + 1).collect()),
    );
    // Below the last rung, every event is in both chains.
    assert_eq!(ladder.difference(&[&left, &right]).unwrap().len(), 2);
    let all: Vec<OwnedEventId> = left.0.values().chain(right.0.values()).cloned().collect();
    assert_eq!(ladder.conflicted_subgraph(&all).unwrap().len(), 2 * rungs);
}
