//! `GET /documents/{id}/history`: who wrote what and when, as sessions of work, with the versions that have a name; and
//! `POST /documents/{id}/versions`, which names one.
//!
//! A page reads the timeline backwards, so its cost follows what it shows. Must not show events that the caller may not see.

pub(super) mod activity;
mod sessions;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use ruma::{OwnedUserId, RoomId, UserId};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};
use weft_dag::Pdu;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_room_api::NewEvent;
use weft_room_read::{
    Direction, TimelineEvent, Types,
    versions::{EventSteps, steps::Step},
};
use weft_wire::{
    document::VersionContent,
    event_types,
    limits::{
        MAX_HISTORY_EDITS, MAX_HISTORY_ENTRIES, MAX_HISTORY_EVENTS, MAX_TITLE_BYTES, MAX_VERSION_DESCRIPTION_BYTES,
    },
    rest::{History, HistoryEdit, NameVersion, NamedVersion},
    schema,
};

use self::sessions::{Sessions, Work};
use super::{
    DocumentPorts,
    caller::{Named, joined},
    point::Point,
    purposes::{self, Told},
    request::JsonBody,
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("History")
        .get(
            "/_weft/client/v1/documents/{id}/history",
            list,
            Operation::new("listHistory", "Who edited when, and named versions"),
        )
        .get(
            "/_weft/client/v1/documents/{id}/history/activity",
            activity::list,
            Operation::new("listActivity", "How much each author did on each day"),
        )
        .post(
            "/_weft/client/v1/documents/{id}/versions",
            name,
            Operation::new("nameVersion", "Gives the present content a name").refuses(403, "Below editor."),
        )
}

/// Entries of a page if the request does not say.
const ENTRIES: usize = 50;
/// Events that are read at a time.
const EVENTS_AT_ONCE: usize = 200;

/// The query of `GET /documents/{id}/history`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct HistoryQuery {
    /// Only what this user did.
    #[schemars(with = "Option<schema::UserId>")]
    author: Option<OwnedUserId>,
    /// Only after this version, event or time.
    #[schemars(with = "Option<schema::Point>")]
    from: Option<String>,
    /// Only up to this version, event or time.
    #[schemars(with = "Option<schema::Point>")]
    to: Option<String>,
    /// The length of a page.
    #[schemars(range(min = 1, max = MAX_HISTORY_ENTRIES))]
    limit: Option<usize>,
    /// `nextPage` of the page before.
    page: Option<String>,
    /// `edits`: sessions with their edits.
    detail: Option<String>,
}

/// What is asked for.
struct Wanted {
    author: Option<OwnedUserId>,
    from: u64,
    to: u64,
    limit: usize,
    /// Events before this place in the timeline.
    before: Option<i64>,
    with_edits: bool,
}

impl HistoryQuery {
    fn wanted(self) -> ApiResult<Wanted> {
        let millis = |text: Option<String>| match text {
            None => Ok(None),
            Some(text) => match Point::parse(&text)? {
                // Small numbers are times here too.
                Point::Time(time) | Point::Version(time) => Ok(Some(time)),
                Point::Event(_) => Err(ApiError::invalid_param("from and to are times.")),
            },
        };
        let limit = self.limit.unwrap_or(ENTRIES);
        if !(1..=MAX_HISTORY_ENTRIES).contains(&limit) {
            return Err(ApiError::invalid_param(format!("limit is 1 to {MAX_HISTORY_ENTRIES}.")));
        }
        let before = self.page.map(|page| page.parse::<i64>()).transpose();
        let with_edits = match self.detail.as_deref() {
            None => false,
            Some("edits") => true,
            Some(_) => return Err(ApiError::invalid_param("detail is edits.")),
        };
        Ok(Wanted {
            author: self.author,
            from: millis(self.from)?.unwrap_or(0),
            to: millis(self.to)?.unwrap_or(u64::MAX),
            limit,
            before: before.map_err(|_| ApiError::invalid_param("page is the nextPage of a page."))?,
            with_edits,
        })
    }
}

impl Wanted {
    fn has(&self, event: &Pdu) -> bool {
        let at = at(event);
        let is_of_author = self.author.as_ref().is_none_or(|author| author == event.sender());
        is_of_author && self.from <= at && at < self.to
    }
}

fn at(event: &Pdu) -> u64 {
    event.origin_server_ts().get().into()
}

