//! Reads suggestions, what became of them, and the difference that they make. Must not fail a list because of one suggestion: a stranger
//! may have written it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use ruma::{OwnedEventId, OwnedUserId, RoomId, UserId};
use weft_crdt::Document;
use weft_dag::{Pdu, StateView};
use weft_http::errors::{ApiError, ApiResult};
use weft_render::{Applied, ApplyRequest, RenderError};
use weft_room_read::{Relation, RelationRow};
use weft_wire::{
    event_types,
    resolution::{Outcome, Resolution, standing},
    rest::{AcceptedPart, DocumentDiffRun, Suggestion, SuggestionShown, SuggestionState},
    suggestion::{SuggestionContent, counts},
};

use super::proposal::{Proposal, ProposalError};
use crate::{
    DocumentPorts, comments,
    difference::attributed,
    point, purposes,
    resolutions::{Decision, decisions},
    show::described,
};

/// A request that reads suggestions.
pub(super) struct Reading<'a> {
    ports: &'a DocumentPorts,
    room: &'a RoomId,
    user: &'a UserId,
    threads: comments::Reading<'a>,
    /// States before decisions, by their groups: most decisions have the same one.
    states: Mutex<HashMap<u64, Option<StateView>>>,
}

/// A suggestion.
pub(super) struct Found {
    pub(super) pdu: Arc<Pdu>,
    pub(super) shown: Suggestion,
    pub(super) content: SuggestionContent,
    /// The decisions that stand, except acceptances.
    pub(super) standing: Vec<Resolution<Decision>>,
    /// Clocks of its own blocks that were accepted already.
    pub(super) taken: Vec<(u32, u32)>,
}

/// What an open suggestion would do to a text.
pub(super) enum Effect {
    /// With the client id of its blocks, if it has some.
    Applies(Box<Applied>, Option<u64>),
    /// Everything that it refers to was deleted.
    Gone,
    Impossible(ProposalError),
}

/// The updates that accept a suggestion or parts of it.
#[derive(Default)]
struct Acceptances {
    /// That of the whole; if servers accepted it at the same time, the first one by time and id.
    whole: Option<Decided>,
    parts: Vec<AcceptedPart>,
    taken: Vec<(u32, u32)>,
}

/// What was decided.
struct Decided {
    state: SuggestionState,
    by: Option<OwnedUserId>,
    at: Option<u64>,
    update: Option<OwnedEventId>,
}

pub(super) fn is_suggestion(pdu: &Pdu) -> bool {
    pdu.kind() == event_types::SUGGESTION && pdu.state_key().is_none()
}

impl<'a> Reading<'a> {
    pub(super) async fn of(ports: &'a DocumentPorts, room: &'a RoomId, user: &'a UserId) -> ApiResult<Self> {
        let threads = comments::Reading::of(ports, room, user).await?;
        Ok(Self {
            ports,
            room,
            user,
            threads,
            states: Mutex::default(),
        })
    }

    /// The suggestion with this id; 404 for any other event, and if it was redacted.
    pub(super) async fn found(&self, id: &OwnedEventId) -> ApiResult<Found> {
        let pdu = comments::visible_event(self.ports, self.room, self.user, id).await?;
        let found = match is_suggestion(&pdu) {
            true => self.suggestion(pdu).await?,
            false => None,
        };
        found.ok_or_else(|| ApiError::not_found("This event is no suggestion, or it was redacted."))
    }

