//! Final updates: updates that so many honest servers have referenced that no later claim to their clocks can win,
//! whatever malicious servers send. Source: "What is promised" in `spec/docs/admission.md`.
//!
//! Valid for runs without changes of memberships and rights: in these every honest server references everything that it
//! has accepted.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ruma::{OwnedEventId, RoomId};
use weft_crdt::{ClientId, Update};
use weft_dag::{Pdu, RoomVersion, event_flags};
use weft_store::tables::rooms::EVENTS;
use weft_wire::update::UpdateContent;

use super::{network::number, oracle::view, server::Server};

/// Words of final updates.
#[derive(Default)]
pub struct Finals {
    words: BTreeSet<String>,
}

/// An event that all honest servers have.
struct Event {
    server: usize,
    is_word: bool,
    past: BTreeSet<OwnedEventId>,
    claim: Option<Claim>,
}

struct Claim {
    ranges: BTreeMap<ClientId, (u32, u32)>,
    rests: BTreeMap<ClientId, u32>,
    words: Vec<String>,
}

type Rows = BTreeMap<OwnedEventId, (Pdu, u8)>;

impl Finals {
    pub fn count(&self) -> usize {
        self.words.len()
    }

    /// Checks that the final words are on each of these servers, and adds the words that are final now.
    pub async fn look(
        &mut self,
        honest: &[&Server],
        room: &RoomId,
        version: &RoomVersion,
        deleted: &BTreeSet<String>,
    ) -> Result<(), String> {
        let mut texts = Vec::new();
        for server in honest {
            texts.push(view(server, room).await.text);
        }
        for (server, text) in honest.iter().zip(&texts) {
            if let Some(word) = self
                .words
                .iter()
                .find(|word| !deleted.contains(*word) && !text.contains(*word))
            {
                return Err(format!(
                    "{word} was final and is missing on s{}: {text:?}",
                    server.number
                ));
            }
        }
        let mut rows = Vec::new();
        for server in honest {
            rows.push(rows_of(server, room, version).await);
        }
        let numbers: BTreeSet<usize> = honest.iter().map(|server| server.number).collect();
        for word in final_words(&rows, &numbers) {
            if texts.iter().all(|text| text.contains(&word)) {
                self.words.insert(word);
            }
        }
        Ok(())
    }
}

async fn rows_of(server: &Server, room: &RoomId, version: &RoomVersion) -> Rows {
    let rows = server.store.scan_all(EVENTS.under(&(room,))).await.unwrap();
    let rows = rows.into_iter().filter(|(_, row)| !row.has(event_flags::OUTLIER));
    rows.map(|((_, id), row)| {
        let rejected = row.has(event_flags::REJECTED);
        let pdu = Pdu::from_trusted_json(row.text().unwrap(), id.clone(), version, rejected).unwrap();
        (id, (pdu, row.flags))
    })
    .collect()
}

/// The words of the updates that are final according to the events that all of these servers have.
fn final_words(rows: &[Rows], honest: &BTreeSet<usize>) -> Vec<String> {
    let events = common(rows);
    let claims: Vec<(OwnedEventId, Claim)> = rows.iter().flat_map(claims_of).collect();
    let mut order: Vec<&OwnedEventId> = events.keys().collect();
    order.sort_by_key(|id| events[*id].past.len());
    let mut finals: BTreeSet<&OwnedEventId> = BTreeSet::new();
    let mut words = Vec::new();
    for id in order {
        let event = &events[id];
        let Some(claim) = &event.claim else { continue };
        let rests_on = |other: &Claim| {
            other
                .ranges
                .iter()
                .any(|(client, (from, _))| claim.rests.get(client).is_some_and(|end| from < end))
        };
        let open = event.past.iter().any(|before| {
            let other = events.get(before).and_then(|other| other.claim.as_ref());
            other.is_some_and(rests_on) && !finals.contains(before)
        });
        if !open && !has_rival(id, event, claim, &claims, &events) && is_safe(id, event, &events, honest) {
            finals.insert(id);
            words.extend(claim.words.iter().cloned());
        }
    }
    words
}

