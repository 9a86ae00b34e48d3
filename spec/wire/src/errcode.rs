//! Error codes of the document API, beside those of the Matrix specification (`spec/docs/documents-api.md`).
//!
//! Codes only: which failure gets which code is decided in one place, the gateway.

/// The edit was refused by the admission rules (`spec/docs/admission.md`). HTTP 400.
pub const UPDATE_REFUSED: &str = "DEV_WEFT_UPDATE_REFUSED";
/// Another server, named in the field `server`, could not be reached: nothing is wrong with this one. HTTP 502, also on
/// endpoints of the Matrix specification.
pub const SERVER_UNREACHABLE: &str = "DEV_WEFT_SERVER_UNREACHABLE";
/// The room is not a document. HTTP 404.
pub const NOT_A_DOCUMENT: &str = "DEV_WEFT_NOT_A_DOCUMENT";
