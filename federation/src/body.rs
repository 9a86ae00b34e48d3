//! Reads responses of other servers within a limit on bytes and a timeout. Must not allocate by a stated length.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ruma::OwnedServerName;
use weft_budget::{KeyedBudget, KeyedShare};
use weft_wire::limits;

/// Bytes of responses that are being read or checked, by the server that sent them.
pub(crate) type AnswerBytes = KeyedBudget<OwnedServerName>;

/// The part of the budget that a response holds, released when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<AnswerBytes>,
    server: OwnedServerName,
    share: Option<KeyedShare<OwnedServerName>>,
}

impl Charge {
    /// A charge of nothing.
    pub(crate) fn new(budget: &Arc<AnswerBytes>, server: OwnedServerName) -> Self {
        Self {
            budget: Arc::clone(budget),
            server,
            share: None,
        }
    }

    /// Charges the part of a body of this length that exceeds the free allowance.
    fn hold(&mut self, length: usize) -> Result<(), BodyError> {
        let wanted = length.saturating_sub(limits::FREE_ANSWER_BYTES) as u64;
        let held = self.share.as_ref().map_or(0, KeyedShare::amount);
        let more = wanted.saturating_sub(held);
        match &mut self.share {
            _ if more == 0 => Ok(()),
            Some(share) => share.grow(more).map_err(|_| BodyError::Exhausted),
            None => {
                let share = self.budget.try_take(&self.server, more);
                self.share = Some(share.map_err(|_| BodyError::Exhausted)?);
                Ok(())
            }
        }
    }
}

/// Why the body of a response was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// Longer than the limit.
    #[error("the response has more than {0} bytes")]
    TooLarge(usize),
    /// Responses of this server, or of all servers, have reached the limit.
    #[error("too many bytes of responses are in memory")]
    Exhausted,
    /// The connection broke.
    #[error("the response ended early: {0}")]
    Broken(String),
}

/// Reads a body of at most `limit` bytes. A stated length is not trusted; it only causes an early refusal.
pub(crate) async fn read(response: reqwest::Response, limit: usize) -> Result<Bytes, BodyError> {
    read_charged(response, limit, None).await
}

/// The same, charged while it is received.
pub(crate) async fn read_charged(
    mut response: reqwest::Response,
    limit: usize,
    mut charge: Option<&mut Charge>,
) -> Result<Bytes, BodyError> {
    if response
        .content_length()
        .is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit))
    {
        return Err(BodyError::TooLarge(limit));
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| BodyError::Broken(describe(&error)))?
    {
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge(limit));
        }
        if let Some(charge) = &mut charge {
            charge.hold(body.len() + chunk.len())?;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// A transport error with its causes, on one line and without the URL that reqwest puts in front.
#[must_use]
pub fn describe(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.dedup();
    if error.is_timeout() {
        "timeout".to_owned()
    } else if causes.is_empty() {
        "the request failed".to_owned()
    } else {
        causes.join(": ")
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn long_responses_are_charged_to_their_server_and_short_ones_are_free() {
        const FREE: usize = limits::FREE_ANSWER_BYTES;
        let budget = AnswerBytes::new("test_bytes", 10, 15);
        let charge = |name: &ruma::ServerName| Charge::new(&budget, name.to_owned());
        let (one, two) = (server_name!("one.test"), server_name!("two.test"));
        let mut first = charge(one);
        for length in [1, FREE, FREE + 4, FREE + 4, FREE + 10] {
            first.hold(length).unwrap();
        }
        assert!(matches!(first.hold(FREE + 11), Err(BodyError::Exhausted)));
        // Another response of the same server, and one of another server above what is left for all.
        assert!(charge(one).hold(FREE + 1).is_err());
        let mut second = charge(two);
        second.hold(FREE + 5).unwrap();
        assert!(second.hold(FREE + 6).is_err());
        charge(one).hold(FREE).unwrap();
        drop(first);
        second.hold(FREE + 6).unwrap();
        drop(second);
        assert_eq!(budget.total().usage().used, 0);
    }
}
