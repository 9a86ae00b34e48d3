//! `https://NAME/.well-known/matrix/server`: where a server says that it is.
//!
//! Bounded in bytes, time and redirects; every hop is HTTPS to an address that the deny-list allows (T45).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use reqwest::{StatusCode, Url, header};
use ruma::{OwnedServerName, ServerName};
use serde::Deserialize;
use weft_wire::limits;

use crate::{DenyList, Names, body};

/// A whole .well-known answer is a line; whoever takes longer has none.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer is kept that doesn't say (Matrix specification, "Resolving server names").
const DEFAULT_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// At most, whatever the answer says.
const LONGEST_AGE: Duration = Duration::from_secs(48 * 60 * 60);
/// At least: an answer that may not be kept at all would be asked for before every request.
const SHORTEST_AGE: Duration = Duration::from_secs(60);
/// After an answer that is none.
const WRONG_AGE: Duration = Duration::from_secs(60 * 60);
/// After no answer: the server may just be starting.
const SILENT_AGE: Duration = Duration::from_secs(60);

/// What was found, and for how long it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WellKnown {
    pub(crate) server: Option<OwnedServerName>,
    pub(crate) keep: Duration,
}

/// Fetches .well-known documents.
pub(crate) struct Fetcher {
    pub(crate) names: Arc<dyn Names>,
    pub(crate) deny: DenyList,
    pub(crate) tls: rustls::ClientConfig,
    /// 443, other in tests.
    pub(crate) port: u16,
}

enum Hop {
    Done(WellKnown),
    Follow(Url),
}

impl Fetcher {
    /// What the server says, or that it says nothing. Never an error: discovery goes on without.
    pub(crate) async fn fetch(&self, server: &ServerName) -> WellKnown {
        let silent = WellKnown {
            server: None,
            keep: SILENT_AGE,
        };
        let Ok(url) = Url::parse(&format!(
            "https://{}:{}/.well-known/matrix/server",
            server.host(),
            self.port
        )) else {
            return silent;
        };
        match tokio::time::timeout(TIMEOUT, self.follow(url)).await {
            Ok(Ok(found)) => found,
            Ok(Err(reason)) => {
                tracing::debug!(%server, reason, "no .well-known");
                silent
            }
            Err(_) => silent,
        }
    }

    async fn follow(&self, mut url: Url) -> Result<WellKnown, String> {
        for _ in 0..=limits::MAX_WELL_KNOWN_REDIRECTS {
            match self.hop(&url).await? {
                Hop::Done(found) => return Ok(found),
                Hop::Follow(next) => url = next,
            }
        }
        Ok(WellKnown {
            server: None,
            keep: WRONG_AGE,
        })
    }

    async fn hop(&self, url: &Url) -> Result<Hop, String> {
        let response = self.get(url).await?;
        let status = response.status();
        if status.is_redirection() {
            let location = response
                .headers()
                .get(header::LOCATION)
                .and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            // Down to plain HTTP, a file or anything else nobody is followed.
            return Ok(match next.filter(|next| next.scheme() == "https") {
                Some(next) => Hop::Follow(next),
                None => Hop::Done(WellKnown {
                    server: None,
                    keep: WRONG_AGE,
                }),
            });
        }
        if status != StatusCode::OK {
            let keep = if status.is_server_error() {
                SILENT_AGE
            } else {
                WRONG_AGE
            };
            return Ok(Hop::Done(WellKnown { server: None, keep }));
        }
        let keep = age(response.headers());
        let body = body::read(response, limits::MAX_WELL_KNOWN_BYTES).await;
        let server = body.ok().and_then(|body| parse(&body));
        let keep = if server.is_some() { keep } else { WRONG_AGE };
        Ok(Hop::Done(WellKnown { server, keep }))
    }

    async fn get(&self, url: &Url) -> Result<reqwest::Response, String> {
        let host = url.host_str().ok_or("no host")?;
        let port = url.port_or_known_default().ok_or("no port")?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found = match bare.parse() {
            Ok(address) => vec![address],
            Err(_) => self.names.addresses(host).await.map_err(|error| error.to_string())?,
        };
        let allowed: Vec<SocketAddr> = found
            .into_iter()
            .filter(|ip| self.deny.allows(*ip))
            .map(|ip| SocketAddr::new(ip, port))
            .collect();
        if allowed.is_empty() {
            return Err("no address that may be connected to".to_owned());
        }
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .resolve_to_addrs(host, &allowed)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .https_only(true)
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| error.to_string())?;
        client
            .get(url.clone())
            .send()
            .await
            .map_err(|error| body::describe(&error))
    }
}

pub(crate) fn parse(body: &[u8]) -> Option<OwnedServerName> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(rename = "m.server")]
        server: OwnedServerName,
    }
    serde_json::from_slice::<Document>(body)
        .ok()
        .map(|document| document.server)
}

pub(crate) fn age(headers: &header::HeaderMap) -> Duration {
    let directives = headers
        .get(header::CACHE_CONTROL)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mut age = DEFAULT_AGE;
    for directive in directives.split(',').map(str::trim) {
        if directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache") {
            return SHORTEST_AGE;
        }
        if let Some((name, value)) = directive.split_once('=')
            && name.eq_ignore_ascii_case("max-age")
            && let Ok(seconds) = value.trim_matches('"').parse()
        {
            age = Duration::from_secs(seconds);
        }
    }
    age.clamp(SHORTEST_AGE, LONGEST_AGE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{DEFAULT_AGE, LONGEST_AGE, SHORTEST_AGE, age, header, parse};

    #[test]
    fn keeps_an_answer_for_as_long_as_it_says_within_bounds() {
        for (text, expected) in [
            (None, DEFAULT_AGE),
            (Some("max-age=3600"), Duration::from_secs(3600)),
            (Some("public, Max-Age=7200"), Duration::from_secs(7200)),
            (Some("max-age=99999999999"), LONGEST_AGE),
            (Some("max-age=0"), SHORTEST_AGE),
            (Some("no-store"), SHORTEST_AGE),
            (Some("max-age=x"), DEFAULT_AGE),
        ] {
            let mut headers = header::HeaderMap::new();
            if let Some(text) = text {
                headers.insert(header::CACHE_CONTROL, text.parse().unwrap());
            }
            assert_eq!(age(&headers), expected, "{text:?}");
        }
    }

    #[test]
    fn takes_a_server_name_and_nothing_else() {
        assert_eq!(
            parse(br#"{"m.server":"matrix.example:443"}"#).unwrap(),
            "matrix.example:443"
        );
        for text in [
            r#"{"m.server":""}"#,
            r#"{"m.server":"a b"}"#,
            r#"{"m.server":"a/../b"}"#,
            "{}",
            "[]",
            "x",
        ] {
            assert!(parse(text.as_bytes()).is_none(), "{text}");
        }
    }
}
