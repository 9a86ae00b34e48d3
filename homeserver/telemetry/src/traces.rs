//! Ids of traces and spans, in the form of W3C Trace Context: a span has the trace of the span that contains it, or of its field
//! `traceparent` if another process of this server gave it, or a new one. Must not continue a trace of a client or another
//! server: these are recorded in the field `link` alone.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
};

use tracing::{
    Subscriber, dispatcher,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{
    Layer, Registry,
    layer::Context,
    registry::{LookupSpan, SpanRef},
};
use weft_wire::trace_context::{TRACEPARENT, TraceContext};

/// Gives ids to the spans that are recorded.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceIds;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for TraceIds {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut given = Given::default();
        attributes.record(&mut given);
        let parent = given.0.or_else(|| span.parent().and_then(|parent| context_of(&parent)));
        let context = TraceContext {
            trace: parent.map_or_else(new_trace, |parent| parent.trace),
            span: new_span(),
            sampled: true,
        };
        span.extensions_mut().insert(context);
    }
}

/// The value of the field `traceparent`.
#[derive(Default)]
struct Given(Option<TraceContext>);

impl Visit for Given {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == TRACEPARENT {
            self.0 = format!("{value:?}").parse().ok();
        }
    }
}

/// The id 0 is invalid, and is not drawn in the lifetime of a server.
fn new_trace() -> NonZeroU128 {
    NonZeroU128::new(rand::random()).unwrap_or(NonZeroU128::MIN)
}

fn new_span() -> NonZeroU64 {
    NonZeroU64::new(rand::random()).unwrap_or(NonZeroU64::MIN)
}

/// The ids of a span, for layers that record spans.
#[must_use]
pub fn context_of<S: for<'a> LookupSpan<'a>>(span: &SpanRef<'_, S>) -> Option<TraceContext> {
    span.extensions().get::<TraceContext>().copied()
}

/// The ids of the current span; `None` if it is not recorded.
#[must_use]
pub fn current_context() -> Option<TraceContext> {
    dispatcher::get_default(|dispatch| {
        let registry = dispatch.downcast_ref::<Registry>()?;
        let span = dispatch.current_span();
        context_of(&registry.span(span.id()?)?)
    })
}

#[cfg(test)]
mod tests {
    use tracing::{debug_span, subscriber::with_default};
    use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt as _};

    use super::*;

    fn recording(level: LevelFilter, test: impl FnOnce()) {
        with_default(Registry::default().with(level).with(TraceIds), test);
    }

    fn context() -> TraceContext {
        current_context().expect("the span is recorded")
    }

    #[test]
    fn a_span_has_the_trace_of_the_span_around_it_or_of_its_field() {
        recording(LevelFilter::DEBUG, || {
            assert_eq!(current_context(), None);
            let outer = debug_span!("outer").in_scope(|| {
                let outer = context();
                let inner = debug_span!("inner").in_scope(context);
                assert_eq!(inner.trace, outer.trace);
                assert_ne!(inner.span, outer.span);
                outer
            });
            let traceparent = tracing::field::display(outer);
            let elsewhere = debug_span!("elsewhere", traceparent).in_scope(context);
            assert_eq!(elsewhere.trace, outer.trace);
            let other = debug_span!("other").in_scope(context);
            assert_ne!(other.trace, outer.trace);
        });
    }

    #[test]
    fn an_invalid_field_and_a_link_begin_a_trace() {
        recording(LevelFilter::DEBUG, || {
            let given = debug_span!("given").in_scope(context);
            let traceparent = tracing::field::display("00-0-0-00");
            assert_ne!(debug_span!("invalid", traceparent).in_scope(context).trace, given.trace);
            let link = tracing::field::display(given);
            assert_ne!(debug_span!("linked", link).in_scope(context).trace, given.trace);
        });
    }

    #[test]
    fn a_span_that_is_not_recorded_has_no_ids() {
        recording(LevelFilter::INFO, || {
            assert_eq!(debug_span!("span").in_scope(current_context), None);
        });
    }
}
