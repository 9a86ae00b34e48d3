//! Requests to the document API as one account: addresses, the token, limits, and one repetition of what may be repeated.
//! Must not follow redirects: they would carry the token elsewhere.

use std::{
    fmt,
    process::id as process_id,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::StreamExt as _;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Certificate, Client, Method, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use serde_json::Value;

use crate::McpError;

/// Everything but the unreserved characters of RFC 3986 is encoded in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// A rendered document of the largest size is smaller; a longer answer would fill the memory of the assistant's machine.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of an error answer that are read.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// Deadline of a request. A difference of two large texts takes seconds.
const DEADLINE: Duration = Duration::from_secs(60);
/// The longest pause before a refused request is repeated; after a longer one the assistant decides.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// An access token. It is never printed.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// Accepts what can be in a header.
    ///
    /// # Errors
    /// When it is empty or has other characters.
    pub fn new(text: &str) -> Result<Self, McpError> {
        let text = text.trim();
        let value = HeaderValue::try_from(format!("Bearer {text}"));
        let mut value = value.ok().filter(|_| !text.is_empty()).ok_or(McpError::Token)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token")
    }
}

/// Where the account is.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The address of the homeserver's client API: `https://HOST[:PORT]`.
    pub homeserver: String,
    /// The token of the account.
    pub token: Token,
    /// Certificates of authorities, PEM, which are trusted beside those of the system.
    pub authorities: Option<Vec<u8>>,
}

/// A request that is repeated once if the homeserver is busy or can't be reached.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Vec<(&'a str, String)>,
    pub(crate) body: Option<&'a Value>,
}

impl<'a> Request<'a> {
    pub(crate) fn get(path: String, query: Vec<(&'a str, String)>) -> Self {
        let method = Method::GET;
        let body = None;
        Self {
            method,
            path,
            query,
            body,
        }
    }

    pub(crate) fn send(method: Method, path: String, body: &'a Value) -> Self {
        let query = Vec::new();
        let body = Some(body);
        Self {
            method,
            path,
            query,
            body,
        }
    }
}

/// The path of a document in the document API, with `rest` after it.
pub(crate) fn document_path(document: &str, rest: &str) -> String {
    let id = utf8_percent_encode(document, SEGMENT);
    format!("/_weft/client/v1/documents/{id}{rest}")
}

/// The same with an event.
pub(crate) fn event_path(document: &str, collection: &str, event: &str, rest: &str) -> String {
    let event = utf8_percent_encode(event, SEGMENT);
    document_path(document, &format!("/{collection}/{event}{rest}"))
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Api {
    http: Client,
    homeserver: Url,
    /// A part of the idempotency keys that no other process has.
    run: String,
    requests: AtomicU64,
}

impl Api {
    pub(crate) fn new(connection: Connection) -> Result<Self, McpError> {
        let Connection {
            homeserver,
            token: Token(token),
            authorities,
        } = connection;
        let url = Url::parse(&homeserver)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none());
        let url = url.ok_or(McpError::Address(homeserver))?;
        let headers = HeaderMap::from_iter([(AUTHORIZATION, token)]);
        let mut builder = Client::builder()
            .default_headers(headers)
            .redirect(Policy::none())
            .timeout(DEADLINE)
            .user_agent(concat!("weft-mcp/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = authorities {
            let certificates = Certificate::from_pem_bundle(&pem).map_err(McpError::Certificates)?;
            builder = builder.tls_certs_merge(certificates);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            http: builder.build().map_err(McpError::Unreachable)?,
            homeserver: url,
            run: format!("mcp-{}-{}", process_id(), since.as_nanos()),
            requests: AtomicU64::new(0),
        })
    }

    /// The user id of the account.
    pub(crate) async fn account(&self) -> Result<String, McpError> {
        let path = "/_matrix/client/v3/account/whoami".to_owned();
        let answer = self.json(&Request::get(path, Vec::new())).await?;
        let user = answer.get("user_id").and_then(Value::as_str);
        user.map(ToOwned::to_owned)
            .ok_or_else(|| McpError::Answer("no user id".to_owned()))
    }

    /// The JSON of an answer.
    pub(crate) async fn json(&self, request: &Request<'_>) -> Result<Value, McpError> {
        let answer = self.bytes(request).await?;
        serde_json::from_slice(&answer).map_err(|error| McpError::Answer(error.to_string()))
    }

    /// The text of an answer.
    pub(crate) async fn text(&self, request: &Request<'_>) -> Result<String, McpError> {
        let answer = self.bytes(request).await?;
        String::from_utf8(answer).map_err(|_| McpError::Answer("it is not UTF-8".to_owned()))
    }

    /// Sends a request, and once more after a pause if the homeserver asks for one or can't be reached. All requests that
    /// change something have an idempotency key, so a repetition changes nothing twice.
    async fn bytes(&self, request: &Request<'_>) -> Result<Vec<u8>, McpError> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let key = format!("{}-{number}", self.run);
        let first = self.send(request, &key).await;
        let pause = match &first {
            Ok(answer) if is_busy(answer.status()) => pause(answer),
            Err(McpError::Unreachable(error)) if error.is_connect() => Some(Duration::from_secs(1)),
            _ => None,
        };
        let answer = match pause {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                self.send(request, &key).await?
            }
            None => first?,
        };
        if answer.status().is_success() {
            read(answer, MAX_ANSWER_BYTES).await
        } else {
            Err(refusal(answer).await)
        }
    }

