//! `PATCH /documents/{id}/edit`: changes by position (`spec/docs/rendering.md`, "Edits"), of which a render worker makes one
//! update. The update is an edit of the caller like any other.
//!
//! Must not apply an update itself: the room's worker does, by the same rules as for live sockets, and all of it or nothing.

mod writers;

use axum::{Json, extract::State, http::HeaderMap};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ruma::{RoomId, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use weft_crdt::Update;
use weft_http::{
    authentication::Authenticated,
    conditional::is_required,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_render::{Change, Conflict, ConflictKind, EditRequest, Edited, Unit};
use weft_room_api::{RefusedEdit, RequestKey, RequestOutcome, RequestedEdit, RoomError};
use weft_room_read::{WantedBlocks, author_of};
use weft_wire::{
    document::DocumentKind,
    limits::MAX_CHANGES_PER_EDIT,
    rest::{EditAccepted, EditConflict, EditConflictKind},
};

use self::writers::{Blocks, Writer};
use super::{
    DocumentPorts,
    bin::check_not_in_bin,
    caller::{Named, joined},
    content::etag,
    failures::{document_changed, key_reused, refused_content, unknown_version},
    point::{self, Point, Present},
    request::{JsonBody, idempotency_key, with_idempotency_key},
};

pub use self::writers::Writers;

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Content").patch(
        "/_weft/client/v1/documents/{id}/edit",
        edit,
        with_idempotency_key(
            Operation::new(
                "editDocument",
                "Makes changes by position; the answer means that they are on disk",
            )
            .takes("If-Match", None, "Tags of the content that may be changed.")
            .refuses(403, "Below editor, or the document is locked.")
            .refuses(409, "This server does not know the text at that version.")
            .refuses(
                409,
                "The document is not the one that `If-Match` names, or it is in the bin.",
            )
            .refuses(422, "The document can't be rendered on this server.")
            .refuses(422, "The `Idempotency-Key` was used for another request."),
        ),
    )
}

/// Conflicts whose authors are looked up, each by a read of the index; the others are without.
const MAX_CONFLICTS_WITH_AUTHORS: usize = 128;
/// Attempts to make the edit while others change the text.
const ATTEMPTS: usize = 4;

/// The body of `PATCH /documents/{id}/edit`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EditDocument {
    /// All are made, or none.
    #[schemars(length(min = 1, max = MAX_CHANGES_PER_EDIT))]
    changes: Vec<Change>,
    /// The version to whose text the positions refer.
    client_version: u64,
    /// The unit of the positions.
    #[serde(default)]
    unit: Unit,
}

/// A request of a user who may edit the document.
struct Editing<'a> {
    ports: &'a DocumentPorts,
    room: &'a RoomId,
    user: &'a UserId,
    kind: DocumentKind,
    headers: &'a HeaderMap,
    request: &'a EditDocument,
    /// Name and digest of the request, if it has a key.
    key: Option<(String, [u8; 32])>,
}

/// Makes the edit. The answer means that it is on disk.
async fn edit(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    headers: HeaderMap,
    JsonBody(request): JsonBody<EditDocument>,
) -> ApiResult<Json<EditAccepted>> {
    let user = &*session.user_id;
    let key = idempotency_key(&headers)?.map(|key| (name_of(user, key), digest(&request)));
    check(&request)?;
    let _permit = ports.content_reads.permit(user).await?;
    let room = joined(&ports, &named, user).await?;
    let mut writer = ports.writers.of(&room, user).await?;
    if let Some((name, body)) = &key
        && let Some(row) = ports.rooms.reader().edit_request(&room, name).await?
    {
        return if row.body == *body {
            repeated(row.version, &row.answer)
        } else {
            Err(key_reused())
        };
    }
    let access = ports.rooms.access(&room, user).await?;
    if !access.can_edit {
        return Err(RoomError::from(access.edit_refusal(RefusedEdit::default())).into());
    }
    let document = ports.rooms.reader().document_of(user, &room).await?;
    let document = document.ok_or_else(|| ApiError::not_found("Document not found."))?;
    check_not_in_bin(&document)?;
    let editing = Editing {
        ports: &ports,
        room: &room,
        user,
        kind: document.kind,
        headers: &headers,
        request: &request,
        key,
    };
    for _ in 0..ATTEMPTS {
        if let Some(answer) = editing.attempt(&mut writer).await? {
            return Ok(Json(answer));
        }
    }
    Err(ApiError::unavailable("The document is being changed. Try again."))
}

fn check(request: &EditDocument) -> ApiResult<()> {
    if request.changes.len() > MAX_CHANGES_PER_EDIT {
        return Err(ApiError::too_large(format!(
            "An edit can have at most {MAX_CHANGES_PER_EDIT} changes."
        )));
    }
    if request.changes.is_empty() {
        return Err(ApiError::invalid_param("An edit needs at least one change."));
    }
    Ok(())
}

/// Unique for user and key; a user id has no zero byte.
fn name_of(user: &UserId, key: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{user}\0{key}")))
}

/// The same for all ways to write the same request in JSON.
fn digest(request: &EditDocument) -> [u8; 32] {
    // Strings, numbers and values that were read from JSON can be written.
    Sha256::digest(serde_json::to_vec(request).unwrap_or_default()).into()
}

fn repeated(version: u64, conflicts: &[u8]) -> ApiResult<Json<EditAccepted>> {
    let conflicts = serde_json::from_slice(conflicts);
    Ok(Json(EditAccepted {
        new_version: version,
        conflicts: conflicts.map_err(|error| ApiError::internal("stored answer", &error))?,
    }))
}

