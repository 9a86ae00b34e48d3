//! A stream of events of a document (`GET /documents/{id}/events`), read as a program does. Must not reconnect by itself.

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, Response};
use serde_json::Value;

use crate::client::Client;

/// An open stream.
pub struct EventStream {
    response: Response,
    text: String,
    /// The id of the last event, or of the beginning.
    pub last_id: String,
}

/// One event.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: Value,
}

impl EventStream {
    /// Opens a stream, from now on or after the event with an id, and reads its beginning.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn open(client: &Client, room: &str, since: Option<&str>) -> Result<Self> {
        let mut stream = Self::unread(client, room, since).await?;
        let begin = stream.part().await?.context("the stream has no beginning")?;
        let id = begin.lines().find_map(|line| line.strip_prefix("id: "));
        stream.last_id = id.context("the beginning has no id")?.to_owned();
        Ok(stream)
    }

    /// The same without reading anything.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn unread(client: &Client, room: &str, since: Option<&str>) -> Result<Self> {
        let since: Vec<_> = since.into_iter().map(|id| ("last-event-id", id)).collect();
        let response = client
            .of_document(Method::GET, room, "/events", &since, Vec::new())
            .await?;
        ensure!(response.status().is_success(), "{}", response.status());
        Ok(Self {
            response,
            text: String::new(),
            last_id: String::new(),
        })
    }

    /// What is before the next empty line; `None` at the end of the stream.
    async fn part(&mut self) -> Result<Option<String>> {
        loop {
            if let Some((part, rest)) = self.text.split_once("\n\n") {
                let part = part.to_owned();
                self.text = rest.to_owned();
                return Ok(Some(part));
            }
            match self.response.chunk().await? {
                Some(chunk) => self.text.push_str(std::str::from_utf8(&chunk)?),
                None => return Ok(None),
            }
        }
    }

    /// The next event; `None` at the end of the stream.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Sent>> {
        while let Some(part) = self.part().await? {
            let field = |name: &str| part.lines().find_map(|line| line.strip_prefix(name));
            let (Some(name), Some(data)) = (field("event: "), field("data: ")) else {
                continue;
            };
            if let Some(id) = field("id: ") {
                id.clone_into(&mut self.last_id);
            }
            let name = name.to_owned();
            let data = serde_json::from_str(data)?;
            return Ok(Some(Sent { name, data }));
        }
        Ok(None)
    }

    /// Reads until an event with this name.
    ///
    /// # Errors
    /// When the stream ends before it.
    pub async fn until(&mut self, name: &str) -> Result<Value> {
        loop {
            let sent = self
                .next()
                .await?
                .with_context(|| format!("the stream ended before {name}"))?;
            if sent.name == name {
                return Ok(sent.data);
            }
        }
    }
}
