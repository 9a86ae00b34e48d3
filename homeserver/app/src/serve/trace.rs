//! The span of each HTTP request, and a line with its status and duration. Must not record the path, which contains ids of
//! rooms and users, the query, which may contain a token, headers or bodies: the span has the pattern of the route.

use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::HeaderMap;
use axum::response::Response;
use tower_http::trace::TraceLayer;
use tracing::Span;
use weft_wire::trace_context::{TRACEPARENT, TraceContext};

/// The router with a span around each request.
pub(super) fn layer(router: Router) -> Router {
    router.layer(
        TraceLayer::new_for_http()
            .make_span_with(span)
            .on_request(())
            .on_response(answered)
            .on_body_chunk(())
            .on_eos(())
            .on_failure(()),
    )
}

fn span(request: &Request) -> Span {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("", MatchedPath::as_str);
    let link = link(request.headers()).map(tracing::field::display);
    tracing::debug_span!("http_request", method = %request.method(), route, link)
}

/// The span of the client or server that sent the request. Its trace is not continued: a stranger must not choose the ids of
/// our traces.
fn link(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    TraceContext::of_header(value.as_bytes())
}

fn answered(response: &Response, took: Duration, span: &Span) {
    tracing::debug!(parent: span, status = response.status().as_u16(), ?took, "request");
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;
    use tracing::instrument::WithSubscriber as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_request_is_logged_by_its_route_and_without_ids_or_tokens() {
        let lines = Lines::default();
        let written = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || written.clone())
            .finish();
        let router = layer(Router::new().route("/rooms/{room}", get(|| async { "text" })));
        let request = Request::get("/rooms/!secret:alpha?access_token=secret")
            .header("authorization", "Bearer secret")
            .body(Body::empty())
            .unwrap();
        let response = router.oneshot(request).with_subscriber(subscriber).await.unwrap();
        assert_eq!(response.status(), 200);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.contains("/rooms/{room}") && text.contains("\"status\":200"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn a_link_is_read_strictly_and_once() {
        const CONTEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = HeaderMap::new();
        assert_eq!(link(&headers), None);
        headers.insert(TRACEPARENT, CONTEXT.parse().unwrap());
        assert_eq!(link(&headers).unwrap().to_string(), CONTEXT);
        headers.append(TRACEPARENT, CONTEXT.parse().unwrap());
        assert_eq!(link(&headers), None);
        headers.insert(TRACEPARENT, format!("{CONTEXT}-more").parse().unwrap());
        assert_eq!(link(&headers), None);
    }
}
