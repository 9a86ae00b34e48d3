//! The update that accepts a suggestion, or some of its changes. A caller names changes by their numbers in the difference that was shown
//! for a version. They are carried forward if the suggestion has exactly the same changes in the present text: an edit elsewhere does not
//! matter, and what is accepted is what was shown.
//!
//! Must not accept a change that the caller has not seen.

use std::collections::BTreeSet;

use ruma::{OwnedEventId, RoomId, UserId};
use serde_json::json;
use weft_crdt::Document;
use weft_http::errors::{ApiError, ApiResult};
use weft_render::{Applied, DiffRun, Difference, RunKind};
use weft_wire::{
    limits::{MAX_CHANGES_PER_EDIT, MAX_TAKEN_RANGES},
    purpose::{AcceptsPart, Purpose},
    rest::AcceptSuggestion,
};

use super::super::reading::{Effect, Found, Reading};
use crate::{
    DocumentPorts,
    failures::{inadmissible_suggestion, suggestion_changed, suggestion_outdated},
    point::{self, Point, Present},
    purposes,
};

/// The changes that a caller accepts.
pub(super) struct Chosen {
    changes: BTreeSet<u32>,
    /// For which they were shown.
    version: u64,
}

/// A suggestion that a user accepts.
pub(super) struct Accepting<'a> {
    pub(super) ports: &'a DocumentPorts,
    pub(super) room: &'a RoomId,
    pub(super) user: &'a UserId,
    pub(super) reading: &'a Reading<'a>,
    pub(super) found: &'a Found,
}

/// What was accepted.
pub(super) struct Accepted {
    /// The first event of the update.
    pub(super) update: OwnedEventId,
    /// Nothing is left of the suggestion.
    pub(super) is_whole: bool,
}

impl Chosen {
    /// What a request names; `None`: all changes.
    pub(super) fn of(request: &AcceptSuggestion) -> ApiResult<Option<Self>> {
        let Some(changes) = &request.changes else {
            return Ok(None);
        };
        let version = request.version;
        let version =
            version.ok_or_else(|| ApiError::missing_param("changes needs the version that they were shown for."))?;
        if changes.is_empty() || changes.len() > MAX_CHANGES_PER_EDIT {
            return Err(ApiError::invalid_param(format!(
                "changes has 1 to {MAX_CHANGES_PER_EDIT} numbers."
            )));
        }
        let changes = changes.iter().copied().collect();
        Ok(Some(Self { changes, version }))
    }
}

impl Accepting<'_> {
    /// Sends the update.
    ///
    /// # Errors
    /// When the suggestion does not apply, or the changes are not those that were shown.
    pub(super) async fn accept(&self, chosen: Option<Chosen>) -> ApiResult<Accepted> {
        let present = point::present(self.ports, self.room).await?;
        let only = chosen.as_ref().map(|chosen| chosen.changes.clone());
        let (applied, own) = self.effect(&present.text.text, only).await?;
        let mut purpose = Purpose::default();
        let is_whole = match &chosen {
            None => true,
            Some(chosen) => {
                self.check_shown(chosen, &present, &applied.difference).await?;
                all_changes(&applied.difference).is_subset(&chosen.changes)
            }
        };
        match &chosen {
            Some(chosen) if !is_whole => {
                purpose.accepts_part = Some(AcceptsPart {
                    suggestion: self.found.shown.event_id.clone(),
                    taken: taken(&applied.difference, own, &chosen.changes)?,
                });
            }
            _ => purpose.accepts = Some(self.found.shown.event_id.clone()),
        }
        let edit = purposes::edit(self.user, applied.update, &purpose)?;
        let mut sent = self.ports.rooms.send_edit(self.room, edit).await?.into_iter();
        let update = sent.next().ok_or_else(suggestion_outdated)?;
        Ok(Accepted { update, is_whole })
    }

    async fn effect(&self, text: &Document, only: Option<BTreeSet<u32>>) -> ApiResult<(Applied, Option<u64>)> {
        let reader = self.ports.rooms.reader();
        let blocks = self.ports.writers.unused(reader, self.room, text).await?;
        match self.reading.effect(self.found, text, blocks.client.get(), only).await? {
            Effect::Applies(applied, own) => Ok((*applied, own)),
            Effect::Gone => Err(suggestion_outdated()),
            Effect::Impossible(error) => Err(inadmissible_suggestion(&error)),
        }
    }

    /// Whether the changes are those that were shown to the caller.
    async fn check_shown(&self, chosen: &Chosen, present: &Present, difference: &Difference) -> ApiResult<()> {
        if !present.is_exact || present.version != chosen.version {
            self.check_unchanged(chosen.version, difference).await?;
        }
        if chosen.changes.is_subset(&all_changes(difference)) {
            return Ok(());
        }
        Err(ApiError::invalid_param(
            "The suggestion has no change with one of these numbers.",
        ))
    }

    async fn check_unchanged(&self, version: u64, difference: &Difference) -> ApiResult<()> {
        let parts: Vec<OwnedEventId> = self.found.shown.parts.iter().map(|part| part.update.clone()).collect();
        let versions = self.ports.rooms.reader().versions_of(self.room, &parts).await?;
        // What was accepted since was still part of the difference that the caller saw.
        let is_since = versions.iter().any(|first| first.is_some_and(|first| first > version));
        let then = point::content(self.ports, self.room, self.user, &Point::Version(version)).await?;
        let text = Document::from_update(then.state);
        let text = text.map_err(|error| ApiError::internal("content of a document", &error))?;
        let (applied, _) = self.effect(&text, None).await?;
        let is_same = || changed(&applied.difference).eq(changed(difference));
        if is_since || !is_same() {
            let now = self.ports.rooms.reader().document_version(self.room).await?;
            return Err(suggestion_changed(json!(now)));
        }
        Ok(())
    }
}

fn all_changes(difference: &Difference) -> BTreeSet<u32> {
    difference.runs.iter().filter_map(|run| run.change).collect()
}

/// What a difference changes, wherever that is in the text.
fn changed(difference: &Difference) -> impl Iterator<Item = DiffRun> {
    let runs = difference.runs.iter().filter(|run| run.kind != RunKind::Equal);
    runs.map(|run| DiffRun {
        path: Vec::new(),
        ..run.clone()
    })
}

/// The clocks of the suggestion's own blocks in these changes, joined.
fn taken(difference: &Difference, own: Option<u64>, changes: &BTreeSet<u32>) -> ApiResult<Vec<(u32, u32)>> {
    let is_taken = |run: &&DiffRun| {
        let is_chosen = run.change.is_some_and(|change| changes.contains(&change));
        is_chosen && run.kind == RunKind::Insert && run.client.is_some() && run.client == own
    };
    let mut ranges: Vec<(u32, u32)> = difference
        .runs
        .iter()
        .filter(is_taken)
        .filter_map(|run| run.clocks)
        .collect();
    ranges.sort_unstable();
    let mut joined: Vec<(u32, u32)> = Vec::new();
    for (from, to) in ranges {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    if joined.len() > MAX_TAKEN_RANGES {
        return Err(ApiError::too_large(
            "These are too many changes for one edit. Accept fewer at a time.",
        ));
    }
    Ok(joined)
}
