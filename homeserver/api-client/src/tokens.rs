//! Pagination tokens: positions in the stream (`s…`) and in a room's timeline (`t…`).
//!
//! Pure. Opaque to clients. Must not guess: a token of another kind or of a newer format is refused.

/// The end of a sync answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SyncToken {
    /// Everything stored at or below this position was sent.
    pub(crate) position: u64,
    /// Typing up to this serial was sent. Serials restart with the process.
    pub(crate) typing: u64,
    /// Presence up to this serial was sent.
    pub(crate) presence: u64,
}

impl SyncToken {
    pub(crate) fn parse(text: &str) -> ApiResult<Self> {
        let parse = || {
            let (position, others) = text.strip_prefix('s')?.split_once('_')?;
            // A token of a version without presence.
            let (typing, presence) = others.split_once('_').unwrap_or((others, "0"));
            Some(Self {
                position: position.parse().ok()?,
                typing: typing.parse().ok()?,
                presence: presence.parse().ok()?,
            })
        };
        parse().ok_or_else(|| ApiError::invalid_param("Unknown token."))
    }
}

impl std::fmt::Display for SyncToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s{}_{}_{}", self.position, self.typing, self.presence)
    }
}

/// A position in a room's timeline: just before the event of this stream ordering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimelineToken(pub(crate) i64);

impl TimelineToken {
    /// Parses a timeline token or a sync token.
    pub(crate) fn parse(text: &str) -> ApiResult<Self> {
        let timeline = || text.strip_prefix('t')?.parse().ok().map(Self);
        match timeline() {
            Some(token) => Ok(token),
            None => SyncToken::parse(text).map(|token| Self::after(token.position)),
        }
    }

    /// The position after everything at or below a stream position.
    pub(crate) fn after(position: u64) -> Self {
        Self(i64::try_from(position).unwrap_or(i64::MAX).saturating_add(1))
    }
}

impl std::fmt::Display for TimelineToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "t{}", self.0)
    }
}

use weft_http::errors::{ApiError, ApiResult};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        let token = SyncToken {
            position: 17,
            typing: 4,
            presence: 9,
        };
        assert_eq!(SyncToken::parse(&token.to_string()).unwrap(), token);
        for order in [-5, 0, 99] {
            assert_eq!(
                TimelineToken::parse(&TimelineToken(order).to_string()).unwrap(),
                TimelineToken(order)
            );
        }
        assert_eq!(TimelineToken::parse("s17_4").unwrap(), TimelineToken(18));
        assert_eq!(SyncToken::parse("s17_4").unwrap().presence, 0);
    }

    #[test]
    fn invalid_tokens_are_refused() {
        for text in [
            "",
            "s",
            "s1",
            "s1_",
            "s-1_0",
            "t",
            "tx",
            "17",
            "s99999999999999999999999_0",
            "s1_2_",
            "s1_2_x",
            "s1_2_3_4",
        ] {
            assert!(SyncToken::parse(text).is_err(), "{text}");
            assert!(TimelineToken::parse(text).is_err(), "{text}");
        }
    }
}
