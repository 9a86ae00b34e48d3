//! A demo user's requests to their homeserver: plain HTTP with JSON. Must not use anything but the public APIs.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{DemoError, Person};

/// Timeout of one request. A join needs requests between the two servers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval and number of attempts of the invited user to join.
const JOIN_INTERVAL: Duration = Duration::from_millis(200);
const JOIN_ATTEMPTS: usize = 100;

/// The characters that are percent-encoded: all but unreserved ones (RFC 3986).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A user with a session.
pub(crate) struct DemoUser {
    client: Client,
    page: String,
    user_id: String,
    token: String,
}

#[derive(Deserialize)]
struct Registered {
    user_id: String,
    access_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    doc_id: String,
}

/// Whether a server responds at this URL.
pub(crate) async fn responds(page: &str) -> bool {
    let Ok(client) = client() else { return false };
    let answer = client.get(format!("{page}/_matrix/client/versions")).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// Whether a server has the web page; without it, the server responds with 404.
pub(crate) async fn has_page(page: &str) -> bool {
    let Ok(client) = client() else { return false };
    let answer = client.get(format!("{page}/")).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

impl DemoUser {
    /// Registers an account with a display name.
    pub(crate) async fn register(page: &str, person: &Person, password: &str) -> Result<Self, DemoError> {
        const STEP: &str = "registering an account";
        let client = client().map_err(|error| DemoError::Step {
            step: STEP,
            reason: error.to_string(),
        })?;
        let mut user = Self {
            client,
            page: page.to_owned(),
            user_id: String::new(),
            token: String::new(),
        };
        let body = json!({
            "username": person.name,
            "password": password,
            "initial_device_display_name": "Demo link",
            "auth": { "type": "m.login.dummy" },
        });
        let registered: Registered = user
            .request(STEP, Method::POST, "/_matrix/client/v3/register", &body)
            .await?;
        user.user_id = registered.user_id;
        user.token = registered.access_token;
        let path = format!("/_matrix/client/v3/profile/{}/displayname", escaped(&user.user_id));
        let _: Value = user
            .request(
                "setting a display name",
                Method::PUT,
                &path,
                &json!({ "displayname": person.display_name }),
            )
            .await?;
        Ok(user)
    }

    /// The full user ID.
    pub(crate) fn user_id(&self) -> &str {
        &self.user_id
    }

    /// Creates a plain text document; returns its ID.
    pub(crate) async fn create_document(&self, title: &str) -> Result<String, DemoError> {
        let body = json!({ "title": title, "kind": "text" });
        let created: Created = self
            .request("creating a document", Method::POST, "/_weft/client/v1/documents", &body)
            .await?;
        Ok(created.doc_id)
    }

    /// Invites an editor, who may be a user of another server.
    pub(crate) async fn invite_editor(&self, document: &str, user_id: &str) -> Result<(), DemoError> {
        let path = format!(
            "/_weft/client/v1/documents/{}/members/{}",
            escaped(document),
            escaped(user_id)
        );
        let _: Value = self
            .request("inviting", Method::PUT, &path, &json!({ "role": "editor" }))
            .await?;
        Ok(())
    }

    /// Accepts an invitation as soon as it has arrived, and waits until the document can be read.
    pub(crate) async fn accept(&self, document: &str) -> Result<(), DemoError> {
        const STEP: &str = "accepting the invitation";
        let join = format!("/_matrix/client/v3/join/{}", escaped(document));
        let mut outcome: Result<Value, DemoError> = self.request(STEP, Method::POST, &join, &json!({})).await;
        for _ in 0..JOIN_ATTEMPTS {
            if outcome.is_ok() {
                break;
            }
            tokio::time::sleep(JOIN_INTERVAL).await;
            outcome = self.request(STEP, Method::POST, &join, &json!({})).await;
        }
        outcome?;
        let path = format!("/_weft/client/v1/documents/{}", escaped(document));
        let _: Value = self
            .request("reading the document", Method::GET, &path, &Value::Null)
            .await?;
        Ok(())
    }

    /// A link that opens the document on the web page, logged in. The part after `#` never leaves the browser.
    pub(crate) fn link(&self, document: &str) -> String {
        format!(
            "{}/#token={}&doc={}",
            self.page,
            escaped(&self.token),
            escaped(document)
        )
    }

    async fn request<T: DeserializeOwned>(
        &self,
        step: &'static str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<T, DemoError> {
        let mut request = self.client.request(method, format!("{}{path}", self.page));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if !body.is_null() {
            request = request.json(body);
        }
        let failed = |error: reqwest::Error| DemoError::Step {
            step,
            reason: error.without_url().to_string(),
        };
        let answer = request.send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(DemoError::Step {
                step,
                reason: refusal(answer).await,
            });
        }
        answer.json().await.map_err(failed)
    }
}

/// Status and Matrix error of an error response.
async fn refusal(answer: Response) -> String {
    let status: StatusCode = answer.status();
    let body: Value = answer.json().await.unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    format!(
        "the server responded with {status} {} {}",
        text("errcode"),
        text("error")
    )
}

fn client() -> Result<Client, reqwest::Error> {
    // Requests to loopback must not go through a proxy.
    Client::builder().timeout(ANSWER_TIMEOUT).no_proxy().build()
}

/// Percent-encodes a path segment or a part of a fragment.
fn escaped(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_escaped_for_paths_and_fragments() {
        assert_eq!(escaped("!a-b_c:127.0.0.1:8448"), "%21a-b_c%3A127.0.0.1%3A8448");
        assert_eq!(escaped("@bob:x/é&=#"), "%40bob%3Ax%2F%C3%A9%26%3D%23");
    }
}