    /// What is known of a suggestion. `None`: its content can't be read, or its author is ignored.
    pub(super) async fn suggestion(&self, pdu: Arc<Pdu>) -> ApiResult<Option<Found>> {
        let Ok(content) = pdu.content_as::<SuggestionContent>() else {
            return Ok(None);
        };
        if self.threads.hides(&pdu) {
            return Ok(None);
        }
        let rows = self.threads.relations(pdu.event_id()).await?;
        let mut valid = Vec::new();
        for decision in decisions(self.ports, self.room, &rows).await? {
            // Before they are compared: a decision that does not count must not replace one that does.
            if self.is_valid(&pdu, &decision).await? {
                valid.push(decision);
            }
        }
        let standing = standing(valid);
        let accepted = self.accepted(&pdu, &rows).await?;
        let decided = accepted.whole.unwrap_or_else(|| closed(&standing));
        let shown = Suggestion {
            event_id: pdu.event_id().to_owned(),
            author: pdu.sender().to_owned(),
            at: pdu.origin_server_ts().get().into(),
            summary: content.summary.clone(),
            state: decided.state,
            decided_by: decided.by,
            decided_at: decided.at,
            update: decided.update,
            parts: accepted.parts,
            replies: rows.iter().filter(|row| comments::is_answer(row)).count(),
            unread: self.threads.unread_of(pdu.event_id()),
        };
        Ok(Some(Found {
            pdu,
            shown,
            content,
            standing,
            taken: accepted.taken,
        }))
    }

    async fn accepted(&self, pdu: &Pdu, rows: &[RelationRow]) -> ApiResult<Acceptances> {
        let is_update = |row: &&RelationRow| row.relation == Relation::Reference && row.kind == event_types::UPDATE;
        let mut updates: Vec<&RelationRow> = rows.iter().filter(is_update).collect();
        updates.sort_by_key(|row| (row.at, &row.event));
        let mut found = Acceptances::default();
        for row in updates {
            let update = self.ports.rooms.reader().event(Some(self.room), &row.event).await?;
            let Some(purpose) = update.and_then(|update| purposes::purpose_of(&update)) else {
                continue;
            };
            if purpose.accepts.as_deref() == Some(pdu.event_id()) {
                found.whole.get_or_insert(Decided {
                    state: SuggestionState::Accepted,
                    by: Some(row.sender.clone()),
                    at: Some(row.at),
                    update: Some(row.event.clone()),
                });
            } else if purpose.accepts.is_none()
                && let Some(part) = purpose.accepts_part.filter(|part| part.suggestion == pdu.event_id())
            {
                found.taken.extend(part.taken);
                found.parts.push(AcceptedPart {
                    update: row.event.clone(),
                    by: row.sender.clone(),
                    at: row.at,
                });
            }
        }
        Ok(found)
    }

    /// By the state before the decision, which is the same on every server.
    async fn is_valid(&self, pdu: &Pdu, decision: &Resolution<Decision>) -> ApiResult<bool> {
        let Decision { outcome, by } = &decision.value;
        let might_edit = *outcome == Outcome::Rejected && self.might_edit(by, &decision.event).await?;
        Ok(counts(*outcome, by == pdu.sender(), might_edit))
    }

    async fn might_edit(&self, user: &UserId, at: &OwnedEventId) -> ApiResult<bool> {
        let reader = self.ports.rooms.reader();
        let Some(groups) = reader.groups_of(self.room, at).await? else {
            return Ok(false);
        };
        let can = |state: &Option<StateView>| {
            state
                .as_ref()
                .is_some_and(|state| state.can_send(user, event_types::UPDATE))
        };
        if let Some(state) = self.states.lock().get(&groups.before) {
            return Ok(can(state));
        }
        let state = reader.state_at(self.room, at).await?;
        let can = can(&state);
        self.states.lock().insert(groups.before, state);
        Ok(can)
    }

    /// Whether the page must end.
    pub(super) fn is_exhausted(&self) -> bool {
        self.threads.is_exhausted()
    }

