//! The context of a trace: the header `traceparent` of W3C Trace Context, version 00. It is diagnostic data and has no effect on
//! the answer to a request. Must not generate ids.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::limits::TRACEPARENT_BYTES;

/// The name of the header.
pub const TRACEPARENT: &str = "traceparent";

/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// A span of a trace, as another process or server refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TraceContext {
    /// The id of the trace.
    pub trace: NonZeroU128,
    /// The id of the span.
    pub span: NonZeroU64,
    /// Its spans are recorded.
    pub sampled: bool,
}

/// A text that is not a trace context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a trace context of version 00")]
pub struct InvalidTraceContext;

impl FromStr for TraceContext {
    type Err = InvalidTraceContext;

    /// Reads `00-<32 digits>-<16 digits>-<2 digits>` with lower-case hexadecimal digits and ids that are not zero.
    fn from_str(text: &str) -> Result<Self, InvalidTraceContext> {
        let is_allowed = |byte: u8| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != TRACEPARENT_BYTES || !text.bytes().all(is_allowed) {
            return Err(InvalidTraceContext);
        }
        let mut parts = text.split('-');
        let mut part = |length: usize| {
            parts
                .next()
                .filter(|part| part.len() == length)
                .ok_or(InvalidTraceContext)
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        if version != "00" || parts.next().is_some() {
            return Err(InvalidTraceContext);
        }
        Ok(Self {
            trace: u128::from_str_radix(trace, 16)
                .ok()
                .and_then(NonZeroU128::new)
                .ok_or(InvalidTraceContext)?,
            span: u64::from_str_radix(span, 16)
                .ok()
                .and_then(NonZeroU64::new)
                .ok_or(InvalidTraceContext)?,
            sampled: u8::from_str_radix(flags, 16).map_err(|_| InvalidTraceContext)? & SAMPLED != 0,
        })
    }
}

impl TraceContext {
    /// Reads the value of a header.
    #[must_use]
    pub fn of_header(value: &[u8]) -> Option<Self> {
        std::str::from_utf8(value).ok()?.parse().ok()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.sampled { SAMPLED } else { 0 };
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

impl From<TraceContext> for String {
    fn from(context: TraceContext) -> Self {
        context.to_string()
    }
}

impl TryFrom<String> for TraceContext {
    type Error = InvalidTraceContext;

    fn try_from(text: String) -> Result<Self, InvalidTraceContext> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_survives_its_text() {
        let context: TraceContext = EXAMPLE.parse().unwrap();
        assert_eq!(context.to_string(), EXAMPLE);
        assert!(context.sampled);
        assert_eq!(
            serde_json::from_str::<TraceContext>(&serde_json::to_string(&context).unwrap()).unwrap(),
            context
        );
        let unknown_flags = EXAMPLE.replace("-01", "-fe");
        assert!(!unknown_flags.parse::<TraceContext>().unwrap().sampled);
    }

    #[test]
    fn every_other_form_is_invalid() {
        let invalid = [
            String::new(),
            EXAMPLE.to_uppercase(),
            format!("{EXAMPLE}-extra"),
            format!(" {EXAMPLE}"),
            EXAMPLE.replacen("00", "01", 1),
            EXAMPLE.replacen("00", "ff", 1),
            EXAMPLE.replace('-', "0"),
            EXAMPLE.replace("4bf92f", "+bf92f"),
            EXAMPLE.replace("00f067aa0ba902b7", "0000000000000000"),
            EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01".to_owned(),
            format!("{}é", &EXAMPLE[..53]),
        ];
        for text in invalid {
            assert_eq!(text.parse::<TraceContext>(), Err(InvalidTraceContext), "{text}");
        }
        assert_eq!(TraceContext::of_header(&[0xff; TRACEPARENT_BYTES]), None);
    }
}
