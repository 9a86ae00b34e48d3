//! `https://NAME/.well-known/matrix/server`: the delegated server name.
//!
//! Limits on bytes, time and redirects; every redirect must lead over HTTPS to an address that the deny-list allows
//! (T45).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use reqwest::{StatusCode, Url, header};
use ruma::{OwnedServerName, ServerName};
use serde::Deserialize;
use weft_wire::limits;

use crate::{DenyList, Names, body};

/// The response is one line of JSON; a server that takes longer than this counts as having none.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a response without caching headers is cached (Matrix specification, "Resolving server names").
const DEFAULT_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest time, whatever the response states.
const LONGEST_AGE: Duration = Duration::from_secs(48 * 60 * 60);
/// The shortest time: a response that must not be cached would otherwise be fetched before every request.
const SHORTEST_AGE: Duration = Duration::from_secs(60);
/// How long an invalid response is cached.
const INVALID_AGE: Duration = Duration::from_secs(60 * 60);
/// How long a missing response is cached: the server may be starting.
const UNANSWERED_AGE: Duration = Duration::from_secs(60);

/// The result and how long it is cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WellKnown {
    pub(crate) server: Option<OwnedServerName>,
    pub(crate) keep: Duration,
}

/// Fetches `.well-known` documents.
pub(crate) struct Fetcher {
    pub(crate) names: Arc<dyn Names>,
    pub(crate) deny: DenyList,
    pub(crate) tls: rustls::ClientConfig,
    /// 443, except in tests.
    pub(crate) port: u16,
}

enum Hop {
    Done(WellKnown),
    Follow(Url),
}

impl Fetcher {
    /// Returns the delegated name, or none. Never an error: discovery continues without it.
    pub(crate) async fn fetch(&self, server: &ServerName) -> WellKnown {
        let unanswered = WellKnown {
            server: None,
            keep: UNANSWERED_AGE,
        };
        let Ok(url) = Url::parse(&format!(
            "https://{}:{}/.well-known/matrix/server",
            server.host(),
            self.port
        )) else {
            return unanswered;
        };
        match tokio::time::timeout(TIMEOUT, self.follow(url)).await {
            Ok(Ok(found)) => found,
            Ok(Err(reason)) => {
                tracing::debug!(%server, reason, "no .well-known");
                unanswered
            }
            Err(_) => unanswered,
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
            keep: INVALID_AGE,
        })
    }

    async fn hop(&self, url: &Url) -> Result<Hop, String> {
        let response = self.get(url, TIMEOUT).await?;
        let status = response.status();
        if status.is_redirection() {
            let location = response
                .headers()
                .get(header::LOCATION)
                .and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            // Redirects to plain HTTP, a file or any other scheme are not followed.
            return Ok(match next.filter(|next| next.scheme() == "https") {
                Some(next) => Hop::Follow(next),
                None => Hop::Done(WellKnown {
                    server: None,
                    keep: INVALID_AGE,
                }),
            });
        }
        if status != StatusCode::OK {
            let keep = if status.is_server_error() {
                UNANSWERED_AGE
            } else {
                INVALID_AGE
            };
            return Ok(Hop::Done(WellKnown { server: None, keep }));
        }
        let keep = age(response.headers());
        let body = body::read(response, limits::MAX_WELL_KNOWN_BYTES).await;
        let server = body.ok().and_then(|body| parse(&body));
        let keep = if server.is_some() { keep } else { INVALID_AGE };
        Ok(Hop::Done(WellKnown { server, keep }))
    }

    /// Requests a URL from addresses that the deny-list allows; a redirect is returned. `time` includes the body.
    pub(crate) async fn get(&self, url: &Url, time: Duration) -> Result<reqwest::Response, String> {
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
            return Err("the deny-list allows none of the addresses".to_owned());
        }
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .resolve_to_addrs(host, &allowed)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .https_only(true)
            .connect_timeout(TIMEOUT)
            .timeout(time)
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
    fn caches_a_response_for_its_stated_time_within_bounds() {
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
    fn accepts_only_a_server_name() {
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