    async fn send(&self, request: &Request<'_>, key: &str) -> Result<Response, McpError> {
        let mut url = self.homeserver.clone();
        // The path is encoded already.
        url.set_path(&request.path);
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let mut builder = self.http.request(request.method.clone(), url);
        if let Some(body) = request.body {
            builder = builder.header("idempotency-key", key).json(body);
        }
        builder.send().await.map_err(McpError::Unreachable)
    }
}

fn is_busy(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// The pause that an answer asks for, if it is short enough.
fn pause(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds)).filter(|pause| *pause <= MAX_PAUSE)
}

async fn read(answer: Response, limit: usize) -> Result<Vec<u8>, McpError> {
    let mut body = answer.bytes_stream();
    let mut read = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(McpError::Unreachable)?;
        if read.len().saturating_add(chunk.len()) > limit {
            return Err(McpError::TooLarge(limit));
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read)
}

async fn refusal(answer: Response) -> McpError {
    let status = answer.status();
    let body = read(answer, MAX_ERROR_BYTES).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let field = |name: &str| body.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
    let mut message = field("error").unwrap_or_else(|| "no reason given".to_owned());
    // Which change is wrong and what would be right; which version is the present one.
    for name in ["change", "problem", "version"] {
        if let Some(value) = body.get(name) {
            message = format!("{message} {name}: {value}");
        }
    }
    McpError::Refused {
        status: status.as_u16(),
        errcode: field("errcode").unwrap_or_else(|| "M_UNKNOWN".to_owned()),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_encoded_in_paths() {
        assert_eq!(
            event_path("!a/b?c:x.example", "comments", "$d/../e", "/resolve"),
            "/_weft/client/v1/documents/%21a%2Fb%3Fc%3Ax.example/comments/%24d%2F..%2Fe/resolve"
        );
    }

    #[test]
    fn a_token_is_not_printed_and_has_no_control_characters() {
        let token = Token::new(" secret\n").unwrap();
        assert_eq!(format!("{token:?}"), "Token");
        for bad in ["", " ", "a\nb", "a\0b"] {
            assert!(Token::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_has_no_path() {
        let connection = |homeserver: &str| Connection {
            homeserver: homeserver.to_owned(),
            token: Token::new("t").unwrap(),
            authorities: None,
        };
        for bad in [
            "",
            "weft.example",
            "ftp://weft.example",
            "https://weft.example/x",
            "https://weft.example/?x",
        ] {
            assert!(
                matches!(Api::new(connection(bad)), Err(McpError::Address(_))),
                "{bad:?}"
            );
        }
    }
}
