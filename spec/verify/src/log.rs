//! The log so far: the graph, the states, and the decision about each event, as a server makes them. Must not keep events
//! other than state events, unless they are needed to decide between claims.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, ServerName};
use serde_json::json;
use weft_dag::{ChainCover, EventMap, Pdu, ResolveError, StateMap, StateView, Verdict, Verified, lock, resolve};
use weft_wire::{
    audit::AuditCut,
    limits::{MAX_AUDIT_CUT_ENTRIES, MAX_AUDIT_EVENTS, MAX_AUDIT_WORK},
};

use crate::{
    Doubt, Failed, Rule, Wrong,
    ids::Id,
    redactions::Redactions,
    signatures::{Checked, Room},
    text::Text,
    versions::{Version, Versions},
    witnesses,
};

/// Reasons of rejections that are kept for the report.
const MAX_REASONS: usize = 1_000;
/// Servers whose statements are counted; others are in the summary without a number.
const MAX_COUNTED_SERVERS: u32 = 1_024;
/// Heads whose states are resolved for the summary.
const MAX_RESOLVED_HEADS: usize = 100;

/// An event of the file, or one that is absent.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// The state after it; `None` if only its place in auth chains is known.
    state: Option<Version>,
    vector: Option<Version>,
    /// Its part of `Log::prev`.
    prev: (u32, u8),
    /// The server that it is a statement of.
    statement_of: Option<u32>,
    /// In the file and not before a cut.
    counts: bool,
    rejected: bool,
    referenced: bool,
}

/// The newest statement of a server.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) event: OwnedEventId,
    pub(crate) at: MilliSecondsSinceUnixEpoch,
}

/// The log so far.
pub(crate) struct Log {
    room: Room,
    ids: Vec<Id>,
    numbers: HashMap<Id, u32>,
    entries: Vec<Entry>,
    prev: Vec<u32>,
    /// State events, also rejected ones.
    events: EventMap,
    cover: ChainCover,
    states: Versions<StateMap>,
    /// `None` behind a cut.
    text: Option<Text>,
    create: Option<OwnedEventId>,
    redactions: Redactions,
    reasons: HashMap<u32, String>,
    servers: BTreeMap<OwnedServerName, u32>,
    statements: Vec<Statement>,
    without_key: BTreeMap<OwnedServerName, (u64, OwnedEventId)>,
    absent: u64,
    cut_entries: usize,
    pub(crate) events_placed: u64,
    pub(crate) before: u64,
    pub(crate) rejected: u64,
}

impl Log {
    pub(crate) fn new(room: Room, keeps_events: bool, keeps_text: bool) -> Self {
        Self {
            room,
            ids: Vec::new(),
            numbers: HashMap::new(),
            entries: Vec::new(),
            prev: Vec::new(),
            events: EventMap::default(),
            cover: ChainCover::default(),
            states: Versions::default(),
            text: Some(Text::new(keeps_events, keeps_text)),
            create: None,
            redactions: Redactions::default(),
            reasons: HashMap::new(),
            servers: BTreeMap::new(),
            statements: Vec::new(),
            without_key: BTreeMap::new(),
            absent: 0,
            cut_entries: 0,
            events_placed: 0,
            before: 0,
            rejected: 0,
        }
    }

    /// Takes the next event.
    pub(crate) fn place(&mut self, checked: Checked) -> Result<(), Failed> {
        let line = checked.line;
        let event = checked.event.pdu().event_id().to_owned();
        let wrong = |rule: Rule, why: String| {
            let event = Some(event.clone());
            Failed::from(Wrong { line, event, rule, why })
        };
        let pdu = Arc::clone(checked.event.pdu());
        let id = Id::of(&event).ok_or_else(|| wrong(Rule::Event, "not an event id".to_owned()))?;
        if self.number(&event).is_some() {
            return Err(wrong(Rule::Duplicate, "the event is in the file already".to_owned()));
        }
        for server in checked.without_key {
            let (count, _) = self.without_key.entry(server).or_insert((0, event.clone()));
            *count += 1;
        }
        if pdu.kind() == "m.room.create" && self.create.replace(event.clone()).is_some() {
            return Err(wrong(Rule::Create, "the room has a create event already".to_owned()));
        }
        self.require_auth_events(&pdu).map_err(|why| wrong(Rule::Order, why))?;
        if checked.is_stripped {
            self.redactions.note_stripped(&pdu);
        }
        if checked.before {
            return self
                .place_before(id, checked.event)
                .map_err(|why| wrong(Rule::Order, why));
        }
        let prev = self.prev_of(&pdu).map_err(|why| wrong(Rule::Order, why))?;
        let before = self.state_before(&prev, &wrong)?;
        let (pdu, reason) = self
            .judge(checked.event, before)
            .map_err(|why| wrong(Rule::Order, why))?;
        let state = self
            .state_after(before, &pdu)
            .map_err(|why| wrong(Rule::Authorisation, why))?;
        let vector = self.add_text(&pdu, &prev)?;
        self.events_placed += 1;
        self.rejected += u64::from(pdu.rejected());
        let number = self.add(id, Some(state), vector, true)?;
        if let Some(reason) = reason.filter(|_| self.reasons.len() < MAX_REASONS) {
            self.reasons.insert(number, reason);
        }
        self.link(number, &pdu, &prev);
        Ok(())
    }

