//! A client that applies the `state` of each sync response and then its timeline has the server's room state, for every
//! filter on the timeline.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{Person, World, encoded, ids, kinds};

/// An action in the room. The users are alice (the creator), bob and carol.
#[derive(Debug, Clone)]
enum Act {
    Say(usize),
    Topic(usize),
    Name(usize),
    Nickname(usize),
    /// The reader leaves or joins again.
    LeaveOrReturn,
    /// Carol leaves or joins again.
    OtherLeavesOrReturns,
    Sync,
}

/// A client's state of one room: type and state key to event id.
type State = BTreeMap<(String, String), String>;

struct Reading {
    world: World,
    room: String,
    people: [Person; 3],
    /// Bob or alice.
    reader: Person,
    query: String,
    lazy: bool,
    since: Option<String>,
    state: State,
}

impl Reading {
    async fn act(&mut self, act: &Act, n: usize) {
        let (world, room) = (&self.world, &self.room);
        let person = |number: &usize| &self.people[number % self.people.len()];
        let base = format!("/_matrix/client/v3/rooms/{room}");
        let membership = async |who: &Person| {
            let rooms = world.get("/_matrix/client/v3/joined_rooms", who).await;
            let is_in = rooms["joined_rooms"].as_array().unwrap().iter().any(|id| id == room);
            let action = if is_in { "leave" } else { "join" };
            world.ok("POST", &format!("{base}/{action}"), who, json!({})).await;
        };
        let state = async |who: &Person, kind: &str, key: &str, content: Value| {
            // A user who is not joined is refused, which doesn't matter here.
            let path = format!("{base}/state/{kind}/{key}");
            world.ask("PUT", &path, Some(&who.token), content).await;
        };
        match act {
            Act::Say(who) => {
                let path = format!("{base}/send/m.room.message/{n}");
                let body = json!({"msgtype": "m.text", "body": n.to_string()});
                world.ask("PUT", &path, Some(&person(who).token), body).await;
            }
            Act::Topic(who) => state(person(who), "m.room.topic", "", json!({"topic": n.to_string()})).await,
            Act::Name(who) => state(person(who), "m.room.name", "", json!({"name": n.to_string()})).await,
            Act::Nickname(who) => {
                let who = person(who);
                let content = json!({"membership": "join", "displayname": n.to_string()});
                let rooms = world.get("/_matrix/client/v3/joined_rooms", who).await;
                if rooms["joined_rooms"].as_array().unwrap().iter().any(|id| id == room) {
                    state(who, "m.room.member", who.user.as_str(), content).await;
                }
            }
            Act::LeaveOrReturn if self.reader.user != self.people[0].user => membership(&self.reader).await,
            Act::OtherLeavesOrReturns => membership(&self.people[2]).await,
            Act::LeaveOrReturn => {}
            Act::Sync => self.sync().await,
        }
    }

    async fn sync(&mut self) {
        let sync = self.world.sync(&self.reader, self.since.as_deref(), &self.query).await;
        self.since = sync["next_batch"].as_str().map(str::to_owned);
        let joined = &sync["rooms"]["join"][&self.room];
        for section in ["state", "timeline", "state_after"] {
            for event in joined[section]["events"].as_array().into_iter().flatten() {
                if let Some(key) = event["state_key"].as_str() {
                    let is_after = section == "timeline" && joined.get("state_after").is_some();
                    if is_after {
                        // With `use_state_after` the timeline must not be applied to the state.
                        continue;
                    }
                    let key = (event["type"].as_str().unwrap().to_owned(), key.to_owned());
                    self.state.insert(key, event["event_id"].as_str().unwrap().to_owned());
                }
            }
        }
        let path = format!("/_matrix/client/v3/rooms/{}/state", self.room);
        let (status, there) = self
            .world
            .ask("GET", &path, Some(&self.reader.token), Value::Null)
            .await;
        let rooms = self.world.get("/_matrix/client/v3/joined_rooms", &self.reader).await;
        if status != 200 || rooms["joined_rooms"] == json!([]) {
            return;
        }
        for event in there.as_array().unwrap() {
            let field = |name: &str| event[name].as_str().unwrap().to_owned();
            let known = self.state.get(&(field("type"), field("state_key")));
            if self.lazy && field("type") == "m.room.member" && known.is_none() {
                continue;
            }
            assert_eq!(known, Some(&field("event_id")), "{event}\nafter {sync}");
        }
    }
}

async fn check_state(acts: Vec<Act>, filter: &str, visibility: &str, reader: usize, after: bool) {
    let world = World::new().await;
    let people = [
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
    ];
    let options = json!({
        "preset": "public_chat", "name": "first", "topic": "first",
        "power_level_content_override": {"state_default": 0},
        "initial_state": [{"type": "m.room.history_visibility", "content": {"history_visibility": visibility}}],
    });
    let room = world.room(&people[0], options).await;
    let join = format!("/_matrix/client/v3/join/{room}");
    for person in &people[1..] {
        world.ok("POST", &join, person, json!({})).await;
    }
    let filter: Value = serde_json::from_str(filter).unwrap();
    let mut reading = Reading {
        query: format!("filter={}&use_state_after={after}", encoded(&filter)),
        lazy: filter["room"]["state"]["lazy_load_members"] == true,
        reader: people[reader].clone(),
        world,
        room,
        people,
        since: None,
        state: State::new(),
    };
    for (n, act) in acts.iter().enumerate() {
        reading.act(act, n).await;
    }
    reading.sync().await;
}