/// The reachable accepted events that all of these servers have, with the ancestors of each.
fn common(rows: &[Rows]) -> BTreeMap<OwnedEventId, Event> {
    let counts = |flags: u8| event_flags::is_reachable(flags) && flags & event_flags::REJECTED == 0;
    let mut events = BTreeMap::new();
    for (id, (pdu, flags)) in &rows[0] {
        let is_common = rows
            .iter()
            .all(|rows| rows.get(id).is_some_and(|(_, flags)| counts(*flags)));
        if !is_common || !counts(*flags) {
            continue;
        }
        let (mut past, mut work) = (BTreeSet::new(), pdu.prev_events().to_vec());
        while let Some(before) = work.pop() {
            if let Some((pdu, _)) = rows[0].get(&before).filter(|_| past.insert(before.clone())) {
                work.extend(pdu.prev_events().iter().cloned());
            }
        }
        let event = Event {
            server: number(pdu.sender().server_name()),
            is_word: pdu.kind() != "m.room.member",
            past,
            claim: claim(pdu),
        };
        events.insert(id.clone(), event);
    }
    events
}

fn claims_of(rows: &Rows) -> Vec<(OwnedEventId, Claim)> {
    let read = |(id, (pdu, _)): (&OwnedEventId, &(Pdu, u8))| Some((id.clone(), claim(pdu)?));
    rows.iter().filter_map(read).collect()
}

fn claim(pdu: &Pdu) -> Option<Claim> {
    if pdu.kind() != "dev.weft.update" {
        return None;
    }
    let content: UpdateContent = pdu.content_as().ok()?;
    let bytes = content.bytes().ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let update = Update::parse(Bytes::from(bytes)).ok()?;
    let ranges = update.ranges();
    let mut rests: BTreeMap<ClientId, u32> = update.needs().iter().collect();
    rests.extend(ranges.keys().map(|client| (*client, u32::MAX)));
    let words = text.split('<').skip(1).filter_map(|part| {
        let end = part.find('>')?;
        part[..end]
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| format!("<{}>", &part[..end]))
    });
    let words = words.collect();
    Some(Claim { ranges, rests, words })
}

/// Whether some server has a claim to the same clocks that is concurrent with this one.
fn has_rival(
    id: &OwnedEventId,
    event: &Event,
    claim: &Claim,
    claims: &[(OwnedEventId, Claim)],
    events: &BTreeMap<OwnedEventId, Event>,
) -> bool {
    claims.iter().any(|(other_id, other)| {
        let overlaps = claim.ranges.iter().any(|(client, (from, to))| {
            other
                .ranges
                .get(client)
                .is_some_and(|(start, end)| from < end && start < to)
        });
        let follows = events.get(other_id).is_some_and(|other| other.past.contains(id));
        overlaps && other_id != id && !event.past.contains(other_id) && !follows
    })
}

/// Whether more honest servers have referenced it than could ever count against it, whatever past a claim chooses.
fn is_safe(id: &OwnedEventId, event: &Event, events: &BTreeMap<OwnedEventId, Event>, honest: &BTreeSet<usize>) -> bool {
    let followed = events
        .iter()
        .filter(|(other, event)| event.is_word && (*other == id || event.past.contains(id)));
    let followed: BTreeSet<usize> = followed.map(|(_, event)| event.server).collect();
    choices(event, events).into_iter().all(|counted| {
        let is_counted = |server: &&usize| counted & (1 << **server) != 0;
        let for_it = honest.intersection(&followed).filter(is_counted).count();
        let against = (counted.count_ones() as usize) - honest.iter().filter(is_counted).count();
        for_it > against
    })
}

/// The sets of servers, as bits, that are in the past of this event and of some claim.
fn choices(event: &Event, events: &BTreeMap<OwnedEventId, Event>) -> BTreeSet<u64> {
    let of = |id: &OwnedEventId| events.get(id).map_or(0, |event| 1_u64 << event.server);
    let behind = |id: &OwnedEventId| {
        let past = events.get(id).map(|event| &event.past);
        past.into_iter().flatten().fold(of(id), |servers, id| servers | of(id))
    };
    let single: BTreeSet<u64> = event.past.iter().map(behind).collect();
    let mut all = single.clone();
    loop {
        let more: BTreeSet<u64> = all
            .iter()
            .flat_map(|one| single.iter().map(move |other| one | other))
            .filter(|servers| !all.contains(servers))
            .collect();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}
