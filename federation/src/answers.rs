//! Responses that are long lists of events: split in place, so that their text is in memory once (T136).
//!
//! Must not check events, nor return them to any module but [`crate::RemoteEvents`], which checks them.

use std::fmt;

use bytes::Bytes;
use ruma::ServerName;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use weft_wire::limits;

use crate::{
    CallError,
    client::{Answer, shorten},
};

/// The text of an event within the body of a response.
#[derive(Debug, Clone)]
pub(crate) struct RawEvent(Bytes);

impl RawEvent {
    pub(crate) fn text(&self) -> &str {
        // Every value is made from a string.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<Box<RawValue>> for RawEvent {
    fn from(value: Box<RawValue>) -> Self {
        Self(Bytes::from(Box::<str>::from(value).into_string()))
    }
}

/// The list of events in a field of a response, at most [`limits::MAX_EVENTS_PER_ANSWER`].
#[derive(Debug)]
pub(crate) struct EventList<'a>(Vec<&'a RawValue>);

impl EventList<'_> {
    /// The events, as slices of the response that the list was read from.
    pub(crate) fn of(&self, answer: &Answer) -> Vec<RawEvent> {
        let part = |event: &&RawValue| RawEvent(answer.body.slice_ref(event.get().as_bytes()));
        self.0.iter().map(part).collect()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for EventList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Events;
        impl<'de> Visitor<'de> for Events {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of events")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut events = Vec::new();
                while let Some(event) = sequence.next_element()? {
                    if events.len() >= limits::MAX_EVENTS_PER_ANSWER {
                        return Err(A::Error::custom("too many events"));
                    }
                    events.push(event);
                }
                Ok(events)
            }
        }
        deserializer.deserialize_seq(Events).map(Self)
    }
}

/// The response of `send_join` (Matrix specification).
#[derive(Debug, Deserialize)]
pub(crate) struct JoinAnswer<'a> {
    #[serde(default)]
    pub(crate) members_omitted: bool,
    #[serde(borrow)]
    pub(crate) state: EventList<'a>,
    #[serde(borrow)]
    pub(crate) auth_chain: EventList<'a>,
    #[serde(borrow, default)]
    pub(crate) event: Option<&'a RawValue>,
}

/// The response of `state`.
#[derive(Debug, Deserialize)]
pub(crate) struct StateAnswer<'a> {
    #[serde(borrow)]
    pub(crate) pdus: EventList<'a>,
    #[serde(borrow)]
    pub(crate) auth_chain: EventList<'a>,
}

/// The response of `event_auth`.
#[derive(Debug, Deserialize)]
pub(crate) struct AuthAnswer<'a> {
    #[serde(borrow)]
    pub(crate) auth_chain: EventList<'a>,
}

/// Parses a response of `server`.
pub(crate) fn read<'a, T: Deserialize<'a>>(server: &ServerName, answer: &'a Answer) -> Result<T, CallError> {
    serde_json::from_slice(&answer.body).map_err(|error| CallError::BadAnswer {
        server: server.to_owned(),
        reason: shorten(&error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_events_is_limited_in_number_and_not_in_their_length() {
        let list = |count: usize| format!(r#"{{"auth_chain":[{}1]}}"#, "1,".repeat(count - 1));
        let fits = list(limits::MAX_EVENTS_PER_ANSWER);
        let read: AuthAnswer<'_> = serde_json::from_str(&fits).unwrap();
        assert_eq!(read.auth_chain.0.len(), limits::MAX_EVENTS_PER_ANSWER);
        let error = serde_json::from_str::<AuthAnswer<'_>>(&list(limits::MAX_EVENTS_PER_ANSWER + 1)).unwrap_err();
        assert!(error.to_string().contains("too many events"), "{error}");
    }
}
