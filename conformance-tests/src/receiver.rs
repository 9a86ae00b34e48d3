//! A receiver of webhooks over HTTPS, with the behaviour that a test defines. It verifies signatures as the Standard Webhooks
//! specification says, and without code of the servers that are tested.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use axum_server::Handle;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::stream;
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::Sha256;
use tokio::sync::watch;

use crate::{authority::Authority, malicious::tls};

/// The largest body that is read, bytes.
const MAX_BODY: usize = 1 << 20;

/// What a receiver does with a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers with this status.
    Status(u16),
    /// Redirects to this URL.
    Redirect(String),
    /// Accepts, with a body that never ends.
    Endless,
    /// Never answers.
    Silent,
}

/// A delivery.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub at: String,
    /// The signatures.
    pub signatures: Vec<String>,
    /// The body as it was sent.
    pub body: Bytes,
    /// The body.
    pub event: Value,
}

impl Delivery {
    /// Whether one of the signatures is made with this secret.
    #[must_use]
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = secret
            .strip_prefix("whsec_")
            .and_then(|key| BASE64_STANDARD.decode(key).ok());
        let mac = key.and_then(|key| Hmac::<Sha256>::new_from_slice(&key).ok());
        let Some(mut mac) = mac else { return false };
        mac.update(format!("{}.{}.", self.id, self.at).as_bytes());
        mac.update(&self.body);
        let expected = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        self.signatures.contains(&expected)
    }

    /// The text of a message.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.event.pointer("/data/content/body")?.as_str()
    }
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    deliveries: watch::Sender<Vec<Delivery>>,
}

/// See the module.
pub struct Receiver {
    /// Its URL.
    pub url: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    handle: Handle<SocketAddr>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

impl Receiver {
    /// Starts one with a certificate of this authority. It accepts everything.
    ///
    /// # Errors
    /// When no port is free or the certificate can't be written.
    pub async fn start(authority: &Authority, label: &str) -> Result<Self> {
        Self::start_at(authority, label, TcpListener::bind("127.0.0.1:0")?).await
    }

    async fn start_at(authority: &Authority, label: &str, listener: TcpListener) -> Result<Self> {
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour::Status(204)),
            deliveries: watch::Sender::new(Vec::new()),
        });
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let handle = Handle::new();
        let receiving = Arc::clone(&shared);
        let routes = Router::new().fallback(move |request| receive(Arc::clone(&receiving), request));
        let server = axum_server::from_tcp_rustls(listener, tls(authority, label)?)?;
        tokio::spawn(server.handle(handle.clone()).serve(routes.into_make_service()));
        handle.listening().await.context("the receiver does not listen")?;
        Ok(Self {
            url: format!("https://{address}/hook"),
            address,
            shared,
            handle,
        })
    }

    /// Starts one at the address of one that was dropped.
    ///
    /// # Errors
    /// When the port is in use.
    pub async fn start_again(authority: &Authority, label: &str, address: SocketAddr) -> Result<Self> {
        Self::start_at(authority, label, TcpListener::bind(address)?).await
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock() = behaviour;
    }

    /// All deliveries, in the order of their arrival.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.deliveries.borrow().clone()
    }

    /// Waits for a delivery.
    ///
    /// # Errors
    /// When the receiver has ended.
    pub async fn until(&self, fits: impl Fn(&Delivery) -> bool) -> Result<Delivery> {
        let mut deliveries = self.shared.deliveries.subscribe();
        let all = deliveries.wait_for(|all| all.iter().any(&fits)).await?;
        all.iter().find(|one| fits(one)).cloned().context("no delivery")
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// When the receiver has ended.
    pub async fn until_text(&self, text: &str) -> Result<Delivery> {
        self.until(|delivery| delivery.text() == Some(text)).await
    }
}

async fn receive(shared: Arc<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let header = |name| {
        let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let behaviour = shared.behaviour.lock().clone();
    let delivery = Delivery {
        id: header("webhook-id"),
        at: header("webhook-timestamp"),
        signatures: header("webhook-signature").split(' ').map(str::to_owned).collect(),
        event: serde_json::from_slice(&body).unwrap_or_default(),
        body,
    };
    shared.deliveries.send_modify(|all| all.push(delivery));
    match behaviour {
        Behaviour::Status(status) => StatusCode::from_u16(status).unwrap_or_default().into_response(),
        Behaviour::Redirect(url) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, url)]).into_response(),
        Behaviour::Endless => {
            let chunk = Bytes::from_static(&[b'x'; 16 * 1024]);
            let endless = stream::repeat(Ok::<_, Infallible>(chunk));
            Body::from_stream(endless).into_response()
        }
        Behaviour::Silent => std::future::pending().await,
    }
}
