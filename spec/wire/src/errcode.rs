//! Error codes of the document API in addition to those of the Matrix specification (`spec/docs/documents-api.md`).
//!
//! Codes only. Must not map errors to codes: the gateway does.

/// The admission rules refused the edit (`spec/docs/admission.md`). HTTP 400.
pub const UPDATE_REFUSED: &str = "DEV_WEFT_UPDATE_REFUSED";
/// An update depends on updates that this server does not have; `stateVector` has what it has. HTTP 409.
pub const UPDATES_MISSING: &str = "DEV_WEFT_UPDATES_MISSING";
/// The document is not the one that `If-Match` names; `version` and `etag` are the present ones. HTTP 409.
pub const DOCUMENT_CHANGED: &str = "DEV_WEFT_DOCUMENT_CHANGED";
/// The suggestion is not open; `state` is what became of it. HTTP 409.
pub const SUGGESTION_CLOSED: &str = "DEV_WEFT_SUGGESTION_CLOSED";
/// The suggestion no longer applies to the text. HTTP 409.
pub const SUGGESTION_OUTDATED: &str = "DEV_WEFT_SUGGESTION_OUTDATED";
/// An `Idempotency-Key` was used for another request. HTTP 422.
pub const KEY_REUSED: &str = "DEV_WEFT_KEY_REUSED";
/// This server does not have this version of the document, or can't work its content out. HTTP 409.
pub const UNKNOWN_VERSION: &str = "DEV_WEFT_UNKNOWN_VERSION";
/// Another server, named in the field `server`, could not be reached; the cause is not on this server. HTTP 502, also on
/// endpoints of the Matrix specification.
pub const SERVER_UNREACHABLE: &str = "DEV_WEFT_SERVER_UNREACHABLE";
/// The document is locked: nobody may edit it (`spec/docs/lock.md`). HTTP 403.
pub const LOCKED: &str = "DEV_WEFT_LOCKED";
/// A share link has a password, and the request has none or a wrong one. HTTP 403.
pub const LINK_PASSWORD: &str = "DEV_WEFT_LINK_PASSWORD";
/// The document has as many participants as this server allows. HTTP 403.
pub const TOO_MANY_PARTICIPANTS: &str = "DEV_WEFT_TOO_MANY_PARTICIPANTS";
/// The creator of a document can't step down while they are a member. HTTP 403.
pub const CREATOR_STAYS: &str = "DEV_WEFT_CREATOR_STAYS";
/// The document can't be rendered on this server. HTTP 422.
pub const NOT_RENDERED: &str = "DEV_WEFT_NOT_RENDERED";
/// This server can't convert files of this format. HTTP 501.
pub const NO_CONVERTER: &str = "DEV_WEFT_NO_CONVERTER";
/// The document is in the bin; `inBinSince` tells since when. HTTP 409.
pub const IN_BIN: &str = "DEV_WEFT_IN_BIN";
/// The room is not a document. HTTP 404.
pub const NOT_A_DOCUMENT: &str = "DEV_WEFT_NOT_A_DOCUMENT";
