//! A server under load: how to create and open a document on it, and its process, if known. Must not depend on the kind
//! of server elsewhere.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    process,
    socket::{Endpoint, Framing},
};
use weft_conformance_tests::client::{Client, segment};

/// How documents are created and opened.
#[derive(Clone)]
enum Way {
    /// This protocol: documents of a user, created by REST.
    Weft {
        client: Client,
        trust: Option<Arc<rustls::ClientConfig>>,
        named: bool,
    },
    /// Other servers create a document when it is opened. Port on this machine.
    Peer { port: u16, named: bool },
}

/// See the module.
#[derive(Clone)]
pub struct Target {
    /// Its name in the table.
    pub name: String,
    /// Its process id, if it runs on this machine.
    pub pid: Option<u32>,
    way: Way,
}

impl Target {
    /// A server of this protocol with a user. `named` selects Hocuspocus' framing, in which each edit is acknowledged.
    #[must_use]
    pub fn weft(client: Client, trust: Option<Arc<rustls::ClientConfig>>, pid: Option<u32>, named: bool) -> Self {
        let name = if named { "Weft, acknowledged" } else { "Weft" };
        Self {
            name: name.to_owned(),
            pid,
            way: Way::Weft { client, trust, named },
        }
    }

    /// Another server on this machine.
    #[must_use]
    pub fn peer(name: &str, port: u16, pid: u32, named: bool) -> Self {
        Self {
            name: name.to_owned(),
            pid: Some(pid),
            way: Way::Peer { port, named },
        }
    }

    /// Whether an edit is durable before others see it.
    #[must_use]
    pub fn is_weft(&self) -> bool {
        matches!(self.way, Way::Weft { .. })
    }

    /// Creates a document.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn document(&self) -> Result<Endpoint> {
        match &self.way {
            Way::Weft { client, .. } => self.endpoint(&client.create_document("Load").await?),
            Way::Peer { .. } => self.endpoint(&format!("load-{:016x}", rand::random::<u64>())),
        }
    }

    /// The endpoint of an existing document.
    ///
    /// # Errors
    /// When the server's URL is invalid.
    pub fn endpoint(&self, document: &str) -> Result<Endpoint> {
        match &self.way {
            Way::Weft { client, trust, named } => {
                let base = client.url.strip_prefix("http").context("no URL")?;
                let url = format!("ws{base}/_weft/client/v1/live/{}", segment(document));
                Ok(endpoint(url, document, &client.token, *named, trust.clone()))
            }
            Way::Peer { port, named } => {
                let url = format!("ws://127.0.0.1:{port}/{document}");
                Ok(endpoint(url, document, "nobody", *named, None))
            }
        }
    }

    /// Processor time so far; zero if the process is not known.
    ///
    /// # Errors
    /// When the process has exited.
    pub fn cpu(&self) -> Result<Duration> {
        self.pid.map_or(Ok(Duration::ZERO), process::cpu)
    }

    /// Current memory, bytes; zero if the process is not known.
    ///
    /// # Errors
    /// When the process has exited.
    pub fn memory(&self) -> Result<u64> {
        self.pid.map_or(Ok(0), process::memory)
    }
}

fn endpoint(
    url: String,
    document: &str,
    token: &str,
    named: bool,
    trust: Option<Arc<rustls::ClientConfig>>,
) -> Endpoint {
    if named {
        let (name, token) = (document.into(), token.into());
        return Endpoint {
            url,
            framing: Framing::Named { name, token },
            trust,
        };
    }
    let url = format!("{url}?access_token={}", segment(token));
    Endpoint {
        url,
        framing: Framing::Plain,
        trust,
    }
}
