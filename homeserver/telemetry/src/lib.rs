//! What the server reports about itself: log output, metrics, ids of traces, and decorators that measure the seams between
//! its parts.
//!
//! A decorator wraps a trait of another crate, counts and times its calls, and opens a span for each. The measured crates do
//! not depend on this one. Must not change an argument or a result, and must not record keys, values, text of documents,
//! message bodies or tokens.

mod calls;
mod logging;
mod metered_engine;
mod metered_transport;
mod metrics;
mod peer_calls;
mod traced_router;
mod traces;

pub use logging::{LogFormat, start_logging};
pub use metered_engine::MeteredEngine;
pub use metered_transport::MeteredTransport;
pub use metrics::Metrics;
pub use peer_calls::PeerCalls;
pub use traced_router::TracedRouter;
pub use traces::{TraceIds, context_of, current_context};
