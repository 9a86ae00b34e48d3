//! A point in the history of a document, as requests name it: a version, an event, or a time. Reads the content at it, for
//! users who may see the event that made it. Must not show anybody what was deleted before they could see the document.

use bytes::Bytes;
use ruma::{EventId, OwnedEventId, RoomId, UserId};
use serde_json::json;
use weft_http::errors::{ApiError, ApiResult};
use weft_room_api::CurrentText;
use weft_room_read::versions::VersionPlace;
use weft_wire::errcode;

use super::DocumentPorts;

/// Integers from here on are times in milliseconds (March 1973); lower ones are versions.
const FIRST_TIME: u64 = 100_000_000_000;

/// Attempts to read the text and its version as of one moment.
const ATTEMPTS: u32 = 4;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Point {
    /// A version of this server.
    Version(u64),
    /// An event: its ancestors and itself.
    Event(OwnedEventId),
    /// A time in milliseconds since 1970: the newest version that this server had then.
    Time(u64),
}

/// The content at a point.
pub(super) struct PastContent {
    /// The whole text as an update.
    pub(super) state: Bytes,
    /// The version, unless an event was asked for.
    pub(super) version: Option<u64>,
}

impl Point {
    /// Reads a field of a body.
    ///
    /// # Errors
    /// When it is none of the three forms.
    pub(super) fn of_json(value: &serde_json::Value) -> ApiResult<Self> {
        match value {
            serde_json::Value::Number(number) => Self::parse(&number.to_string()),
            serde_json::Value::String(text) => Self::parse(text),
            _ => Err(ApiError::invalid_param("A point is a string or an integer.")),
        }
    }

    /// Reads a parameter.
    ///
    /// # Errors
    /// When it is none of the three forms.
    pub(super) fn parse(text: &str) -> ApiResult<Self> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let point = match text.parse::<u64>() {
            Ok(number) if is_number && number < FIRST_TIME => Some(Self::Version(number)),
            Ok(number) if is_number => Some(Self::Time(number)),
            _ if text.starts_with('$') => EventId::parse(text).ok().map(Self::Event),
            _ => time(text).map(Self::Time),
        };
        let message = "A point is a version, an event id, or a time such as 2026-11-30T12:00:00Z.";
        point.ok_or_else(|| ApiError::invalid_param(message))
    }
}

/// Milliseconds of a time of RFC 3339 in UTC; `None` if it is none.
pub(super) fn time(text: &str) -> Option<u64> {
    let (date, clock) = text.split_once(['T', 't'])?;
    let clock = clock.strip_suffix(['Z', 'z'])?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let is_time = hour < 24 && minute < 60 && second <= 60;
    if !is_time
        || !(1970..=9_999).contains(&year)
        || !(1..=12).contains(&month)
        || day == 0
        || day > days_of(year, month)
    {
        return None;
    }
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let days: u64 = (1970..year)
        .map(|year| if is_leap(year) { 366 } else { 365 })
        .sum::<u64>()
        + (1..month).map(|month| days_of(year, month)).sum::<u64>()
        + day
        - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + millis)
}

fn numbers(text: &str, between: char, lengths: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(between).zip(lengths).map(|(part, length)| {
        let is_number = part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| part.parse().ok()).flatten()
    });
    let found = [parts.next()??, parts.next()??, parts.next()??];
    (text.split(between).count() == 3).then_some(found)
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The content at a point.
///
/// # Errors
/// 404 if the caller may not see it, 409 if this server can't work it out.
pub(super) async fn content(
    ports: &DocumentPorts,
    room: &RoomId,
    user: &UserId,
    point: &Point,
) -> ApiResult<PastContent> {
    if let Point::Event(event) = point {
        check_visible(ports, room, user, std::slice::from_ref(event)).await?;
        let state = ports.rooms.content(room, Some(std::slice::from_ref(event))).await?;
        return Ok(PastContent { state, version: None });
    }
    let version = version(ports, room, user, point).await?;
    let Some(state) = ports.rooms.reader().text_at_version(room, version).await? else {
        return Err(unknown(ports, room).await?);
    };
    let version = Some(version);
    Ok(PastContent { state, version })
}

/// The text, and the version before it was read.
pub(super) struct Present {
    pub(super) text: CurrentText,
    pub(super) version: u64,
    /// The text is that of the version, and not of a later one.
    pub(super) is_exact: bool,
}

