//! Reading answers of strangers: never more than a limit, never for longer than a time.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ruma::OwnedServerName;
use weft_budget::{KeyedBudget, KeyedShare};
use weft_wire::limits;

/// Bytes of answers that are read or being checked, by the server that sent them.
pub(crate) type AnswerBytes = KeyedBudget<OwnedServerName>;

/// What an answer holds of the budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<AnswerBytes>,
    server: OwnedServerName,
    share: Option<KeyedShare<OwnedServerName>>,
}

impl Charge {
    /// Charges nothing yet.
    pub(crate) fn new(budget: &Arc<AnswerBytes>, server: OwnedServerName) -> Self {
        Self {
            budget: Arc::clone(budget),
            server,
            share: None,
        }
    }

    /// Charges what a body of this length has above what is free.
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

/// Why an answer's body was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// Longer than the limit.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// Answers of this server, or of all, hold as much as they may.
    #[error("too many bytes of answers are held")]
    Exhausted,
    /// The connection broke.
    #[error("the answer broke off: {0}")]
    Broken(String),
}

/// All of a body of at most `limit` bytes. A length that is announced is not believed, only used to refuse early.
pub(crate) async fn read(response: reqwest::Response, limit: usize) -> Result<Bytes, BodyError> {
    read_charged(response, limit, None).await
}

/// The same, charged as it comes.
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

/// A transport error with its causes, on one line and without the address line that reqwest puts in front.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.dedup();
    if error.is_timeout() {
        "no answer in time".to_owned()
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
    fn long_answers_are_charged_to_their_server_and_short_ones_to_nobody() {
        const FREE: usize = limits::FREE_ANSWER_BYTES;
        let budget = AnswerBytes::new("test_bytes", 10, 15);
        let charge = |name: &ruma::ServerName| Charge::new(&budget, name.to_owned());
        let (one, two) = (server_name!("one.test"), server_name!("two.test"));
        let mut first = charge(one);
        for length in [1, FREE, FREE + 4, FREE + 4, FREE + 10] {
            first.hold(length).unwrap();
        }
        assert!(matches!(first.hold(FREE + 11), Err(BodyError::Exhausted)));
        // Another answer of the same server, and one of another server beyond what is left for all.
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
