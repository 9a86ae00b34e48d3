//! The outermost layer: counts each request and its answer, and keeps the connection usable after a request whose body was not
//! read.

use std::{net::Ipv6Addr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Version, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};
use weft_accounts::Network;
use weft_wire::limits::{DISCARD_MS, MAX_DISCARDED_BYTES, REQUEST_OVERHEAD_BYTES};

use super::{
    Connection, Requester, Traffic, answer,
    request_body::{Leftover, RequestBody, Rest},
};
use crate::{client_address::ClientAddress, errors::ApiError};

/// Counts all requests to the router.
pub fn layer(router: Router, traffic: Traffic) -> Router {
    router.layer(from_fn_with_state(traffic, count))
}

async fn count(State(traffic): State<Traffic>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let network = ClientAddress::of(&parts).network();
    let request = Request::from_parts(parts, body);
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    let connection = connection.unwrap_or_else(|| Connection::uncounted(unknown_network()));
    let network = network.unwrap_or_else(|| connection.network());
    let version = request.version();
    let expects = request.headers().contains_key(header::EXPECT);
    let requester = match Requester::from_network(&traffic, &connection, network, cost(&request)) {
        Ok(requester) => requester,
        Err(exhausted) => return closing(ApiError::from(exhausted).into_response(), version),
    };
    let leftover = Leftover::default();
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(Arc::clone(&requester));
    let body = if body.is_end_stream() {
        body
    } else {
        Body::new(RequestBody::new(body, Arc::clone(&requester), leftover.clone()))
    };
    let mut answer = next.run(Request::from_parts(parts, body)).await;
    if let Some(rest) = leftover.take() {
        answer = discard(rest, answer, version, expects, &requester);
    }
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return answer;
    }
    answer::charge(answer, requester).unwrap_or_else(|exhausted| ApiError::from(exhausted).into_response())
}

/// The network of a request if the listener provides no address.
fn unknown_network() -> Network {
    Network::of(Ipv6Addr::UNSPECIFIED.into())
}

/// Bytes charged for a request before its body is read.
fn cost(request: &Request) -> u64 {
    let headers: usize = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let target = request.uri().path().len() + request.uri().query().map_or(0, str::len);
    REQUEST_OVERHEAD_BYTES + (headers + target) as u64
}

/// Reads an unread body within bounds: a client sends its whole request before it reads the answer, and gets a broken
/// connection if it isn't read. If the bounds don't suffice, the answer announces that the connection is closed.
fn discard(rest: Rest, answer: Response, version: Version, expects: bool, requester: &Arc<Requester>) -> Response {
    if version > Version::HTTP_11 {
        // Dropping it resets the stream and keeps the connection.
        return answer;
    }
    if expects && !rest.begun {
        // The client waits for `100 Continue` before it sends the body.
        return closing(answer, version);
    }
    let fits = rest.body.size_hint().lower() <= MAX_DISCARDED_BYTES;
    let requester = Arc::clone(requester);
    tokio::spawn(async move {
        read_on(rest.body).await;
        drop(requester);
    });
    if fits { answer } else { closing(answer, version) }
}

async fn read_on(mut body: Body) {
    let deadline = Instant::now() + Duration::from_millis(DISCARD_MS);
    let mut left = MAX_DISCARDED_BYTES;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(less) = left.checked_sub(length) else { return };
        left = less;
    }
}

