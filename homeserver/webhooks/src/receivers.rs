//! Requests to receivers: `https` to public addresses, and what the operator allows beyond that.
//!
//! The address is checked that the connection is made to, after the name is resolved. Must not follow redirects, use a proxy, or
//! use what a receiver sends, except its status.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use ipnet::IpNet;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header,
};
use weft_federation::{ClientError, DenyList, Names, config_with_roots, describe};
use weft_wire::limits::{MAX_WEBHOOK_ANSWER_BYTES, WEBHOOK_SECONDS};

use crate::target::literal;

/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How receivers are reached.
pub struct ReceiverConfig {
    /// PEM texts of certificates that are trusted in addition to those of the system.
    pub extra_ca_certificates: Vec<Vec<u8>>,
    /// Networks that are allowed although they are not public, and to which `http` is allowed.
    pub allow_addresses: Vec<IpNet>,
    /// DNS lookups.
    pub names: Arc<dyn Names>,
}

/// See the module.
pub struct Receivers {
    https: reqwest::Client,
    http: reqwest::Client,
    pub(crate) addresses: Arc<DenyList>,
}

/// A signed event.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: String,
    /// The time of the attempt, in seconds since 1970.
    pub(crate) at: u64,
    pub(crate) signatures: String,
    pub(crate) body: Bytes,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The receiver answered with this status.
    Status(u16),
    /// There was no answer.
    None {
        /// Why.
        reason: String,
    },
}

impl Answer {
    pub(crate) fn is_accepted(&self) -> bool {
        matches!(self, Self::Status(200..=299))
    }

    /// The receiver wants nothing more (Standard Webhooks, "410 Gone").
    pub(crate) fn is_gone(&self) -> bool {
        *self == Self::Status(410)
    }

    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(*status),
            Self::None { .. } => None,
        }
    }

    /// Why the attempt failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        match self {
            Self::Status(200..=299) => None,
            Self::Status(status @ 300..=399) => Some(format!("it answered {status}: redirects are not followed")),
            Self::Status(status) => Some(format!("it answered {status}")),
            Self::None { reason } => Some(reason.clone()),
        }
    }
}

impl Receivers {
    /// # Errors
    /// When a certificate can't be read, or there is no TLS.
    pub fn new(config: ReceiverConfig) -> Result<Self, ClientError> {
        let addresses = Arc::new(DenyList::new(config.allow_addresses));
        let tls = config_with_roots(&config.extra_ca_certificates)?;
        let client = |only_exceptions: bool| {
            let resolver = Checked {
                names: Arc::clone(&config.names),
                addresses: Arc::clone(&addresses),
                only_exceptions,
            };
            let client = reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .dns_resolver(Arc::new(resolver))
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .http1_only()
                .https_only(!only_exceptions)
                .timeout(Duration::from_secs(WEBHOOK_SECONDS))
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(1)
                .tcp_nodelay(true)
                .user_agent(concat!("weft/", env!("CARGO_PKG_VERSION")))
                .build();
            client.map_err(|error| ClientError::Certificates(describe(&error)))
        };
        Ok(Self {
            https: client(false)?,
            http: client(true)?,
            addresses,
        })
    }

    /// Sends a message. Takes at most [`WEBHOOK_SECONDS`].
    pub(crate) async fn post(&self, url: &Url, message: Message) -> Answer {
        let is_plain = url.scheme() == "http";
        // Addresses are not resolved, so the resolver does not see them.
        if let Some(address) = url.host_str().and_then(literal)
            && (!self.addresses.allows(address) || is_plain && !self.addresses.is_exception(address))
        {
            let reason = "the address is not allowed".to_owned();
            return Answer::None { reason };
        }
        let client = if is_plain { &self.http } else { &self.https };
        let request = client
            .post(url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", message.at)
            .header("webhook-signature", message.signatures)
            .body(message.body);
        match request.send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                discard(response).await;
                Answer::Status(status)
            }
            Err(error) => Answer::None {
                reason: describe(&error),
            },
        }
    }
}

/// Reads a short body, so that the connection can be used again. That of a longer one is closed.
async fn discard(response: reqwest::Response) {
    let length = response.content_length();
    if length.is_some_and(|length| length <= MAX_WEBHOOK_ANSWER_BYTES) {
        // What is wrong with the body does not matter: the status says that the event was accepted.
        let _ = response.bytes().await;
    }
}

/// Resolves names, without the addresses that are not allowed. Connections are made to the addresses that it returns.
struct Checked {
    names: Arc<dyn Names>,
    addresses: Arc<DenyList>,
    /// For requests without TLS.
    only_exceptions: bool,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, addresses, only_exceptions) = (
            Arc::clone(&self.names),
            Arc::clone(&self.addresses),
            self.only_exceptions,
        );
        Box::pin(async move {
            let mut found = names.addresses(name.as_str()).await?;
            let any = !found.is_empty();
            found.retain(|address| {
                if only_exceptions {
                    addresses.is_exception(*address)
                } else {
                    addresses.allows(*address)
                }
            });
            if found.is_empty() {
                let reason = if any {
                    "the address is not allowed"
                } else {
                    "the name has no address"
                };
                return Err(reason.into());
            }
            // The port is that of the URL.
            let found = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(found) as Addrs)
        })
    }
}
