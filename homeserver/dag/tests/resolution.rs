//! State resolution: known problems, branches in every order, and random rooms.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic fails the test"
)]

use proptest::{prelude::*, sample::Index};
use ruma::{OwnedEventId, RoomVersionId, UserId, events::room::member::MembershipState};
use serde_json::json;
use weft_dag::{EventMap, ResolveError, RoomVersion, StateMap, resolve, testing::World};

const ALICE: &str = "@alice:a.example";
const BOB: &str = "@bob:b.example";
const CAROL: &str = "@carol:c.example";

/// All orders of up to five items.
fn permutations<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    let mut all = vec![Vec::new()];
    for item in items {
        all = all
            .iter()
            .flat_map(|done: &Vec<T>| {
                (0..=done.len()).map(|at| {
                    let mut next = done.clone();
                    next.insert(at, item.clone());
                    next
                })
            })
            .collect();
    }
    all
}

/// Resolves the forks in every order, checks that all results are equal, and returns the result.
fn resolve_all_ways(world: &World, forks: &[StateMap]) -> StateMap {
    let expected = resolve(&world.version, forks, &world.cover, &world.events).unwrap();
    for order in permutations(forks) {
        assert_eq!(
            resolve(&world.version, &order, &world.cover, &world.events).unwrap(),
            expected
        );
    }
    // A duplicate fork changes nothing.
    let mut doubled = forks.to_vec();
    doubled.extend(forks.iter().cloned());
    assert_eq!(
        resolve(&world.version, &doubled, &world.cover, &world.events).unwrap(),
        expected
    );
    expected
}

fn state_of<'a>(world: &World, events: impl IntoIterator<Item = &'a OwnedEventId>) -> StateMap {
    events
        .into_iter()
        .map(|id| (world.pdu(id).state_entry().unwrap(), id.clone()))
        .collect()
}

/// A room with a public join rule, which each of these users joins.
fn joined(version: &RoomVersionId, users: &[&str]) -> World {
    let mut world = World::new(version, ALICE);
    let levels = if world.version.creators_are_above_all() {
        json!({})
    } else {
        json!({ "users": { ALICE: 100 } })
    };
    world.state(ALICE, "m.room.power_levels", "", levels);
    world.state(ALICE, "m.room.join_rules", "", json!({ "join_rule": "public" }));
    for user in users {
        world.member(user, user, "join");
    }
    world
}

#[test]
fn msc4297_problem_a_does_not_lose_the_join_rule() {
    for version in RoomVersion::ALL {
        let mut world = joined(&version, &[BOB, CAROL]);
        let id = |world: &World, n: usize| world.order[n].clone();
        // 0 create, 1 alice, 2 levels, 3 public, 4 bob, 5 carol
        let invite_only = world
            .state(ALICE, "m.room.join_rules", "", json!({ "join_rule": "invite" }))
            .event_id()
            .to_owned();
        let leaves = world.member(ALICE, ALICE, "leave").event_id().to_owned();
        let after = world.head_list();
        let named = |user: &str| json!({ "membership": "join", "displayname": format!("{user}++") });
        let bob = world
            .send_after(&after, BOB, "m.room.member", Some(BOB), named(BOB))
            .event_id()
            .to_owned();
        let carol = world
            .send_after(&after, CAROL, "m.room.member", Some(CAROL), named(CAROL))
            .event_id()
            .to_owned();
        // Each server has an older view of the other's changes, and one has the older rule as well.
        let at_bob = state_of(
            &world,
            [
                &id(&world, 0),
                &id(&world, 2),
                &id(&world, 5),
                &invite_only,
                &leaves,
                &bob,
            ],
        );
        let at_carol = state_of(
            &world,
            [
                &id(&world, 0),
                &id(&world, 2),
                &id(&world, 3),
                &id(&world, 4),
                &leaves,
                &carol,
            ],
        );
        let resolved = resolve_all_ways(&world, &[at_bob, at_carol]);
        let rule = resolved.get("m.room.join_rules", "");
        if version == RoomVersionId::V12 {
            assert_eq!(
                rule,
                Some(&invite_only),
                "2.1 starts from an empty state, so alice may still change the rule"
            );
        } else {
            assert_eq!(rule, None, "the state reset that version 12 fixes");
        }
        assert_eq!(resolved.get("m.room.member", BOB), Some(&bob));
        assert_eq!(resolved.get("m.room.member", CAROL), Some(&carol));
    }
}