fn closing(mut answer: Response, version: Version) -> Response {
    // HTTP/2 has no such header.
    if version <= Version::HTTP_11 {
        let headers: &mut HeaderMap = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post as on_post};
    use futures_util::stream;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    use tower::ServiceExt;
    use weft_wire::limits::MAX_CLIENT_REQUEST_BYTES;

    use super::*;
    use crate::{client_address::TrustedProxies, errors::ApiResult, ruma_json::read_body, traffic::TrafficLimits};

    async fn limited(body: Body) -> ApiResult<String> {
        Ok(read_body(body, MAX_CLIENT_REQUEST_BYTES).await?.len().to_string())
    }

    fn router(traffic: &Traffic) -> Router {
        let routes = Router::new()
            .route("/here", get(|| async { "here" }))
            .route("/limited", on_post(limited))
            .route("/large", get(|| async { vec![7_u8; 600_000] }));
        layer(routes.fallback(crate::errors::unknown_path), traffic.clone())
    }

    /// A connection to a new server.
    async fn connect(traffic: &Traffic) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(traffic);
        tokio::spawn(async move { axum::serve(listener, router).await });
        TcpStream::connect(address).await.unwrap()
    }

    /// The next answer: its status line and headers, in lower case.
    async fn answer(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await.unwrap();
        head
    }

    async fn post(stream: &mut TcpStream, path: &str, more: &str, body: usize) {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{more}content-length: {body}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
    }

    async fn still_usable(stream: &mut TcpStream) {
        stream
            .write_all(b"GET /here HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        assert!(answer(stream).await.starts_with("http/1.1 200"));
    }

    /// W13. Like most clients, this one reads nothing before it has sent everything.
    #[tokio::test]
    async fn a_connection_is_usable_after_a_refused_body() {
        let mut stream = connect(&Traffic::unlimited()).await;
        for (path, bytes, status) in [
            ("/unknown_network", 66_000, "404"),
            ("/here", 66_000, "405"),
            ("/limited", MAX_CLIENT_REQUEST_BYTES, "200"),
            ("/limited", MAX_CLIENT_REQUEST_BYTES + 1, "413"),
            ("/limited", 30_000_000, "413"),
        ] {
            post(&mut stream, path, "", bytes).await;
            stream.write_all(&vec![b'x'; bytes]).await.unwrap();
            let head = answer(&mut stream).await;
            assert!(
                head.starts_with(&format!("http/1.1 {status}")),
                "{path} {bytes}: {head}"
            );
            assert!(!head.contains("connection: close"), "{path} {bytes}: {head}");
            still_usable(&mut stream).await;
        }
    }

    #[tokio::test]
    async fn an_answer_announces_that_the_connection_is_closed() {
        let huge = usize::try_from(MAX_DISCARDED_BYTES).unwrap() + 1;
        for (more, bytes) in [("", huge), ("expect: 100-continue\r\n", 66_000)] {
            let mut stream = connect(&Traffic::unlimited()).await;
            post(&mut stream, "/unknown_network", more, bytes).await;
            let head = answer(&mut stream).await;
            assert!(head.starts_with("http/1.1 404"), "{head}");
            assert!(head.contains("connection: close"), "{head}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_arrives_too_slowly_is_refused() {
        let drip = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Some((Ok::<_, std::io::Error>("x"), ()))
        });
        let nothing = stream::pending::<Result<&str, std::io::Error>>();
        for body in [Body::from_stream(drip), Body::from_stream(nothing)] {
            let request = Request::post("/limited").body(body).unwrap();
            let response = router(&Traffic::unlimited()).oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
        }
    }

    #[tokio::test]
    async fn bytes_of_anonymous_callers_are_bounded_and_released() {
        let limits = TrafficLimits {
            stranger_bytes_per_network: 800_000,
            ..TrafficLimits::default()
        };
        let traffic = Traffic::new(&limits, TrustedProxies::default());
        let large = || Request::get("/large").body(Body::empty()).unwrap();
        let first = router(&traffic).oneshot(large()).await.unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        let second = router(&traffic).oneshot(large()).await.unwrap();
        assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
        // Read but not written yet: the bytes are still held.
        let mut first = first.into_body();
        let mut parts = Vec::new();
        while let Some(frame) = first.frame().await {
            parts.push(frame.unwrap().into_data().unwrap());
        }
        drop(first);
        assert_eq!(parts.iter().map(bytes::Bytes::len).sum::<usize>(), 600_000);
        parts.truncate(1);
        assert_eq!(
            router(&traffic).oneshot(large()).await.unwrap().status(),
            StatusCode::TOO_MANY_REQUESTS
        );
        parts.clear();
        assert_eq!(
            router(&traffic).oneshot(large()).await.unwrap().status(),
            StatusCode::OK
        );
        assert_eq!(traffic.0.stranger_bytes.total().usage().used, 0);
    }

    /// Clients behind a proxy have separate budgets, and the proxy's own connections are in none.
    #[tokio::test]
    async fn each_client_of_a_proxy_has_its_own_budget() {
        let proxy: std::net::IpAddr = "192.0.2.1".parse().unwrap();
        let limits = TrafficLimits {
            connections_per_network: 1,
            stranger_bytes_per_network: 800_000,
            ..TrafficLimits::default()
        };
        let proxies = TrustedProxies::new(vec![proxy.into()]);
        let traffic = Traffic::new(&limits, proxies.clone());
        let _connections = [traffic.connect(proxy).unwrap(), traffic.connect(proxy).unwrap()];
        let direct: std::net::IpAddr = "198.51.100.9".parse().unwrap();
        let _one = traffic.connect(direct).unwrap();
        assert!(traffic.connect(direct).is_err());
        let large = |client: &str| {
            let mut request = Request::get("/large").header("x-forwarded-for", client);
            let extensions = request.extensions_mut().unwrap();
            extensions.insert(axum::extract::ConnectInfo(std::net::SocketAddr::new(proxy, 1)));
            extensions.insert(proxies.clone());
            router(&traffic).oneshot(request.body(Body::empty()).unwrap())
        };
        let first = large("198.51.100.1").await.unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(
            large("198.51.100.1").await.unwrap().status(),
            StatusCode::TOO_MANY_REQUESTS
        );
        assert_eq!(large("198.51.100.2").await.unwrap().status(), StatusCode::OK);
        drop(first);
    }
}