    fn number(&self, id: &EventId) -> Option<u32> {
        self.numbers.get(&Id::of(id)?).copied()
    }

    fn entry(&self, number: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(number).ok()?)
    }

    fn entry_mut(&mut self, number: u32) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(number).ok()?)
    }

    /// All auth events must be before an event. One that is no state event makes the event a rejected one; a stand-in for it
    /// is enough for the rules, because only its kind counts.
    fn require_auth_events(&mut self, pdu: &Pdu) -> Result<(), String> {
        for id in pdu.auth_events() {
            if self.number(id).is_none() {
                return Err(format!("its auth event {id} is not before it"));
            }
            if self.events.0.contains_key(id) {
                continue;
            }
            let json = json!({
                "type": "m.room.message", "room_id": self.room.id, "sender": "@nobody:localhost", "content": {},
                "origin_server_ts": 0, "depth": 0, "prev_events": [], "auth_events": [],
            });
            let stand_in = Pdu::from_trusted_json(&json.to_string(), id.clone(), &self.room.version, false);
            self.events
                .insert(Arc::new(stand_in.map_err(|error| error.to_string())?));
        }
        // In version 12 the room id names the create event.
        if pdu.kind() != "m.room.create" && self.create.is_none() {
            return Err("the create event is not before it".to_owned());
        }
        Ok(())
    }

    /// The numbers of its `prev_events`, after which the state must be known.
    fn prev_of(&self, pdu: &Pdu) -> Result<Vec<u32>, String> {
        let known = |id: &EventId| {
            let number = self.number(id)?;
            self.entry(number)?.state.map(|_| number)
        };
        let prev = pdu.prev_events().iter();
        prev.map(|id| known(id).ok_or_else(|| format!("its prev event {id} is not before it")))
            .collect()
    }

    fn state_before(&mut self, prev: &[u32], wrong: &impl Fn(Rule, String) -> Failed) -> Result<Version, Failed> {
        let mut versions: Vec<Version> = prev.iter().filter_map(|number| self.entry(*number)?.state).collect();
        versions.sort_unstable();
        versions.dedup();
        let (version, cover, events) = (&self.room.version, &self.cover, &self.events);
        let merged = self
            .states
            .merge(&versions, |states| resolve(version, states, cover, events));
        let work = self.states.work() + self.text.as_ref().map_or(0, Text::work);
        if work > MAX_AUDIT_WORK {
            return Err(Failed::Unjudged(Doubt::TooMany {
                what: "entries of states and state vectors to compare",
                limit: MAX_AUDIT_WORK,
            }));
        }
        merged.map_err(|error: ResolveError| {
            wrong(
                Rule::Authorisation,
                format!("the states before it can't be resolved: {error}"),
            )
        })
    }

    /// The entries of a state that decide about an event.
    fn view_for(&self, pdu: &Pdu, state: &StateMap) -> StateView {
        let keys = lock::deciding_keys(pdu, &self.room.version, lock::entry(state)).into_iter();
        let events = keys.filter_map(|(kind, key)| self.events.0.get(state.get(&kind, &key)?).cloned());
        StateView::from_events(self.room.version.clone(), events)
    }

    /// Applies the authorisation rules. Returns the event, and why it is rejected.
    fn judge(&mut self, event: Verified, before: Version) -> Result<(Arc<Pdu>, Option<String>), String> {
        let state = self.states.get(before);
        let view = self.view_for(event.pdu(), &state);
        let authorized = event
            .authorize(&self.room.version, &self.events, &view, None)
            .map_err(|missing| missing.to_string())?;
        let (pdu, verdict) = authorized.into_parts();
        let reason = match verdict {
            Verdict::Accepted | Verdict::SoftFailed { .. } => None,
            Verdict::Rejected { reason } => Some(reason.to_string()),
        };
        if reason.is_none() {
            self.redactions.note(&pdu, &view);
        }
        Ok((pdu, reason))
    }

    fn state_after(&mut self, before: Version, pdu: &Arc<Pdu>) -> Result<Version, String> {
        let Some(key) = pdu.state_entry() else {
            return Ok(before);
        };
        self.events.insert(Arc::clone(pdu));
        if pdu.rejected() {
            return Ok(before);
        }
        self.cover.add(pdu).map_err(|error| error.to_string())?;
        Ok(self.states.change(before, vec![(key, Some(pdu.event_id().to_owned()))]))
    }

    fn add_text(&mut self, pdu: &Arc<Pdu>, prev: &[u32]) -> Result<Option<Version>, Failed> {
        let vectors = prev.iter().filter_map(|number| self.entry(*number)?.vector).collect();
        self.text.as_mut().map(|text| text.add(pdu, vectors)).transpose()
    }

    fn add(&mut self, id: Id, state: Option<Version>, vector: Option<Version>, counts: bool) -> Result<u32, Failed> {
        let number = u32::try_from(self.entries.len()).ok();
        let number = number.filter(|_| self.entries.len() < MAX_AUDIT_EVENTS).ok_or({
            Failed::Unjudged(Doubt::TooMany {
                what: "events",
                limit: MAX_AUDIT_EVENTS as u64,
            })
        })?;
        self.ids.push(id);
        self.numbers.insert(id, number);
        self.entries.push(Entry {
            state,
            vector,
            counts,
            ..Entry::default()
        });
        Ok(number)
    }

    /// Notes the references of an event, and whose statement it is.
    fn link(&mut self, number: u32, pdu: &Pdu, prev: &[u32]) {
        let cited: Vec<u32> = pdu.auth_events().iter().filter_map(|id| self.number(id)).collect();
        for referenced in prev.iter().chain(&cited) {
            if let Some(entry) = self.entry_mut(*referenced) {
                entry.referenced = true;
            }
        }
        let start = u32::try_from(self.prev.len()).unwrap_or(u32::MAX);
        self.prev.extend(prev);
        let is_statement = !pdu.rejected() && pdu.kind() != "m.room.member";
        let statement_of = is_statement.then(|| self.note_statement(pdu));
        if let Some(entry) = self.entry_mut(number) {
            entry.prev = (start, u8::try_from(prev.len()).unwrap_or(u8::MAX));
            entry.statement_of = statement_of;
            entry.rejected = pdu.rejected();
        }
    }

    fn note_statement(&mut self, pdu: &Pdu) -> u32 {
        let server: &ServerName = pdu.sender().server_name();
        let statement = Statement {
            event: pdu.event_id().to_owned(),
            at: pdu.origin_server_ts(),
        };
        if let Some(number) = self.servers.get(server).copied() {
            let place = usize::try_from(number).ok().and_then(|at| self.statements.get_mut(at));
            place.into_iter().for_each(|place| *place = statement.clone());
            return number;
        }
        let number = u32::try_from(self.statements.len()).unwrap_or(u32::MAX);
        self.servers.insert(server.to_owned(), number);
        self.statements.push(statement);
        number
    }

    // --- Before a cut ---------------------------------------------------------------------------------------------

    /// An event of the state at a cut or of its auth chains: judged by its auth events alone, as far as that goes.
    fn place_before(&mut self, id: Id, event: Verified) -> Result<(), String> {
        let cited = event.pdu().auth_events().iter().chain(&self.create);
        let cited = cited.filter_map(|id| self.events.0.get(id).cloned());
        let view = StateView::from_events(self.room.version.clone(), cited);
        let authorized = event
            .authorize(&self.room.version, &self.events, &view, None)
            .map_err(|missing| missing.to_string());
        // The create event is its own.
        let pdu = match authorized {
            Ok(authorized) => authorized.into_parts().0,
            Err(why) => return Err(why),
        };
        self.before += 1;
        let number = self.add(id, None, None, false).map_err(|error| error.to_string())?;
        self.link(number, &pdu, &[]);
        if pdu.state_key().is_some() {
            self.events.insert(Arc::clone(&pdu));
            if !pdu.rejected() {
                self.cover.add(&pdu).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Takes a cut: absent events, and the state after them.
    pub(crate) fn cut(&mut self, line: u64, cut: &AuditCut) -> Result<(), Failed> {
        let wrong = |event: &EventId, rule: Rule, why: &str| {
            let event = Some(event.to_owned());
            let why = why.to_owned();
            Failed::from(Wrong { line, event, rule, why })
        };
        self.cut_entries = self.cut_entries.saturating_add(cut.state.len());
        if self.cut_entries > MAX_AUDIT_CUT_ENTRIES {
            return Err(Failed::Unjudged(Doubt::TooMany {
                what: "entries of states at cuts",
                limit: MAX_AUDIT_CUT_ENTRIES as u64,
            }));
        }
        let mut changes = Vec::with_capacity(cut.state.len());
        for id in &cut.state {
            let pdu = self.events.0.get(id).filter(|pdu| !pdu.rejected());
            let key = pdu.and_then(|pdu| pdu.state_entry());
            let key = key.ok_or_else(|| wrong(id, Rule::Order, "the event of a cut's state is not before it"))?;
            changes.push((key, Some(id.clone())));
        }
        let state = self.states.change(Versions::<StateMap>::EMPTY, changes);
        // What the text was at the cut is unknown.
        self.text = None;
        for id in &cut.cut {
            self.absent += 1;
            match self.number(id) {
                Some(number) => match self.entry_mut(number).filter(|entry| entry.state.is_none()) {
                    Some(entry) => entry.state = Some(state),
                    None => {
                        return Err(wrong(
                            id,
                            Rule::Duplicate,
                            "the event is in the file, so it is not cut off",
                        ));
                    }
                },
                None => {
                    let hash = Id::of(id).ok_or_else(|| wrong(id, Rule::Form, "not an event id"))?;
                    self.add(hash, Some(state), None, false)?;
                }
            }
        }
        Ok(())
    }

    // --- The end --------------------------------------------------------------------------------------------------

    /// The events that no other one references, sorted.
    pub(crate) fn heads(&self) -> Vec<OwnedEventId> {
        let heads = self.entries.iter().zip(&self.ids);
        let heads = heads.filter(|(entry, _)| entry.counts && !entry.referenced);
        let mut heads: Vec<OwnedEventId> = heads.filter_map(|(_, id)| id.event_id()).collect();
        heads.sort_unstable();
        heads
    }

    /// A head that is rejected, and why. A server's log has no such event: it would have no effect at all.
    pub(crate) fn rejected_head(&self) -> Option<(OwnedEventId, String)> {
        let entries = self.entries.iter().zip(&self.ids).zip(0..);
        let mut rejected = entries.filter(|((entry, _), _)| entry.counts && !entry.referenced && entry.rejected);
        let ((_, id), number) = rejected.next()?;
        let reason = self.reasons.get(&number).cloned();
        Some((id.event_id()?, reason.unwrap_or_else(|| "rejected".to_owned())))
    }

    /// The state at these heads; `None` if there are too many heads to tell.
    pub(crate) fn state_at(&mut self, heads: &[OwnedEventId]) -> Option<StateView> {
        if heads.len() > MAX_RESOLVED_HEADS {
            return None;
        }
        let numbers: Vec<u32> = heads.iter().filter_map(|id| self.number(id)).collect();
        let ignored = |rule: Rule, why: String| {
            Failed::from(Wrong {
                line: 0,
                event: None,
                rule,
                why,
            })
        };
        let state = self.state_before(&numbers, &ignored).ok()?;
        let state = self.states.get(state);
        StateView::load(self.room.version.clone(), &state, &self.events).ok()
    }

    /// By server, its newest statement and the number of events that it confirms.
    pub(crate) fn confirmed(&self) -> BTreeMap<OwnedServerName, (Statement, u64)> {
        let counted = u32::try_from(self.statements.len())
            .unwrap_or(u32::MAX)
            .min(MAX_COUNTED_SERVERS);
        let counts = witnesses::confirmed(self, counted);
        let of = |number: u32| {
            let at = usize::try_from(number).ok()?;
            Some((self.statements.get(at)?.clone(), counts.get(at).copied().unwrap_or(0)))
        };
        let servers = self.servers.iter();
        servers
            .filter_map(|(server, number)| Some((server.clone(), of(*number)?)))
            .collect()
    }

    /// What can't be judged, and the number of redacted events.
    pub(crate) fn doubts(&self) -> (Vec<Doubt>, u64) {
        let keys = self.without_key.iter();
        let keys = keys.map(|(server, (events, first))| Doubt::Key {
            server: server.clone(),
            events: *events,
            first: first.clone(),
        });
        let cut = (self.absent > 0).then_some(Doubt::Cut { events: self.absent });
        let (redacted, missing) = self.redactions.settle();
        (keys.chain(cut).chain(missing).collect(), redacted)
    }

    /// The text; `None` behind a cut.
    pub(crate) fn take_text(&mut self) -> Option<Text> {
        self.text.take()
    }
}

impl witnesses::Graph for Log {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn prev(&self, at: usize) -> &[u32] {
        let (start, length) = self.entries.get(at).map_or((0, 0), |entry| entry.prev);
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        self.prev
            .get(start..start.saturating_add(usize::from(length)))
            .unwrap_or_default()
    }

    fn statement_of(&self, at: usize) -> Option<u32> {
        self.entries.get(at)?.statement_of
    }

    fn counts(&self, at: usize) -> bool {
        self.entries.get(at).is_some_and(|entry| entry.counts)
    }
}