const FILTERS: [&str; 9] = [
    "{}",
    r#"{"room": {"timeline": {"types": ["m.room.message"]}}}"#,
    r#"{"room": {"timeline": {"types": ["m.room.message"], "limit": 1}}}"#,
    r#"{"room": {"timeline": {"not_types": ["m.room.topic", "m.room.member"], "limit": 3}}}"#,
    r#"{"room": {"timeline": {"not_senders": ["@bob:alpha.example"]}}}"#,
    r#"{"room": {"timeline": {"senders": ["@carol:alpha.example"], "limit": 2}}}"#,
    r#"{"room": {"timeline": {"limit": 0}}}"#,
    r#"{"room": {"timeline": {"limit": 2}, "state": {"lazy_load_members": true}}}"#,
    r#"{"room": {"timeline": {"not_types": ["m.room.member"]}, "state": {"lazy_load_members": true}}}"#,
];

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let who = 0..3_usize;
    let act = prop_oneof![
        5 => who.clone().prop_map(Act::Say),
        3 => who.clone().prop_map(Act::Topic),
        1 => who.clone().prop_map(Act::Name),
        2 => who.prop_map(Act::Nickname),
        1 => Just(Act::LeaveOrReturn),
        1 => Just(Act::OtherLeavesOrReturns),
        4 => Just(Act::Sync),
    ];
    prop::collection::vec(act, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn state_and_timeline_give_the_room_state_under_every_filter(
        acts in acts(),
        filter in prop::sample::select(&FILTERS[..]),
        visibility in prop::sample::select(&["shared", "invited", "joined", "world_readable"][..]),
        reader in 0..2_usize,
        after in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check_state(acts, filter, visibility, reader, after));
    }
}

/// A client with lazy loading still has the members from an earlier membership.
#[tokio::test]
async fn lazy_loading_sends_members_that_changed_while_the_user_was_away() {
    use Act::{LeaveOrReturn, Nickname, OtherLeavesOrReturns, Sync};
    let filter = FILTERS[7];
    for after in [false, true] {
        for away in [
            vec![OtherLeavesOrReturns],
            vec![Nickname(0), OtherLeavesOrReturns, Sync],
        ] {
            let mut acts = vec![Sync, LeaveOrReturn, Sync];
            acts.extend(away);
            acts.push(LeaveOrReturn);
            check_state(acts, filter, "invited", 1, after).await;
        }
    }
}

/// Reported from the field: a filter for messages, and a topic that changes between two syncs.
#[tokio::test]
async fn a_topic_that_is_filtered_from_the_timeline_is_in_the_state() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.room(&alice, json!({"preset": "public_chat", "name": "n"})).await;
    let query = format!(
        "filter={}",
        encoded(&json!({"room": {"timeline": {"types": ["m.room.message"]}}}))
    );
    let first = world.sync(&alice, None, &query).await;
    let state = kinds(&first["rooms"]["join"][&room]["state"]["events"]);
    for kind in ["m.room.create", "m.room.member", "m.room.power_levels", "m.room.name"] {
        assert!(state.contains(&kind), "{kind}: {state:?}");
    }
    let topic = world
        .set_state(&room, &alice, "m.room.topic", "", json!({"topic": "new"}))
        .await;
    let next = world.sync(&alice, first["next_batch"].as_str(), &query).await;
    assert_eq!(ids(&next["rooms"]["join"][&room]["state"]["events"]), [topic]);
}

/// `limit` counts the events that pass the filter.
#[tokio::test]
async fn the_newest_message_is_shown_behind_many_other_events() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.room(&alice, json!({})).await;
    let older = world.send_text(&room, &alice, "older").await;
    let newest = world.send_text(&room, &alice, "newest").await;
    for n in 0..12 {
        let content = json!({"topic": n.to_string()});
        world.set_state(&room, &alice, "m.room.topic", "", content).await;
    }
    for (limit, expected, limited) in [
        (1, vec![newest.clone()], true),
        (2, vec![older.clone(), newest.clone()], false),
        (0, vec![], true),
    ] {
        let filter = json!({"room": {"timeline": {"types": ["m.room.message"], "limit": limit}}});
        let sync = world.sync(&alice, None, &format!("filter={}", encoded(&filter))).await;
        let timeline = &sync["rooms"]["join"][&room]["timeline"];
        assert_eq!(ids(&timeline["events"]), expected, "{limit}");
        assert_eq!(timeline["limited"], json!(limited), "{limit}");
        let back = format!(
            "/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=1&filter={}&from={}",
            encoded(&json!({"types": ["m.room.message"]})),
            timeline["prev_batch"].as_str().unwrap()
        );
        let before = ids(&world.get(&back, &alice).await["chunk"]);
        let expected_before = [Some(newest.clone()), Some(older.clone()), None][expected.len()].clone();
        assert_eq!(before, Vec::from_iter(expected_before), "{limit}");
    }
}

