//! `POST /documents/{id}/restore` and `POST /documents/{id}/rollback`: turn the content into that of an earlier point, or into
//! the present one without somebody's edits, by one new edit of the caller. Must not remove anything from the history.

use axum::{Json, extract::State};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ruma::{OwnedEventId, OwnedRoomId, RoomId, UserId};
use weft_crdt::{DeleteSet, Update, WithoutEntries, merge, without_entries};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_render::RestoreRequest;
use weft_room_api::{RefusedEdit, RoomError};
use weft_room_read::versions::Undone;
use weft_wire::{
    document::DocumentKind,
    limits::MAX_PURPOSE_HEADS,
    purpose::{Purpose, Restores, RollsBack},
    rest::{RestoreVersion, RollBack, VersionRestored},
};

use super::{
    DocumentPorts,
    bin::check_not_in_bin,
    caller::{Named, joined},
    point::{self, Point},
    purposes,
    request::JsonBody,
    show::described,
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("History")
        .post(
            "/_weft/client/v1/documents/{id}/restore",
            restore,
            Operation::new(
                "restoreVersion",
                "Restores the content of an earlier point by a new edit",
            )
            .refuses(403, "Below editor, or the document is locked.")
            .refuses(409, "This server does not know the text at that version.")
            .refuses(409, "The document is in the bin.")
            .refuses(422, "The document can't be rendered on this server."),
        )
        .post(
            "/_weft/client/v1/documents/{id}/rollback",
            roll_back,
            Operation::new("rollBackUser", "Undoes the edits of a user by a new edit")
                .refuses(403, "Below editor, or the document is locked.")
                .refuses(409, "This server does not know the text at that version.")
                .refuses(409, "The document is in the bin.")
                .refuses(422, "The document can't be rendered on this server."),
        )
}

/// Restores the content of a point; 403 below editor.
async fn restore(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    JsonBody(request): JsonBody<RestoreVersion>,
) -> ApiResult<Json<VersionRestored>> {
    let (at, user) = (Point::of_json(&request.at)?, &session.user_id);
    let _permit = ports.content_reads.permit(user).await?;
    let room = may_edit(&ports, &named, user).await?;
    let found = point::content(&ports, &room, user, &at).await?;
    let heads = match (&at, found.version) {
        (Point::Event(event), _) => vec![event.clone()],
        (_, Some(version)) => heads_of(&ports, &room, version).await?,
        (_, None) => Vec::new(),
    };
    let is_disputed = ports.rooms.reader().is_disputed(&room).await?;
    let state_hash = match is_disputed {
        true => None,
        false => Some(parsed(found.state.clone())?.state_hash()),
    };
    let purpose = Purpose {
        restores: Some(Restores {
            heads,
            state_hash: state_hash.map(|hash| URL_SAFE_NO_PAD.encode(hash.as_bytes())),
        }),
        ..Purpose::default()
    };
    rewritten(&ports, &room, user, found.state, &DeleteSet::new(), &purpose).await
}

/// The heads of a version, none if they are not known. The version may be one of an edit that has no event yet.
async fn heads_of(ports: &DocumentPorts, room: &RoomId, version: u64) -> ApiResult<Vec<OwnedEventId>> {
    ports.rooms.seal(room).await?;
    let heads = ports.rooms.reader().heads_of_version(room, version, MAX_PURPOSE_HEADS);
    Ok(heads.await?.unwrap_or_default())
}

/// Undoes edits of a user; 403 below editor.
pub(super) async fn roll_back(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    JsonBody(request): JsonBody<RollBack>,
) -> ApiResult<Json<VersionRestored>> {
    let (from, user) = (Point::of_json(&request.from)?, &session.user_id);
    let to = request.to.as_ref().map(Point::of_json).transpose()?;
    let _permit = ports.content_reads.permit(user).await?;
    let room = may_edit(&ports, &named, user).await?;
    let reader = ports.rooms.reader();
    let after = point::version(&ports, &room, user, &from).await?;
    let now = reader.document_version(&room).await?;
    let to = match &to {
        Some(to) => point::version(&ports, &room, user, to).await?,
        None => now,
    };
    let undone = Undone {
        user: &request.user,
        after,
        to,
    };
    let Some(mut found) = reader.text_without(&room, now, undone).await? else {
        return Err(point::unknown(&ports, &room).await?);
    };
    if described(&ports, user, &room).await?.kind == DocumentKind::Canvas {
        // A value of a board can't be deleted in favour of the one before: it is written again.
        let WithoutEntries { update, texts } = without_entries(&parsed(found.text)?, &found.inserted);
        (found.text, found.inserted) = (update.encode().into(), texts);
    }
    let purpose = Purpose {
        rolls_back: Some(RollsBack {
            user: request.user.clone(),
            after: heads_of(&ports, &room, after).await?,
            heads: heads_of(&ports, &room, to).await?,
        }),
        ..Purpose::default()
    };
    rewritten(&ports, &room, user, found.text, &found.inserted, &purpose).await
}

async fn may_edit(ports: &DocumentPorts, named: &Named, user: &UserId) -> ApiResult<OwnedRoomId> {
    let room = joined(ports, named, user).await?;
    let access = ports.rooms.access(&room, user).await?;
    if access.can_edit {
        Ok(room)
    } else {
        Err(RoomError::from(access.edit_refusal(RefusedEdit::default())).into())
    }
}

/// Makes the edit that turns the content into `target`, and deletes the blocks in `gone`.
async fn rewritten(
    ports: &DocumentPorts,
    room: &RoomId,
    user: &UserId,
    target: Bytes,
    gone: &DeleteSet,
    purpose: &Purpose,
) -> ApiResult<Json<VersionRestored>> {
    let document = described(ports, user, room).await?;
    check_not_in_bin(&document)?;
    let kind = document.kind;
    let current = ports.rooms.current_text(room).await?;
    let blocks = ports.writers.unused(ports.rooms.reader(), room, &current.text).await?;
    let request = RestoreRequest {
        kind,
        client: blocks.client.get(),
        state: current.update(),
        target,
    };
    let mut update = ports.renderer.restore(room.as_str(), request).await?.update;
    let gone = gone.difference(current.text.delete_set());
    if !gone.is_empty() {
        let both = merge(&[parsed(update)?, Update::from_deletes(gone)]);
        let both = both.map_err(|error| ApiError::internal("an edit that undoes others", &error))?;
        update = both.encode().into();
    }
    let edit = purposes::edit(user, update, purpose)?;
    let changed = !ports.rooms.send_edit(room, edit).await?.is_empty();
    let version = ports.rooms.reader().document_version(room).await?;
    Ok(Json(VersionRestored { version, changed }))
}

/// An update of this server or of a render worker.
fn parsed(update: Bytes) -> ApiResult<Update> {
    Update::parse(update).map_err(|error| ApiError::internal("content of a document", &error))
}