    /// What is left of it would do to a text, with blocks of `client`; with `only`, the edit makes only these changes.
    pub(super) async fn effect(
        &self,
        found: &Found,
        text: &Document,
        client: u64,
        only: Option<BTreeSet<u32>>,
    ) -> ApiResult<Effect> {
        let kind = described(self.ports, self.user, self.room).await?.kind;
        let proposal = Proposal::of(&found.content, found.pdu.sender(), text);
        let proposal = match proposal.and_then(|proposal| proposal.without(&found.taken)) {
            Ok(proposal) => proposal,
            Err(ProposalError::Nothing) => return Ok(Effect::Gone),
            Err(error) => return Ok(Effect::Impossible(error)),
        };
        if proposal.is_gone(kind, text) {
            return Ok(Effect::Gone);
        }
        let request = ApplyRequest {
            kind,
            state: text.encode().into(),
            suggestion: proposal.bytes(),
            client,
            only,
            addresses: BTreeMap::new(),
        };
        // A name of its own, so that a hostile suggestion pauses only itself.
        let name = format!("{}/{}", self.room, found.pdu.event_id());
        match self.ports.renderer.apply(&name, request).await {
            Ok(applied) if applied.applies => Ok(Effect::Applies(Box::new(applied), proposal.own())),
            Ok(_) => Ok(Effect::Gone),
            Err(RenderError::NotRendered { .. }) => Ok(Effect::Impossible(ProposalError::Engine)),
            Err(error) => Err(error.into()),
        }
    }

    /// The difference that it makes.
    pub(super) async fn difference(&self, found: Found) -> ApiResult<SuggestionShown> {
        let mut shown = SuggestionShown {
            suggestion: found.shown.clone(),
            applies: None,
            version: None,
            problem: None,
            runs: Vec::new(),
        };
        if found.shown.state == SuggestionState::Open {
            let present = point::present(self.ports, self.room).await?;
            let text = present.text.text;
            let client = self.client(&text).await?;
            match self.effect(&found, &text, client, None).await? {
                Effect::Applies(applied, _) => {
                    shown.applies = Some(true);
                    shown.version = Some(present.version).filter(|_| present.is_exact);
                    shown.runs = self.attributed(&found, *applied).await?;
                    return Ok(shown);
                }
                Effect::Gone => shown.applies = Some(false),
                Effect::Impossible(error) => {
                    (shown.applies, shown.problem) = (Some(false), Some(error.to_string()));
                    return Ok(shown);
                }
            }
        }
        // As it was proposed: what it did to the text of its ancestors.
        let at = std::slice::from_ref(&found.shown.event_id);
        let Ok(state) = self.ports.rooms.content(self.room, Some(at)).await else {
            return Ok(shown);
        };
        let text = Document::from_update(state).map_err(|error| ApiError::internal("content of a document", &error))?;
        let client = self.client(&text).await?;
        // With what was accepted of it.
        let found = Found {
            taken: Vec::new(),
            ..found
        };
        if let Effect::Applies(applied, _) = self.effect(&found, &text, client, None).await? {
            shown.runs = self.attributed(&found, *applied).await?;
        }
        Ok(shown)
    }

    async fn client(&self, text: &Document) -> ApiResult<u64> {
        let writers = &self.ports.writers;
        let blocks = writers.unused(self.ports.rooms.reader(), self.room, text).await?;
        Ok(blocks.client.get())
    }

    /// The runs with their authors; what the suggestion inserts is of its author.
    async fn attributed(&self, found: &Found, applied: Applied) -> ApiResult<Vec<DocumentDiffRun>> {
        let runs = applied.difference.runs;
        let mut runs = attributed(self.ports, self.room, self.user, runs, Vec::new())
            .await?
            .runs;
        for run in &mut runs {
            if run.kind == "insert" && run.by.author.is_none() {
                run.by.author = Some(found.shown.author.clone());
                run.by.event_id = Some(found.shown.event_id.clone());
                run.by.at = Some(found.shown.at);
            }
        }
        Ok(runs)
    }
}

/// What the decisions of which the last one counts say.
fn closed(standing: &[Resolution<Decision>]) -> Decided {
    let last = standing.last();
    let state = match last.map(|one| one.value.outcome) {
        Some(Outcome::Withdrawn) => SuggestionState::Withdrawn,
        Some(_) => SuggestionState::Rejected,
        None => SuggestionState::Open,
    };
    Decided {
        state,
        by: last.map(|one| one.value.by.clone()),
        at: last.map(|one| one.at),
        update: None,
    }
}

impl Found {
    /// Whether nobody decided yet.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.shown.state, SuggestionState::Open)
    }
}
