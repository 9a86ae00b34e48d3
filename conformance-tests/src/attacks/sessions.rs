//! Attacks on ended sessions, on sign-in links and on the server's files: T129, T134, T135. A correct server refuses
//! every attempt. Must not decide whether the server passes.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::{BoxFuture, join_all};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use super::{Account, Attack, Course, Figures, Target};
use crate::client::segment;

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// Responses to sync requests of a session until the session must have ended.
const SYNCS: usize = 400;
/// Attempts at a request that the server may refuse temporarily, because of earlier attacks from the same address.
const ATTEMPTS: usize = 400;
/// Invalid tokens in one burst.
const AT_ONCE: usize = 8;

/// T129: a session logs out while its sync request waits, and continues to sync.
#[derive(Debug, Clone, Copy)]
pub struct EndedSessions;

/// T134: the server's part of sign-in links: access tokens that were never issued. The confirmation on the page is
/// tested with the page.
#[derive(Debug, Clone, Copy)]
pub struct MadeUpLinks;

/// T135: another user of the machine reads the server's files.
#[derive(Debug, Clone)]
pub struct OtherUser {
    /// The server's data directory.
    pub data: PathBuf,
}

impl Attack for EndedSessions {
    fn name(&self) -> &'static str {
        "T129 ended sessions that continue to read"
    }

    fn is_always_refused(&self) -> bool {
        true
    }

    fn run<'a>(&'a self, target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>> {
        Box::pin(async move {
            let account = target.account.as_ref().context("no account")?;
            let http = client(target)?;
            let mut figures = Figures::default();
            for attempt in 0_usize.. {
                // At least one session, even if earlier attacks still block the first attempts.
                if course.is_over() && (figures.tried > 0 || attempt > ATTEMPTS) {
                    break;
                }
                if let Ok(session) = Session::start(&http, target, account).await {
                    figures.tried += 1;
                    let text = format!("after the end of session {}", figures.tried);
                    figures.closed += usize::from(session.ends_on_logout(account, &text).await?);
                }
                course.holds();
                tokio::time::sleep(PAUSE).await;
            }
            ensure!(figures.tried > 0, "no session could be started");
            Ok(figures)
        })
    }
}

/// A session of an account, and its sync position.
struct Session<'a> {
    http: &'a Client,
    base: String,
    token: String,
    since: String,
}

impl<'a> Session<'a> {
    async fn start(http: &'a Client, target: &Target, account: &Account) -> Result<Self> {
        let base = format!("http://{}/_matrix/client/v3", target.address);
        let user = json!({ "type": "m.id.user", "user": account.user });
        let body = json!({ "type": "m.login.password", "identifier": user, "password": account.password });
        let answer = http.post(format!("{base}/login")).json(&body).send().await?;
        let token = text_of(&answer.error_for_status()?.json().await?, "access_token")?;
        let sync = http
            .get(format!("{base}/sync?timeout=0"))
            .bearer_auth(&token)
            .send()
            .await?;
        let since = text_of(&sync.error_for_status()?.json().await?, "next_batch")?;
        Ok(Self {
            http,
            base,
            token,
            since,
        })
    }

    /// Logs out while a sync waits, then sends a message to the account's room. Returns true if the sync ends without
    /// that message.
    async fn ends_on_logout(self, account: &Account, text: &str) -> Result<bool> {
        let logged_out = async {
            let url = format!("{}/logout", self.base);
            self.retry(|| self.http.post(&url).bearer_auth(&self.token).json(&json!({})))
                .await?;
            let room = segment(&account.document);
            let path = format!(
                "{}/rooms/{room}/send/m.room.message/{:x}",
                self.base,
                rand::random::<u64>()
            );
            let message = json!({ "msgtype": "m.text", "body": text });
            self.retry(|| self.http.put(&path).bearer_auth(&account.token).json(&message))
                .await
        };
        let (ended, logged_out) = tokio::join!(self.sync_ends_without(text), logged_out);
        logged_out?;
        ended
    }

    /// Repeats a request until it succeeds.
    async fn retry(&self, request: impl Fn() -> RequestBuilder) -> Result<()> {
        for _ in 0..ATTEMPTS {
            if let Ok(answer) = request().send().await
                && answer.status().is_success()
            {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        bail!("the server refuses a permitted request of the account")
    }

    /// Repeats the sync until the token is refused. Returns false if a response has the text.
    async fn sync_ends_without(&self, text: &str) -> Result<bool> {
        let mut since = self.since.clone();
        for _ in 0..SYNCS {
            let url = format!("{}/sync?timeout=20000&since={}", self.base, segment(&since));
            let answer = self.http.get(url).bearer_auth(&self.token).send().await;
            let answer = match answer {
                Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => return Ok(true),
                Ok(answer) if answer.status().is_success() => answer,
                _ => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let answer: Value = answer.json().await?;
            if answer.to_string().contains(text) {
                return Ok(false);
            }
            since = text_of(&answer, "next_batch")?;
        }
        Ok(false)
    }
}

impl Attack for MadeUpLinks {
    fn name(&self) -> &'static str {
        "T134 sign-in links with invalid tokens"
    }

    fn is_always_refused(&self) -> bool {
        true
    }

    fn run<'a>(&'a self, target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>> {
        Box::pin(async move {
            let http = client(target)?;
            let url = format!("http://{}/_matrix/client/v3/account/whoami", target.address);
            let mut figures = Figures::default();
            while !course.is_over() {
                let attempts = (0..AT_ONCE).map(|_| {
                    let token = format!("weft_{:032x}", rand::random::<u128>());
                    http.get(&url).bearer_auth(token).send()
                });
                for answer in join_all(attempts).await {
                    figures.tried += 1;
                    figures.closed += usize::from(answer.as_ref().map_or(true, is_refused));
                }
                course.holds();
                tokio::time::sleep(PAUSE).await;
            }
            Ok(figures)
        })
    }
}

impl Attack for OtherUser {
    fn name(&self) -> &'static str {
        "T135 another user of the machine"
    }

    fn is_always_refused(&self) -> bool {
        true
    }

    fn run<'a>(&'a self, _target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>> {
        Box::pin(async move {
            let mut figures = Figures::default();
            while !course.is_over() {
                let mut folders = vec![self.data.clone()];
                while let Some(path) = folders.pop() {
                    // The server creates and deletes files meanwhile.
                    let Ok(metadata) = fs::symlink_metadata(&path) else {
                        continue;
                    };
                    figures.tried += 1;
                    figures.closed += usize::from(metadata.permissions().mode() & 0o077 == 0);
                    if metadata.is_dir() {
                        folders.extend(fs::read_dir(&path)?.flatten().map(|entry| entry.path()));
                    }
                }
                course.holds();
                tokio::time::sleep(PAUSE).await;
            }
            Ok(figures)
        })
    }
}

fn client(target: &Target) -> Result<Client> {
    let builder = Client::builder().local_address(target.from);
    Ok(builder.timeout(Duration::from_secs(60)).build()?)
}

fn is_refused(answer: &Response) -> bool {
    matches!(
        answer.status(),
        StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS
    )
}

fn text_of(answer: &Value, field: &str) -> Result<String> {
    let text = answer.get(field).and_then(Value::as_str).map(str::to_owned);
    text.with_context(|| format!("no {field}"))
}