/// W2: earlier senders leave in a gap.
#[tokio::test]
async fn lazy_loading_sends_membership_changes_in_a_gap() {
    let world = World::new().await;
    let (alice, bob, carol) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
    );
    let options = json!({"preset": "public_chat", "name": "no heroes"});
    let room = world.room(&alice, options).await;
    let join = format!("/_matrix/client/v3/join/{room}");
    for person in [&bob, &carol] {
        world.ok("POST", &join, person, json!({})).await;
    }
    world.send_text(&room, &bob, "hello").await;
    let filter = encoded(&json!({"room": {"timeline": {"limit": 10}, "state": {"lazy_load_members": true}}}));
    let query = format!("filter={filter}");
    let first = world.sync(&alice, None, &query).await;
    let leave = format!("/_matrix/client/v3/rooms/{room}/leave");
    world.ok("POST", &leave, &bob, json!({})).await;
    for n in 0..15 {
        world.send_text(&room, &alice, &n.to_string()).await;
    }
    let next = world.sync(&alice, first["next_batch"].as_str(), &query).await;
    let joined = &next["rooms"]["join"][&room];
    let members = members(&joined["state"]["events"]);
    assert!(members.contains(&bob.user.as_str()), "{joined}");
    assert!(
        !members.contains(&carol.user.as_str()),
        "unchanged and not a sender: {joined}"
    );
    assert_eq!(joined["summary"]["m.joined_member_count"], 2);
}

/// F6: a client with lazy loading can name a room after its heroes.
#[tokio::test]
async fn the_member_events_of_heroes_are_sent() {
    let world = World::new().await;
    let (alice, bob, carol) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
    );
    let room = world.room(&alice, json!({"preset": "public_chat"})).await;
    let join = format!("/_matrix/client/v3/join/{room}");
    world.ok("POST", &join, &bob, json!({})).await;
    for n in 0..5 {
        world.send_text(&room, &alice, &n.to_string()).await;
    }
    let filter = json!({"room": {"timeline": {"limit": 2}, "state": {"lazy_load_members": true}}});
    let query = format!("filter={}", encoded(&filter));
    let first = world.sync(&alice, None, &query).await;
    let joined = &first["rooms"]["join"][&room];
    assert_eq!(joined["summary"]["m.heroes"], json!([bob.user]));
    assert!(
        members(&joined["state"]["events"]).contains(&bob.user.as_str()),
        "{joined}"
    );
    world.ok("POST", &join, &carol, json!({})).await;
    for n in 0..5 {
        world.send_text(&room, &alice, &n.to_string()).await;
    }
    let next = world.sync(&alice, first["next_batch"].as_str(), &query).await;
    let joined = &next["rooms"]["join"][&room];
    assert_eq!(joined["summary"]["m.heroes"], json!([bob.user, carol.user]));
    assert!(
        members(&joined["state"]["events"]).contains(&carol.user.as_str()),
        "{joined}"
    );
}

fn members(events: &Value) -> Vec<&str> {
    let events = events.as_array().unwrap().iter();
    events
        .filter(|event| event["type"] == "m.room.member")
        .map(|event| event["state_key"].as_str().unwrap())
        .collect()
}

/// F7: a name or alias event with an empty value counts as missing, also in the public directory.
#[tokio::test]
async fn an_empty_name_or_alias_event_counts_as_missing() {
    for (kind, content, named) in [
        ("m.room.name", json!({"name": ""}), false),
        ("m.room.name", json!({}), false),
        ("m.room.name", json!({"name": null}), false),
        ("m.room.name", json!({"name": "n"}), true),
        ("m.room.canonical_alias", json!({}), false),
        ("m.room.canonical_alias", json!({"alias": ""}), false),
        (
            "m.room.canonical_alias",
            json!({"alt_aliases": ["#there:alpha.example"]}),
            false,
        ),
        ("m.room.canonical_alias", json!({"alias": "#there:alpha.example"}), true),
    ] {
        let world = World::new().await;
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        let options = json!({"preset": "public_chat", "visibility": "public"});
        let room = world.room(&alice, options).await;
        let alias = "/_matrix/client/v3/directory/room/%23there:alpha.example";
        world.ok("PUT", alias, &alice, json!({"room_id": room})).await;
        world
            .ok("POST", &format!("/_matrix/client/v3/join/{room}"), &bob, json!({}))
            .await;
        world.set_state(&room, &alice, kind, "", content.clone()).await;
        let sync = world.sync(&alice, None, "").await;
        let summary = &sync["rooms"]["join"][&room]["summary"];
        assert_eq!(summary.get("m.heroes").is_none(), named, "{kind} {content}: {summary}");
        let listed = world.get("/_matrix/client/v3/publicRooms", &bob).await;
        let entry = &listed["chunk"][0];
        let shown = entry.get("name").or_else(|| entry.get("canonical_alias"));
        assert_eq!(shown.is_some(), named, "{kind} {content}: {entry}");
    }
}