#[test]
fn msc4297_problem_b_does_not_fall_back_to_old_power_levels() {
    for version in RoomVersion::ALL {
        let mut world = joined(&version, &[BOB, CAROL]);
        let base: Vec<OwnedEventId> = world.order.clone();
        let levels = |users: serde_json::Value| {
            let mut users = users;
            if version != RoomVersionId::V12 {
                users[ALICE] = json!(100);
            }
            json!({ "users": users })
        };
        world.state(ALICE, "m.room.power_levels", "", levels(json!({ BOB: 50 })));
        let second = world.state(BOB, "m.room.power_levels", "", levels(json!({ BOB: 50, CAROL: 50 })));
        let second = second.event_id().to_owned();
        let after = world.head_list();
        let zara = world.send_after(
            &after,
            "@zara:z.example",
            "m.room.member",
            Some("@zara:z.example"),
            json!({ "membership": "join" }),
        );
        world.send_after(
            &after,
            "@eve:e.example",
            "m.room.member",
            Some("@eve:e.example"),
            json!({ "membership": "join" }),
        );
        let eve_at = vec![world.order.last().unwrap().clone()];
        let named = json!({ "membership": "join", "displayname": "eve++" });
        let eve = world.send_after(
            &eve_at,
            "@eve:e.example",
            "m.room.member",
            Some("@eve:e.example"),
            named,
        );
        // Eve's server has the first power levels, as if the second and third had never existed.
        let at_eve = state_of(&world, base.iter().chain([&eve.event_id().to_owned()]));
        let mut at_zara = state_of(&world, base.iter().chain([&zara.event_id().to_owned()]));
        at_zara.insert(("m.room.power_levels".into(), String::new()), second.clone());
        let resolved = resolve_all_ways(&world, &[at_eve, at_zara]);
        let expected = if version == RoomVersionId::V12 {
            &second
        } else {
            &base[2]
        };
        assert_eq!(
            resolved.get("m.room.power_levels", ""),
            Some(expected),
            "version {version}"
        );
    }
}

#[test]
fn conflicting_branches_resolve_alike_in_all_120_orders() {
    for version in RoomVersion::ALL {
        let mut world = World::public(&version, ALICE, &[(BOB, 50), (CAROL, 50), ("@dave:d.example", 0)]);
        let fork = world.head_list();
        let levels = if version == RoomVersionId::V12 {
            json!({ CAROL: 50 })
        } else {
            json!({ ALICE: 100, CAROL: 50 })
        };
        let branches = [
            world.send_after(&fork, ALICE, "m.room.member", Some(BOB), json!({ "membership": "ban" })),
            world.send_after(&fork, BOB, "m.room.topic", Some(""), json!({ "topic": "bob's" })),
            world.send_after(&fork, CAROL, "m.room.topic", Some(""), json!({ "topic": "carol's" })),
            world.send_after(
                &fork,
                ALICE,
                "m.room.power_levels",
                Some(""),
                json!({ "users": levels }),
            ),
            world.send_after(
                &fork,
                BOB,
                "m.room.member",
                Some("@dave:d.example"),
                json!({ "membership": "ban" }),
            ),
        ];
        let forks: Vec<StateMap> = branches
            .iter()
            .map(|pdu| world.state_after(pdu.event_id()).clone())
            .collect();
        let resolved = resolve_all_ways(&world, &forks);
        let user = |id: &str| UserId::parse(id).unwrap();
        let view = weft_dag::StateView::load(world.version.clone(), &resolved, &world.events).unwrap();
        assert_eq!(view.membership(&user(BOB)), MembershipState::Ban);
        assert_eq!(view.get("m.room.topic", "").unwrap().sender(), CAROL);
        assert_eq!(
            view.membership(&user("@dave:d.example")),
            MembershipState::Join,
            "the sender of dave's ban was banned"
        );
    }
}

#[test]
fn a_state_with_missing_entries_resets_nothing_in_version_12() {
    let mut world = World::public(&RoomVersionId::V12, ALICE, &[(BOB, 50), (CAROL, 0)]);
    world.state(ALICE, "m.room.name", "", json!({ "name": "kept" }));
    let whole = world.current().map();
    let half: StateMap = whole
        .0
        .iter()
        .filter(|((kind, _), _)| kind != "m.room.name" && kind != "m.room.power_levels")
        .map(|(key, id)| (key.clone(), id.clone()))
        .collect();
    assert_eq!(resolve_all_ways(&world, &[whole.clone(), half]), whole);
}

#[test]
fn a_rejected_event_stays_out_of_the_state() {
    let mut world = World::public(&RoomVersionId::V12, ALICE, &[(BOB, 0)]);
    let whole = world.current().map();
    let forged = world.state(BOB, "m.room.topic", "", json!({ "topic": "not mine to set" }));
    assert!(forged.rejected());
    world.cover.add(&forged).unwrap();
    let mut with_forged = whole.clone();
    with_forged.insert(forged.state_entry().unwrap(), forged.event_id().to_owned());
    assert_eq!(resolve_all_ways(&world, &[whole.clone(), with_forged]), whole);
}