/// Whether the base ends with these blocks as well: otherwise they can't be continued there.
fn ends_there(base: Option<&Bytes>, Blocks { client, clock }: Blocks) -> bool {
    let Some(base) = base else { return true };
    Update::parse(base.clone()).is_ok_and(|base| base.state_vector().get(client) == clock)
}

impl Editing<'_> {
    /// Makes the edit of the present text. `None`: others changed the text meanwhile, and it is to be made again.
    async fn attempt(&self, writer: &mut Writer) -> ApiResult<Option<EditAccepted>> {
        let present = point::present(self.ports, self.room).await?;
        let if_version = self.condition(&present)?;
        if if_version.is_some() && !present.is_exact {
            return Ok(None);
        }
        let base = self.base(&present).await?;
        let text = &present.text.text;
        let blocks = match writer.next(text).filter(|blocks| ends_there(base.as_ref(), *blocks)) {
            Some(blocks) => blocks,
            None => {
                self.ports
                    .writers
                    .unused(self.ports.rooms.reader(), self.room, text)
                    .await?
            }
        };
        let (update, conflicts) = self.rendered(&present, base, blocks).await?;
        let parsed = Update::parse(update.clone());
        let edit = RequestedEdit {
            user: self.user.to_owned(),
            update,
            if_version,
            key: self.key.as_ref().map(|(name, body)| RequestKey {
                name: name.clone(),
                body: *body,
                answer: serde_json::to_vec(&conflicts).unwrap_or_default().into(),
            }),
        };
        let before = writer.begin();
        let outcome = self.ports.rooms.request_edit(self.room, edit).await?;
        if let RequestOutcome::Applied { version: new_version } = outcome {
            if let Ok(update) = parsed {
                writer.written(blocks, &update);
            }
            return Ok(Some(EditAccepted { new_version, conflicts }));
        }
        writer.unchanged(before);
        match outcome {
            // Another process made it at the same time.
            RequestOutcome::Repeated { version, answer } => repeated(version, &answer).map(|Json(answer)| Some(answer)),
            RequestOutcome::KeyReused => Err(key_reused()),
            RequestOutcome::Refused(refused) => Err(refused_content(&refused)),
            RequestOutcome::Applied { .. }
            | RequestOutcome::VersionChanged
            | RequestOutcome::Missing
            | RequestOutcome::Foreign => Ok(None),
        }
    }

    /// The version that the edit must be made at, if `If-Match` names the text.
    fn condition(&self, present: &Present) -> ApiResult<Option<u64>> {
        if self.headers.get("if-match").is_none() {
            return Ok(None);
        }
        let tag = etag(&present.text);
        match is_required(self.headers, tag.as_deref()) {
            Some(false) => Err(document_changed(present.version, tag)),
            Some(true) if is_required(self.headers, None) == Some(false) => Ok(Some(present.version)),
            // Any text.
            _ => Ok(None),
        }
    }

    /// The text to which the positions refer, if that is not the present one. The answer tells something about it, so the
    /// caller must be allowed to see it.
    async fn base(&self, present: &Present) -> ApiResult<Option<Bytes>> {
        let wanted = self.request.client_version;
        if present.is_exact && present.version == wanted {
            return Ok(None);
        }
        let base = self.ports.rooms.reader().text_at_version(self.room, wanted).await?;
        let Some(base) = base else {
            return Err(unknown_version(present.version, etag(&present.text)));
        };
        point::version(self.ports, self.room, self.user, &Point::Version(wanted)).await?;
        Ok(Some(base))
    }

    /// The update, and what others did at the places of the changes.
    async fn rendered(
        &self,
        present: &Present,
        base: Option<Bytes>,
        blocks: Blocks,
    ) -> ApiResult<(Bytes, Vec<EditConflict>)> {
        let request = EditRequest {
            kind: self.kind,
            state: present.text.update(),
            base,
            changes: self.request.changes.clone(),
            unit: self.request.unit,
            client: blocks.client.get(),
            clock: blocks.clock,
        };
        let Edited { update, conflicts } = self.ports.renderer.edit(self.room.as_str(), request).await?;
        let conflicts = self.with_authors(conflicts).await?;
        Ok((update, conflicts))
    }

    async fn with_authors(&self, conflicts: Vec<Conflict>) -> ApiResult<Vec<EditConflict>> {
        let is_inserted = |conflict: &&Conflict| conflict.kind == ConflictKind::Inserted;
        let place = |conflict: &Conflict| (conflict.client, conflict.clocks.0);
        let places = conflicts.iter().filter(is_inserted).map(place);
        let units = places.map(|(client, clock)| (client, clock, clock.saturating_add(1)));
        let units = WantedBlocks::new(units.take(MAX_CONFLICTS_WITH_AUTHORS));
        let authors = self.ports.rooms.reader().authors(self.room, &units).await?;
        let named = conflicts.into_iter().map(|conflict| {
            let author = Some(&conflict).filter(is_inserted).and_then(|conflict| {
                let (client, clock) = place(conflict);
                author_of(&authors, client, clock)
            });
            EditConflict {
                change: conflict.change,
                kind: match conflict.kind {
                    ConflictKind::Inserted => EditConflictKind::Inserted,
                    ConflictKind::Deleted => EditConflictKind::Deleted,
                    ConflictKind::Gone => EditConflictKind::Gone,
                },
                from: conflict.from,
                to: conflict.to,
                by: author.map(|author| author.author.clone()),
                at: author.filter(|author| author.event.is_some()).map(|author| author.at),
            }
        });
        Ok(named.collect())
    }
}
