//! Bodies of errors (`spec/docs/errors.md`), and of answers without fields.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An error: Matrix' standard error response, with the members of RFC 9457 (*Problem Details for HTTP APIs*). Some errors have
/// more fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// The code, for programs.
    pub errcode: String,
    /// What is wrong, for people; may change.
    pub error: String,
    /// Always `about:blank`: `errcode` says which kind of error it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name of the HTTP status.
    pub title: String,
    /// The HTTP status.
    #[schemars(range(min = 400, max = 599))]
    pub status: u16,
    /// The same as `error`.
    pub detail: String,
    /// The other fields.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// An answer without fields. Fields may be added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {}
