//! A Matrix client that uses plain HTTP and no SDK, so that the test controls every byte that is sent. Must not retry a
//! request by itself.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD as STANDARD_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Counter for transaction ids that are unique in this process.
static TRANSACTION: AtomicU64 = AtomicU64::new(0);

/// A signed-in user.
#[derive(Clone)]
pub struct Client {
    /// `https://127.0.0.1:PORT`.
    pub url: String,
    /// The Matrix user id.
    pub user: String,
    /// The access token.
    pub token: String,
    http: reqwest::Client,
}

/// A response with any status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// JSON body; null if the body is not JSON.
    pub body: Value,
}

impl Answer {
    /// The body of a successful response.
    ///
    /// # Errors
    /// When the status is not a success.
    pub fn ok(self) -> Result<Value> {
        ensure!(self.status.is_success(), "{}: {}", self.status, self.body);
        Ok(self.body)
    }

    /// The error code.
    #[must_use]
    pub fn errcode(&self) -> &str {
        self.body.get("errcode").and_then(Value::as_str).unwrap_or_default()
    }
}

/// The characters of a path segment that are percent-encoded: all but unreserved ones (RFC 3986).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes a path segment.
#[must_use]
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

impl Client {
    /// Registers a user on a server with open registration.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn register(http: &reqwest::Client, url: &str, name: &str) -> Result<Self> {
        let body = json!({
            "username": name, "password": format!("{name}-password"), "auth": {"type": "m.login.dummy"}
        });
        let answer = http
            .post(format!("{url}/_matrix/client/v3/register"))
            .json(&body)
            .send()
            .await?;
        let status = answer.status();
        let body: Value = answer.json().await?;
        ensure!(status.is_success(), "register {name}: {status} {body}");
        let field = |name: &str| {
            body.get(name)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .context("missing field")
        };
        Ok(Self {
            url: url.to_owned(),
            user: field("user_id")?,
            token: field("access_token")?,
            http: http.clone(),
        })
    }

    /// Registers another user on the same server.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn register_beside(&self, name: &str) -> Result<Self> {
        Self::register(&self.http, &self.url, name).await
    }

    /// The password of a user that [`Client::register`] made.
    #[must_use]
    pub fn password(&self) -> String {
        let name = self.user.trim_start_matches('@').split(':').next();
        format!("{}-password", name.unwrap_or_default())
    }

    /// A client for an existing access token.
    ///
    /// # Errors
    /// When the server rejects the token.
    pub async fn with_token(http: &reqwest::Client, url: &str, token: &str) -> Result<Self> {
        let mut client = Self {
            url: url.to_owned(),
            user: String::new(),
            token: token.to_owned(),
            http: http.clone(),
        };
        let answer = client.get("/_matrix/client/v3/account/whoami").await?;
        let user = answer.get("user_id").and_then(Value::as_str);
        client.user = user.context("no user_id")?.to_owned();
        Ok(client)
    }

    /// Sends any request.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let body = answer.json().await.unwrap_or(Value::Null);
        Ok(Answer { status, body })
    }

    /// Sends a request to a document, with further headers and a body of bytes; returns the response of any status.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn of_document(
        &self,
        method: Method,
        room: &str,
        rest: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<reqwest::Response> {
        let url = format!("{}/_weft/client/v1/documents/{}{rest}", self.url, segment(room));
        let request = self.http.request(method, url).bearer_auth(&self.token).body(body);
        let add = |request: reqwest::RequestBuilder, (name, value): &(&str, &str)| request.header(*name, *value);
        Ok(headers.iter().fold(request, add).send().await?)
    }

    /// Sends a request with further headers and a body of bytes or a stream; returns the response of any status.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Result<reqwest::Response> {
        let request = self.http.request(method, format!("{}{path}", self.url));
        let request = request.bearer_auth(&self.token).body(body);
        let add = |request: reqwest::RequestBuilder, (name, value): &(&str, &str)| request.header(*name, *value);
        Ok(headers.iter().fold(request, add).send().await?)
    }

    /// Uploads a file; returns the server name and the media id of its `mxc` URI, with a slash.
    ///
    /// # Errors
    /// When the status is not a success.
    pub async fn upload(&self, name: &str, content_type: &str, bytes: Vec<u8>) -> Result<String> {
        let path = format!("/_matrix/media/v3/upload?filename={}", segment(name));
        let answer = self
            .send(Method::POST, &path, &[("content-type", content_type)], bytes)
            .await?;
        let answer: Value = answer.error_for_status()?.json().await?;
        let uri = answer.get("content_uri").and_then(Value::as_str);
        let file = uri.and_then(|uri| uri.strip_prefix("mxc://"));
        Ok(file.context("no content_uri")?.to_owned())
    }

    /// Requests a file, or something else about it: `what` is `download` or `thumbnail`, `file` what [`Client::upload`]
    /// returned, perhaps with a query.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn file(&self, what: &str, file: &str, headers: &[(&str, &str)]) -> Result<reqwest::Response> {
        let path = format!("/_matrix/client/v1/media/{what}/{file}");
        self.send(Method::GET, &path, headers, Vec::new()).await
    }

    /// GET; returns the body of a successful response.
    ///
    /// # Errors
    /// When the status is not a success.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.request(Method::GET, path, None)
            .await?
            .ok()
            .with_context(|| format!("GET {path}"))
    }

    /// POST; returns the body of a successful response.
    ///
    /// # Errors
    /// When the status is not a success.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        self.request(Method::POST, path, Some(body))
            .await?
            .ok()
            .with_context(|| format!("POST {path}"))
    }

    /// PUT; returns the body of a successful response.
    ///
    /// # Errors
    /// When the status is not a success.
    pub async fn put(&self, path: &str, body: Value) -> Result<Value> {
        self.request(Method::PUT, path, Some(body))
            .await?
            .ok()
            .with_context(|| format!("PUT {path}"))
    }

    /// Creates a document of kind `text`; returns its room id.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn create_document(&self, title: &str) -> Result<String> {
        let body = self
            .post("/_weft/client/v1/documents", json!({"title": title, "kind": "text"}))
            .await?;
        body.get("docId")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .context("no docId")
    }

    /// Invites a user with a role.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn give_role(&self, room: &str, user: &str, role: &str) -> Result<()> {
        let path = format!("/_weft/client/v1/documents/{}/members/{}", segment(room), segment(user));
        self.put(&path, json!({"role": role})).await.map(drop)
    }

    /// Joins a room, through the server `via` if given.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn join(&self, room: &str, via: Option<&str>) -> Result<()> {
        let via = via
            .map(|via| format!("?via={}&server_name={}", segment(via), segment(via)))
            .unwrap_or_default();
        self.post(&format!("/_matrix/client/v3/join/{}{via}", segment(room)), json!({}))
            .await
            .map(drop)
    }

    /// Waits for the invitation, then joins.
    ///
    /// # Errors
    /// When the deadline passes, or the join is refused.
    pub async fn accept_invitation(&self, room: &str) -> Result<()> {
        self.until(&format!("an invitation to {room}"), || async {
            let sync = self.get("/_matrix/client/v3/sync?timeout=0").await?;
            Ok(sync
                .pointer("/rooms/invite")
                .and_then(|rooms| rooms.get(room))
                .map(|_| ()))
        })
        .await?;
        self.join(room, None).await
    }

    /// Sends an event; returns the response with any status.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn try_send(&self, room: &str, kind: &str, content: Value) -> Result<Answer> {
        let number = TRANSACTION.fetch_add(1, Ordering::Relaxed);
        let path = format!(
            "/_matrix/client/v3/rooms/{}/send/{}/t{number}",
            segment(room),
            segment(kind)
        );
        self.request(Method::PUT, &path, Some(content)).await
    }

    /// Sends a text message; returns the event id.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn say(&self, room: &str, text: &str) -> Result<String> {
        let body = self
            .try_send(room, "m.room.message", json!({"msgtype": "m.text", "body": text}))
            .await?
            .ok()?;
        body.get("event_id")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .context("no event_id")
    }

    /// The bodies of the text messages in `/messages`, newest first (at most 100 events).
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn messages(&self, room: &str) -> Result<Vec<String>> {
        let body = self
            .get(&format!(
                "/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100",
                segment(room)
            ))
            .await?;
        let chunk = body.get("chunk").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(chunk
            .iter()
            .filter_map(|event| Some(event.pointer("/content/body")?.as_str()?.to_owned()))
            .collect())
    }

    /// Counts each text message of a room, from the newest event back to the first.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn all_messages(&self, room: &str) -> Result<BTreeMap<String, u64>> {
        let (mut found, mut from) = (BTreeMap::new(), String::new());
        loop {
            let page = self
                .get(&Self::in_room(room, &format!("messages?dir=b&limit=500{from}")))
                .await?;
            for event in page.get("chunk").and_then(Value::as_array).context("no chunk")? {
                if let Some(text) = event.pointer("/content/body").and_then(Value::as_str) {
                    *found.entry(text.to_owned()).or_default() += 1;
                }
            }
            match page.get("end").and_then(Value::as_str) {
                Some(end) => from = format!("&from={}", segment(end)),
                None => return Ok(found),
            }
        }
    }

    /// The updates in a document's signed events, oldest first.
    ///
    /// # Errors
    /// When the server returns an error, or an update event contains no update.
    pub async fn sealed_updates(&self, room: &str) -> Result<Vec<Vec<u8>>> {
        let filter = segment(r#"{"types":["dev.weft.update"]}"#);
        let mut updates = Vec::new();
        let mut from = String::new();
        loop {
            let path = format!("messages?dir=f&limit=500&filter={filter}{from}");
            let page = self.get(&Self::in_room(room, &path)).await?;
            for event in page.get("chunk").and_then(Value::as_array).context("no chunk")? {
                let update = event
                    .pointer("/content/update")
                    .and_then(Value::as_str)
                    .context("no update")?;
                updates.push(STANDARD_NO_PAD.decode(update)?);
            }
            match page.get("end").and_then(Value::as_str) {
                Some(end) => from = format!("&from={}", segment(end)),
                None => return Ok(updates),
            }
        }
    }

    /// The merged update of a document.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn content(&self, room: &str) -> Result<Vec<u8>> {
        let url = format!("{}/_weft/client/v1/documents/{}/content", self.url, segment(room));
        let answer = self
            .http
            .get(url)
            .bearer_auth(&self.token)
            .send()
            .await?
            .error_for_status()?;
        Ok(answer.bytes().await?.to_vec())
    }

    /// Syncs until `look` returns something; continues from `since` and updates it.
    ///
    /// # Errors
    /// When 60 seconds pass, or the server returns an error.
    pub async fn sync_until<T>(
        &self,
        what: &str,
        since: &mut Option<String>,
        mut look: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let from = since
                .as_ref()
                .map(|since| format!("&since={since}"))
                .unwrap_or_default();
            let sync = self.get(&format!("/_matrix/client/v3/sync?timeout=5000{from}")).await?;
            *since = sync.get("next_batch").and_then(Value::as_str).map(str::to_owned);
            if let Some(found) = look(&sync) {
                return Ok(found);
            }
        }
        bail!("{what} did not appear in the sync of {}", self.user)
    }

    /// Creates a room; returns its id.
    ///
    /// # Errors
    /// When the server returns an error.
    pub async fn create_room(&self, options: Value) -> Result<String> {
        let body = self.post("/_matrix/client/v3/createRoom", options).await?;
        body.get("room_id")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .context("no room_id")
    }

    /// The path of an endpoint of a room: `what` follows the room id.
    #[must_use]
    pub fn in_room(room: &str, what: &str) -> String {
        format!("/_matrix/client/v3/rooms/{}/{what}", segment(room))
    }

    /// The membership of a user in this user's server's current state; `None` if there is none.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn membership_of(&self, room: &str, user: &str) -> Result<Option<String>> {
        let path = Self::in_room(room, &format!("state/m.room.member/{}", segment(user)));
        let answer = self.request(Method::GET, &path, None).await?;
        let membership = answer.body.get("membership").and_then(Value::as_str);
        Ok(membership.filter(|_| answer.status.is_success()).map(str::to_owned))
    }

    /// Waits until this user's server has this membership.
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn until_membership(&self, room: &str, user: &str, membership: &str) -> Result<()> {
        self.until(&format!("{membership} of {user}"), || async {
            Ok((self.membership_of(room, user).await?.as_deref() == Some(membership)).then_some(()))
        })
        .await
    }

    /// Calls `ask` until it returns something, for state that another server must send first.
    ///
    /// # Errors
    /// When 60 seconds pass, or `ask` fails.
    pub async fn until<T, F: Future<Output = Result<Option<T>>>>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> F,
    ) -> Result<T> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(answer) = ask().await? {
                return Ok(answer);
            }
            if Instant::now() > deadline {
                bail!("{what} did not come");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