#[test]
fn missing_events_are_named_and_resolution_succeeds_once_they_are_loaded() {
    let mut world = World::public(&RoomVersionId::V11, ALICE, &[(BOB, 50), (CAROL, 50)]);
    let fork = world.head_list();
    let one = world.send_after(&fork, BOB, "m.room.topic", Some(""), json!({ "topic": "1" }));
    let two = world.send_after(&fork, CAROL, "m.room.topic", Some(""), json!({ "topic": "2" }));
    let forks = [
        world.state_after(one.event_id()).clone(),
        world.state_after(two.event_id()).clone(),
    ];
    let expected = resolve(&world.version, &forks, &world.cover, &world.events).unwrap();
    let mut held = EventMap::default();
    let mut asked = 0;
    let resolved = loop {
        match resolve(&world.version, &forks, &world.cover, &held) {
            Ok(state) => break state,
            Err(ResolveError::Missing(ids)) => {
                asked += 1;
                for id in world.cover.with_ancestors(&ids).unwrap() {
                    held.insert(world.pdu(&id));
                }
            }
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(resolved, expected);
    assert_eq!(asked, 1);
}

/// An action of a random user at a random position of the graph.
#[derive(Clone, Debug)]
struct Act {
    who: u8,
    what: u8,
    whom: u8,
    after: Vec<Index>,
}

fn act() -> impl Strategy<Value = Act> {
    (0..4_u8, 0..7_u8, 0..4_u8, prop::collection::vec(any::<Index>(), 1..3)).prop_map(|(who, what, whom, after)| Act {
        who,
        what,
        whom,
        after,
    })
}

const PEOPLE: [&str; 4] = [ALICE, BOB, CAROL, "@dave:d.example"];

fn perform(world: &mut World, act: &Act, n: usize) {
    let (who, whom) = (PEOPLE[usize::from(act.who)], PEOPLE[usize::from(act.whom)]);
    let positions: Vec<OwnedEventId> = world
        .order
        .iter()
        .filter(|id| !world.pdu(id).rejected())
        .cloned()
        .collect();
    let mut prev: Vec<OwnedEventId> = act
        .after
        .iter()
        .map(|index| positions[index.index(positions.len() - 1) + 1].clone())
        .collect();
    prev.sort();
    prev.dedup();
    let v12 = world.version.creators_are_above_all();
    let (kind, key, content) = match act.what {
        0 => ("m.room.member", whom, json!({ "membership": "ban" })),
        1 => ("m.room.member", whom, json!({ "membership": "leave" })),
        2 => (
            "m.room.member",
            who,
            json!({ "membership": "join", "displayname": n.to_string() }),
        ),
        3 => {
            let mut users = json!({ whom: n % 3 * 50, BOB: 50 });
            if v12 {
                users.as_object_mut().unwrap().remove(ALICE);
            } else {
                users[ALICE] = json!(100);
            }
            ("m.room.power_levels", "", json!({ "users": users }))
        }
        4 => (
            "m.room.join_rules",
            "",
            json!({ "join_rule": if n.is_multiple_of(2) { "public" } else { "invite" } }),
        ),
        5 => ("m.room.member", whom, json!({ "membership": "invite" })),
        _ => ("m.room.topic", "", json!({ "topic": n.to_string() })),
    };
    world.send_after(&prev, who, kind, Some(key), content);
}

/// Another order in which each event still comes after the events it references and its auth events.
fn shuffled(world: &World, picks: &[Index]) -> Vec<OwnedEventId> {
    let mut left = world.order.clone();
    let mut order: Vec<OwnedEventId> = Vec::new();
    for pick in picks.iter().cycle() {
        let ready: Vec<usize> = (0..left.len())
            .filter(|at| {
                let pdu = world.pdu(&left[*at]);
                pdu.prev_events()
                    .iter()
                    .chain(pdu.auth_events())
                    .all(|id| order.contains(id))
            })
            .collect();
        if ready.is_empty() {
            break;
        }
        order.push(left.remove(ready[pick.index(ready.len())]));
    }
    assert!(left.is_empty());
    order
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Servers that receive the events in different orders agree on the state at every event, on the rejected events,
    /// and on the state that all branches resolve to.
    #[test]
    fn the_order_of_arrival_makes_no_difference(
        v12 in any::<bool>(),
        acts in prop::collection::vec(act(), 4..20),
        picks in prop::collection::vec(any::<Index>(), 30),
    ) {
        let version = if v12 { RoomVersionId::V12 } else { RoomVersionId::V10 };
        let mut world = World::public(&version, ALICE, &[(BOB, 50), (CAROL, 50), ("@dave:d.example", 0)]);
        for (n, act) in acts.iter().enumerate() {
            perform(&mut world, act, n);
        }
        let other = world.replay(&shuffled(&world, &picks));
        let mut forks = Vec::new();
        for id in &world.order {
            prop_assert_eq!(world.state_after(id), other.state_after(id));
            prop_assert_eq!(world.pdu(id).rejected(), other.pdu(id).rejected());
            forks.push(world.state_after(id).clone());
        }
        let here = resolve(&world.version, &forks, &world.cover, &world.events).unwrap();
        forks.reverse();
        let there = resolve(&other.version, &forks, &other.cover, &other.events).unwrap();
        prop_assert_eq!(here, there);
    }
}
