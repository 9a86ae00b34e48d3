//! Makes the anchors of new comments, and finds where anchors are now. A render worker does both. Must not fail a list because of one
//! anchor: a stranger may have written it.

use bytes::Bytes;
use ruma::{OwnedEventId, RoomId, UserId};
use schemars::JsonSchema;
use serde::Deserialize;
use weft_http::errors::{ApiError, ApiResult};
use weft_render::{AnchorRequest, LocateRequest, Located, Place, Target, Unit};
use weft_room_read::versions::VersionPlace;
use weft_wire::{
    anchor::{Anchor, AnchorTarget},
    limits::MAX_ANCHOR_HEADS,
};

use crate::{
    DocumentPorts,
    content::etag,
    failures::unknown_version,
    point::{self, Point},
    show::described,
};

/// What a new comment is about.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NewAnchor {
    /// The text, block or element.
    #[serde(rename = "in")]
    pub(super) place: Option<Place>,
    /// The first position.
    pub(super) from: Option<u32>,
    /// The end position.
    pub(super) to: Option<u32>,
    /// The version to which the positions refer; without it the present one.
    pub(super) client_version: Option<u64>,
    /// The unit of the positions.
    pub(super) unit: Unit,
}

impl NewAnchor {
    fn target(&self) -> ApiResult<Option<Target>> {
        match (self.from, self.to, &self.place) {
            (Some(from), Some(to), place) => Ok(Some(Target::Range {
                place: place.clone().unwrap_or_default(),
                from,
                to,
            })),
            (None, None, Some(place)) => Ok(Some(Target::Whole { place: place.clone() })),
            (None, None, None) => Ok(None),
            _ => Err(ApiError::invalid_param("from and to belong together.")),
        }
    }
}

/// The anchor of a place in the text at a version.
pub(super) async fn make(ports: &DocumentPorts, room: &RoomId, user: &UserId, about: NewAnchor) -> ApiResult<Anchor> {
    let Some(target) = about.target()? else {
        return Ok(Anchor::default());
    };
    let kind = described(ports, user, room).await?.kind;
    let state = match about.client_version {
        None => ports.rooms.current_text(room).await?.update(),
        Some(version) => at_version(ports, room, user, version).await?,
    };
    let request = AnchorRequest {
        kind,
        state,
        target,
        unit: about.unit,
    };
    let mut anchor = ports.renderer.anchor(&name_of(room), request).await?;
    if let Some(version) = about.client_version {
        anchor.heads = heads(ports, room, version).await?;
    }
    Ok(anchor)
}

/// The text at a version that the caller may see.
async fn at_version(ports: &DocumentPorts, room: &RoomId, user: &UserId, version: u64) -> ApiResult<Bytes> {
    let reader = ports.rooms.reader();
    let Some(state) = reader.text_at_version(room, version).await? else {
        let present = reader.document_version(room).await?;
        let text = ports.rooms.current_text(room).await?;
        return Err(unknown_version(present, etag(&text)));
    };
    point::version(ports, room, user, &Point::Version(version)).await?;
    Ok(state)
}

/// The events of a version's content; none if it is not signed yet: then they are ancestors of the comment.
async fn heads(ports: &DocumentPorts, room: &RoomId, version: u64) -> ApiResult<Vec<OwnedEventId>> {
    let heads = match ports.rooms.reader().place_of_version(room, version).await? {
        Some(VersionPlace::Event(event)) => vec![event],
        Some(VersionPlace::Heads(heads)) => heads,
        Some(VersionPlace::Empty | VersionPlace::Journal) | None => Vec::new(),
    };
    Ok(Some(heads)
        .filter(|heads| heads.len() <= MAX_ANCHOR_HEADS)
        .unwrap_or_default())
}

/// Failures because of anchors must not pause the rendering of the document.
fn name_of(room: &RoomId) -> String {
    format!("{room}/anchors")
}

/// Where anchors are in the present text, in their order. `None`: that can't be found out now.
pub(super) async fn locate(
    ports: &DocumentPorts,
    room: &RoomId,
    user: &UserId,
    anchors: Vec<Option<Anchor>>,
    unit: Unit,
) -> ApiResult<Vec<Option<Located>>> {
    let needs_text = |anchor: &Option<Anchor>| {
        let target = anchor.as_ref().and_then(Anchor::target);
        target.is_some_and(|target| target != AnchorTarget::Document)
    };
    let wanted: Vec<Anchor> = anchors
        .iter()
        .filter(|anchor| needs_text(anchor))
        .flatten()
        .map(|anchor| Anchor {
            // Not needed for the search.
            quote: String::new(),
            heads: Vec::new(),
            ..anchor.clone()
        })
        .collect();
    let mut found = Vec::new();
    if !wanted.is_empty() {
        let request = LocateRequest {
            kind: described(ports, user, room).await?.kind,
            state: ports.rooms.current_text(room).await?.update(),
            anchors: wanted,
            unit,
        };
        found = ports.renderer.locate(&name_of(room), request).await.unwrap_or_default();
    }
    let mut found = found.into_iter();
    Ok(anchors
        .iter()
        .map(|anchor| match anchor {
            None => Some(Located::Gone),
            Some(_) if needs_text(anchor) => found.next(),
            Some(_) => Some(Located::Document),
        })
        .collect())
}
