//! What a person's program asks of a homeserver in the demo: plain HTTP with JSON, as anybody could send it.

use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{DemoError, Person};

/// How long one answer may take. Joining means that the two servers talk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How often, and how many times, the other side looks for the invitation.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const LOOKS: usize = 100;

/// Bytes that need no escape in a part of a path.
const UNRESERVED: &[u8] = b"-._~";

/// Somebody who has signed in.
pub(super) struct Walk {
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

/// Does a server answer here?
pub(super) async fn answers(page: &str) -> bool {
    let Ok(client) = client() else { return false };
    let answer = client.get(format!("{page}/_matrix/client/versions")).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

impl Walk {
    /// Makes an account with a display name.
    pub(super) async fn register(page: &str, person: &Person, password: &str) -> Result<Self, DemoError> {
        const STEP: &str = "making an account";
        let client = client().map_err(|error| DemoError::Step {
            step: STEP,
            reason: error.to_string(),
        })?;
        let mut walk = Self {
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
        let registered: Registered = walk
            .ask(STEP, Method::POST, "/_matrix/client/v3/register", &body)
            .await?;
        walk.user_id = registered.user_id;
        walk.token = registered.access_token;
        let path = format!("/_matrix/client/v3/profile/{}/displayname", escaped(&walk.user_id));
        let _: Value = walk
            .ask(
                "setting a display name",
                Method::PUT,
                &path,
                &json!({ "displayname": person.display_name }),
            )
            .await?;
        Ok(walk)
    }

    /// The full user id.
    pub(super) fn user_id(&self) -> &str {
        &self.user_id
    }

    /// Makes a document of plain text and gives its id.
    pub(super) async fn create_document(&self, title: &str) -> Result<String, DemoError> {
        let body = json!({ "title": title, "kind": "text" });
        let created: Created = self
            .ask("making a document", Method::POST, "/_weft/client/v1/documents", &body)
            .await?;
        Ok(created.doc_id)
    }

    /// Lets somebody edit, who may be on another server.
    pub(super) async fn invite_editor(&self, document: &str, user_id: &str) -> Result<(), DemoError> {
        let path = format!(
            "/_weft/client/v1/documents/{}/members/{}",
            escaped(document),
            escaped(user_id)
        );
        let _: Value = self
            .ask("inviting", Method::PUT, &path, &json!({ "role": "editor" }))
            .await?;
        Ok(())
    }

    /// Accepts an invitation, as soon as it is there, and waits until the document can be read.
    pub(super) async fn accept(&self, document: &str) -> Result<(), DemoError> {
        const STEP: &str = "accepting the invitation";
        let join = format!("/_matrix/client/v3/join/{}", escaped(document));
        let mut outcome: Result<Value, DemoError> = self.ask(STEP, Method::POST, &join, &json!({})).await;
        for _ in 0..LOOKS {
            if outcome.is_ok() {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            outcome = self.ask(STEP, Method::POST, &join, &json!({})).await;
        }
        outcome?;
        let path = format!("/_weft/client/v1/documents/{}", escaped(document));
        let _: Value = self
            .ask("reading the document", Method::GET, &path, &Value::Null)
            .await?;
        Ok(())
    }

    /// Opens the page signed in, at this document. What follows `#` never leaves the browser.
    pub(super) fn link(&self, document: &str) -> String {
        format!(
            "{}/#token={}&doc={}",
            self.page,
            escaped(&self.token),
            escaped(document)
        )
    }

    async fn ask<T: DeserializeOwned>(
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

/// Status and Matrix error of a refusal.
async fn refusal(answer: Response) -> String {
    let status: StatusCode = answer.status();
    let body: Value = answer.json().await.unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    format!("the server answers {status} {} {}", text("errcode"), text("error"))
}

fn client() -> Result<Client, reqwest::Error> {
    // Loopback is never reached through a proxy.
    Client::builder().timeout(ANSWER_TIMEOUT).no_proxy().build()
}

/// A part of a path or a fragment, with everything escaped that could mean something else there.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || UNRESERVED.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
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
