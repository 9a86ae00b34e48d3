//! Contents of the state and version events of a document (`spec/docs/events.md`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Role, event_types};

/// The payload format of every update in a document of this protocol version.
pub const FORMAT: &str = "yjs-13/v1";
/// The version of the editor schema that this release writes.
pub const SCHEMA_VERSION: u32 = 1;
/// The field of `m.room.member` and of profiles that marks a guest: `true`.
pub const GUEST_FIELD: &str = "dev.weft.guest";

/// The kind of content of a document; determines the name and type of its Yjs root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// Formatted text: a `Y.XmlFragment` named `default`.
    RichText,
    /// Plain text, Markdown, code: a `Y.Text` named `body`.
    Text,
    /// A board: a `Y.Map` named `elements` with one `Y.Map` per element and one key per property.
    Canvas,
}

impl DocumentKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::RichText, Self::Text, Self::Canvas];

    /// The name, as in the content of `dev.weft.document`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RichText => "rich_text",
            Self::Text => "text",
            Self::Canvas => "canvas",
        }
    }

    /// The kind with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name of the Yjs root type.
    #[must_use]
    pub const fn root(self) -> &'static str {
        match self {
            Self::RichText => "default",
            Self::Text => "body",
            Self::Canvas => "elements",
        }
    }
}

/// Content of the `dev.weft.document` state event, state key empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentContent {
    /// The kind of content.
    pub kind: DocumentKind,
    /// Version of the editor schema that created the document; an older editor opens it read-only.
    pub schema_version: u32,
    /// Encoding of the updates; only [`FORMAT`] is defined.
    pub format: String,
}

impl DocumentContent {
    /// The content that this release writes for a new document.
    #[must_use]
    pub fn new(kind: DocumentKind) -> Self {
        Self {
            kind,
            schema_version: SCHEMA_VERSION,
            format: FORMAT.to_owned(),
        }
    }
}

/// Content of a `dev.weft.version` event: a name for the document at the event's ancestors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionContent {
    /// The displayed name.
    pub name: String,
    /// A longer text about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Content of the `dev.weft.bin` state event, state key empty. The document is in the bin since the event's `origin_server_ts`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinContent {
    /// The document is in the bin.
    #[serde(default)]
    pub in_bin: bool,
}

/// Content of the `dev.weft.template` state event, state key empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateContent {
    /// The document is a template.
    #[serde(default)]
    pub template: bool,
}

/// Content of the `dev.weft.request` state event, state key empty: by which request the creator's server created the document,
/// so that a repetition of the request creates none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestContent {
    /// SHA-256 of the creator and the key of the request, unpadded URL-safe base64.
    pub key: String,
    /// SHA-256 of what was requested, unpadded URL-safe base64.
    pub body: String,
}

/// Content of `m.room.power_levels` for a new document, without the `users` map.
///
/// `dev.weft.update` requires an editor's level, so that every server in the room, Weft or not, rejects a viewer's edit.
/// `dev.weft.witness` requires level 0, so that servers whose users only read can send it as well.
#[must_use]
pub fn power_levels() -> serde_json::Value {
    let (commenter, editor) = (Role::Commenter.power(), Role::Editor.power());
    let (manager, owner) = (Role::Manager.power(), Role::Owner.power());
    serde_json::json!({
        "users_default": Role::Viewer.power(),
        "events_default": commenter,
        "state_default": manager,
        "invite": manager,
        "kick": manager,
        "ban": manager,
        "redact": manager,
        "events": {
            event_types::UPDATE: editor,
            event_types::VERSION: editor,
            event_types::SUGGESTION: commenter,
            event_types::RESOLUTION: commenter,
            event_types::WITNESS: Role::Viewer.power(),
            event_types::DOCUMENT: owner,
            event_types::BIN: owner,
            event_types::TEMPLATE: manager,
            event_types::LOCK: manager,
            event_types::UNLOCK: manager,
            event_types::APPROVAL: commenter,
            "m.room.message": commenter,
            "m.reaction": commenter,
            "m.room.name": manager,
            "m.room.avatar": manager,
            "m.room.topic": manager,
            "m.room.canonical_alias": manager,
            "m.room.power_levels": owner,
            "m.room.history_visibility": owner,
            "m.room.join_rules": manager,
            "m.room.server_acl": owner,
            "m.room.encryption": owner,
            "m.room.tombstone": owner
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_has_the_field_names_of_the_specification() {
        assert_eq!(
            serde_json::to_value(DocumentContent::new(DocumentKind::RichText)).unwrap(),
            serde_json::json!({"kind": "rich_text", "schema_version": 1, "format": "yjs-13/v1"})
        );
    }

    #[test]
    fn updates_require_an_editor_and_power_levels_require_an_owner() {
        let levels = power_levels();
        assert_eq!(levels["events"][event_types::UPDATE], Role::Editor.power());
        assert_eq!(levels["events"]["m.room.power_levels"], Role::Owner.power());
        assert_eq!(levels["users_default"], 0);
    }
}
