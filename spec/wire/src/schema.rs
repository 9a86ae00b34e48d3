//! JSON Schemas of the identifiers that ruma defines, for descriptions of the API. Must not be used to check values: the types
//! themselves do.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::limits::MAX_EVENT_FIELD_BYTES;

macro_rules! identifiers {
    ($($(#[$about:meta])* $name:ident $description:literal $pattern:literal $example:literal)*) => {
        $(
            $(#[$about])*
            #[derive(Debug, Clone, Copy)]
            pub struct $name;

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({
                        "type": "string",
                        "description": $description,
                        "pattern": $pattern,
                        "maxLength": MAX_EVENT_FIELD_BYTES,
                        "examples": [$example],
                    })
                }
            }
        )*
    };
}

identifiers! {
    /// A room id.
    RoomId "The room id of a document." "^!.+$" "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"
    /// A room id or an alias.
    DocumentName "A room id, or an alias of this server." "^[!#].+$" "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"
    /// An event id.
    EventId "An event id." "^\\$.+$" "$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg"
    /// A user id.
    UserId "A Matrix user id." "^@[^:]*:.+$" "@alice:example.org"
    /// A server name.
    ServerName "The name of a homeserver." "^[A-Za-z0-9.:\\[\\]-]+$" "example.org"
}

/// A point in the history of a document.
#[derive(Debug, Clone, Copy)]
pub struct Point;

impl JsonSchema for Point {
    fn schema_name() -> Cow<'static, str> {
        "Point".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "description": "A version, an event id, or a time: milliseconds since 1970, or RFC 3339 in UTC.",
            "minimum": 0,
            "pattern": "^([0-9]+|\\$.+|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:.]+[Zz])$",
            "examples": ["2026-11-30T12:00:00Z"],
        })
    }
}

/// A Yjs encoding in standard base64.
#[derive(Debug, Clone, Copy)]
pub struct Base64;

impl JsonSchema for Base64 {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Base64".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "contentEncoding": "base64" })
    }
}

/// Matrix' presence.
#[derive(Debug, Clone, Copy, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Presence {
    /// Connected, and active.
    Online,
    /// Connected, and not active.
    Unavailable,
    /// Not connected.
    Offline,
}
