//! The text of a stream of events (HTML, "Server-sent events"). Must not read anything.

use std::fmt;

use bytes::Bytes;
use serde_json::Value;

/// How far a reader is. Its text is the id of the events; it means something on this server only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    /// The version of the document.
    pub(super) version: u64,
    /// The stream position of the last event of the room.
    pub(super) position: u64,
}

impl Point {
    /// Reads `Last-Event-ID`.
    pub(super) fn parse(id: &str) -> Option<Self> {
        let (version, position) = id.split_once('.')?;
        Some(Self {
            version: version.parse().ok()?,
            position: position.parse().ok()?,
        })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.version, self.position)
    }
}

/// The beginning: how long a client waits before it connects again, and an id from which it can go on even if nothing happens.
pub(super) fn beginning(point: Point) -> Bytes {
    format!("retry: 2000\nid: {point}\n\n").into()
}

/// A comment.
pub(super) fn keep_alive() -> Bytes {
    Bytes::from_static(b":\n\n")
}

/// An event. JSON has no line breaks.
pub(super) fn event(name: &str, point: Point, data: &Value) -> Bytes {
    format!("event: {name}\nid: {point}\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_point_is_read_as_it_was_written() {
        let point = Point {
            version: 7,
            position: u64::MAX,
        };
        assert_eq!(Point::parse(&point.to_string()), Some(point));
        for id in [
            "",
            ".",
            "7",
            "7.",
            ".7",
            "-1.7",
            "7.18446744073709551616",
            "7.7.7",
            "a.b",
        ] {
            assert_eq!(Point::parse(id), None, "{id}");
        }
    }

    #[test]
    fn an_event_has_one_line_for_its_data() {
        let point = Point {
            version: 1,
            position: 2,
        };
        let text = event("chat", point, &json!({"body": "a\nb\r\nc\u{2028}"}));
        assert_eq!(
            text,
            "event: chat\nid: 1.2\ndata: {\"body\":\"a\\nb\\r\\nc\u{2028}\"}\n\n".as_bytes()
        );
    }
}