/// The present text with its version.
///
/// # Errors
/// When the text can't be read.
pub(super) async fn present(ports: &DocumentPorts, room: &RoomId) -> ApiResult<Present> {
    let (rooms, reader) = (&ports.rooms, ports.rooms.reader());
    let mut version = reader.document_version(room).await?;
    let mut attempt = 1;
    loop {
        let text = rooms.current_text(room).await?;
        let after = reader.document_version(room).await?;
        let is_exact = after == version;
        if is_exact || attempt == ATTEMPTS {
            return Ok(Present {
                text,
                version,
                is_exact,
            });
        }
        (version, attempt) = (after, attempt + 1);
    }
}

/// The version of a version or a time.
///
/// # Errors
/// 404 if the caller may not see it, 409 if it is unknown, 400 for an event.
pub(super) async fn version(ports: &DocumentPorts, room: &RoomId, user: &UserId, point: &Point) -> ApiResult<u64> {
    let reader = ports.rooms.reader();
    let version = match point {
        Point::Event(_) => return Err(ApiError::invalid_param("A version or a time is needed here.")),
        Point::Version(version) => Some(*version),
        Point::Time(time) => reader.version_at(room, *time).await?,
    };
    let Some(version) = version else {
        return Err(unknown(ports, room).await?);
    };
    // Members may see the present text.
    if reader.document_version(room).await? == version {
        return Ok(version);
    }
    match reader.place_of_version(room, version).await? {
        // What is not signed yet was written after the last change of the members.
        Some(VersionPlace::Empty | VersionPlace::Journal) => {}
        Some(VersionPlace::Event(event)) => check_visible(ports, room, user, &[event]).await?,
        Some(VersionPlace::Heads(heads)) => check_visible(ports, room, user, &heads).await?,
        None => return Err(unknown(ports, room).await?),
    }
    Ok(version)
}

/// 409: the version is unknown.
pub(super) async fn unknown(ports: &DocumentPorts, room: &RoomId) -> ApiResult<ApiError> {
    let reader = ports.rooms.reader();
    let message = "This server does not have this version of the document.";
    let error = ApiError::new(axum::http::StatusCode::CONFLICT, errcode::UNKNOWN_VERSION, message)
        .with("version", json!(reader.document_version(room).await?));
    Ok(match reader.versions_from(room).await? {
        Some(from) => error.with("from", json!(from)),
        None => error,
    })
}

/// The content at an event shows what was deleted since: only a user who may see the event may see it.
async fn check_visible(ports: &DocumentPorts, room: &RoomId, user: &UserId, at: &[OwnedEventId]) -> ApiResult<()> {
    let reader = ports.rooms.reader();
    let stored = reader.events(room, at).await?.into_iter();
    let pdus: Vec<_> = stored
        .filter(|stored| stored.is_visible())
        .map(|stored| stored.pdu)
        .collect();
    if reader.visible_to_user(room, user, pdus).await?.len() == at.len() {
        return Ok(());
    }
    Err(ApiError::not_found(
        "Event not found, or you do not have permission to view it.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_events_and_times_are_told_apart() {
        assert_eq!(Point::parse("0").unwrap(), Point::Version(0));
        assert_eq!(Point::parse("99999999999").unwrap(), Point::Version(99_999_999_999));
        assert_eq!(Point::parse("1796040000000").unwrap(), Point::Time(1_796_040_000_000));
        assert_eq!(
            Point::parse("2026-11-30T12:00:00Z").unwrap(),
            Point::Time(1_796_040_000_000)
        );
        assert_eq!(
            Point::parse("2026-11-30T12:00:00.5Z").unwrap(),
            Point::Time(1_796_040_000_500)
        );
        assert_eq!(Point::parse("1970-01-01T00:00:00Z").unwrap(), Point::Time(0));
        assert_eq!(
            Point::parse("2024-02-29T00:00:00Z").unwrap(),
            Point::Time(1_709_164_800_000)
        );
        assert!(matches!(Point::parse("$event").unwrap(), Point::Event(_)));
        for bad in [
            "",
            "yesterday",
            "-1",
            "+1",
            "1.0",
            "2026-02-29T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-11-30",
            "2026-11-30T24:00:00Z",
            "2026-11-30T12:00:00",
            "2026-11-30T12:00:00.Z",
            "2026-1-30T12:00:00Z",
            "2026-11-30-01T12:00:00Z",
            "99999999999999999999999",
        ] {
            assert!(Point::parse(bad).is_err(), "{bad}");
        }
    }
}