/// One page, newest first.
async fn list(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> ApiResult<Json<History>> {
    let Query(query) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let wanted = query.wanted()?;
    let _permit = ports.content_reads.permit(&session.user_id).await?;
    let room = joined(&ports, &named, &session.user_id).await?;
    let mut sessions = Sessions::new(wanted.with_edits);
    let next = collect(&ports, &session.user_id, &room, &wanted, &mut sessions).await?;
    Ok(Json(History {
        entries: sessions.finish(),
        versions_from: ports.rooms.reader().versions_from(&room).await?,
        next_page: next.map(|next| next.to_string()),
    }))
}

/// What a page is made of, from the newest event to the oldest.
trait Collected {
    /// Whether a page with this limit ends before an event of this time.
    fn is_complete_before(&self, limit: usize, at: u64) -> bool;

    /// The next event with edits.
    fn take(&mut self, work: Work);

    /// The next event that names a version.
    fn name(&mut self, version: NamedVersion);
}

impl Collected for Sessions {
    fn is_complete_before(&self, limit: usize, at: u64) -> bool {
        self.count() >= limit && self.is_quiet_before(at)
    }

    fn take(&mut self, work: Work) {
        self.take(work);
    }

    fn name(&mut self, version: NamedVersion) {
        self.name(version);
    }
}

/// Reads back until the page is complete, or enough was read. Returns where the next page begins.
async fn collect(
    ports: &DocumentPorts,
    user: &UserId,
    room: &RoomId,
    wanted: &Wanted,
    found: &mut impl Collected,
) -> ApiResult<Option<i64>> {
    let reader = ports.rooms.reader();
    let (mut before, mut read, mut edits) = (wanted.before, 0, 0);
    loop {
        let page = reader.timeline(room, before, Direction::Backward, Types::All, EVENTS_AT_ONCE);
        let page = page.await?;
        read += page.events.len();
        let events = page.events.into_iter().filter(|event| wanted.has(&event.pdu)).collect();
        let events: Vec<TimelineEvent> = reader.visible_to_user(room, user, events).await?;
        let updates = events.iter().filter(|event| is_update(&event.pdu));
        let ids: Vec<_> = updates.map(|event| event.pdu.event_id().to_owned()).collect();
        let mut steps = reader.steps_of(room, &ids).await?.into_iter();
        let updates = events.iter().map(|event| &*event.pdu);
        let mut told = purposes::of_updates(ports, room, user, updates).await?;
        for event in events {
            if found.is_complete_before(wanted.limit, at(&event.pdu)) {
                return Ok(Some(event.order.saturating_add(1)));
            }
            if is_update(&event.pdu) {
                let mut work = work(&event.pdu, steps.next().flatten(), edits < MAX_HISTORY_EDITS);
                if let Some(told) = told.remove(event.pdu.event_id()) {
                    work.is_for(told);
                }
                edits += work.edits.len();
                found.take(work);
            } else if let Some(version) = version_of(&event.pdu) {
                found.name(version);
            }
        }
        before = page.next;
        if before.is_none() || read >= MAX_HISTORY_EVENTS {
            return Ok(before);
        }
    }
}

fn is_update(event: &Pdu) -> bool {
    event.kind() == event_types::UPDATE && event.state_key().is_none()
}

/// What an event is in the history. `in_detail`: each of its edits.
fn work(event: &Pdu, steps: Option<EventSteps>, in_detail: bool) -> Work {
    let versions = steps.as_ref().and_then(|steps| {
        let versions = steps.steps.iter().map(|step| step.version);
        versions.clone().min().zip(versions.max())
    });
    let steps = steps.or_else(|| EventSteps::of_event(event));
    let steps = steps.map(|steps| steps.steps).unwrap_or_default();
    let edit = |(version, at): (Option<u64>, u64), (inserted, deleted): (u64, u64)| HistoryEdit {
        event_id: event.event_id().to_owned(),
        version,
        at,
        inserted,
        deleted,
        suggestion: None,
        proposed_by: None,
        restores: None,
        rolls_back: None,
    };
    let sizes = steps.iter().map(size_of);
    let (inserted, deleted) = sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
    let edits = match versions {
        Some(_) if in_detail => {
            let edits = steps.iter().rev();
            edits
                .map(|step| edit((Some(step.version), step.at), size_of(step)))
                .collect()
        }
        _ => vec![edit((versions.map(|(_, last)| last), at(event)), (inserted, deleted))],
    };
    Work {
        author: event.sender().to_owned(),
        at: at(event),
        event_id: event.event_id().to_owned(),
        versions,
        inserted,
        deleted,
        told: Told::default(),
        edits,
    }
}

/// The units that a step inserts and deletes.
fn size_of(step: &Step) -> (u64, u64) {
    let inserted = step
        .blocks
        .iter()
        .map(|(_, from, to)| u64::from(to.saturating_sub(*from)));
    let deleted = step
        .deletes
        .iter()
        .map(|(_, from, to)| u64::from(to.saturating_sub(from)));
    (inserted.sum(), deleted.sum())
}

pub(super) fn version_of(event: &Pdu) -> Option<NamedVersion> {
    if event.kind() != event_types::VERSION || event.state_key().is_some() {
        return None;
    }
    let content: VersionContent = event.content_as().ok()?;
    Some(NamedVersion {
        event_id: event.event_id().to_owned(),
        author: event.sender().to_owned(),
        at: at(event),
        name: content.name,
        description: content.description,
    })
}

/// Names the present version. 201 with the event id.
pub(super) async fn name(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    JsonBody(request): JsonBody<NameVersion>,
) -> ApiResult<(StatusCode, Json<NamedVersion>)> {
    if request.name.is_empty() {
        return Err(ApiError::invalid_param("A version needs a name."));
    }
    let description = request.description.as_deref().unwrap_or_default();
    for (what, bytes, limit) in [
        ("name", request.name.len(), MAX_TITLE_BYTES),
        ("description", description.len(), MAX_VERSION_DESCRIPTION_BYTES),
    ] {
        if bytes > limit {
            return Err(ApiError::too_large(format!(
                "The {what} has {bytes} bytes; at most {limit} are allowed."
            )));
        }
    }
    let room = joined(&ports, &named, &session.user_id).await?;
    let mut content = Map::from_iter([("name".to_owned(), json!(request.name))]);
    if let Some(description) = &request.description {
        content.insert("description".to_owned(), json!(description));
    }
    let event = NewEvent {
        sender: session.user_id.clone(),
        kind: event_types::VERSION.to_owned(),
        state_key: None,
        content,
        redacts: None,
        txn: None,
        timestamp: None,
    };
    let event_id = ports.rooms.send(&room, event).await?;
    let event = ports.rooms.reader().event(Some(&room), &event_id).await?;
    let version = NamedVersion {
        event_id,
        author: session.user_id.clone(),
        at: event.map_or(0, |event| at(&event)),
        name: request.name,
        description: request.description,
    };
    Ok((StatusCode::CREATED, Json(version)))
}
