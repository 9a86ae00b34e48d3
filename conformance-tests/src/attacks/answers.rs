//! Responses that an account requests and never reads (T130).

use anyhow::{Context as _, Result};
use futures_util::future::BoxFuture;

use yrs::{Doc, ReadTxn as _, StateVector, Text as _, Transact as _};

use super::{Account, Attack, Course, Figures, Target, hold_connections, live_sockets};
use crate::{
    client::segment,
    live::{LiveEditor, trust},
    world::World,
};

/// Creates an account on the first server of a world, with a document of a few megabytes.
///
/// # Errors
/// When the server refuses something.
pub async fn account_with_large_document(world: &World, name: &str) -> Result<Account> {
    let account = world.user(0, name).await?;
    let document = account.create_document("Large").await?;
    let editor = LiveEditor::open(&trust(&world.authority)?, &account, &document, 77)?;
    editor.synced().await?;
    let doc = Doc::with_client_id(78);
    let text = doc.get_or_insert_text("body");
    text.insert(&mut doc.transact_mut(), 0, &"large ".repeat(600_000));
    editor.send(
        "the whole text",
        &doc.transact().encode_diff_v1(&StateVector::default()),
    )?;
    editor.saved().await?;
    Ok(Account {
        password: account.password(),
        user: account.user,
        token: account.token,
        document,
    })
}

/// T130: many requests for the content of a large document.
#[derive(Debug, Clone, Copy)]
pub struct UnreadContent {
    /// The number of requests.
    pub requests: usize,
}

impl Attack for UnreadContent {
    fn name(&self) -> &'static str {
        "T130 unread content"
    }

    fn run<'a>(&'a self, target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>> {
        Box::pin(async move {
            let account = target.account.as_ref().context("no account")?;
            let request = format!(
                "GET /_weft/client/v1/documents/{}/content HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
                segment(&account.document),
                account.token
            );
            hold_connections(target, course, self.requests, move |_| {
                vec![request.clone().into_bytes()]
            })
            .await
        })
    }
}

/// T130: live sockets that request the whole text of a large document.
#[derive(Debug, Clone, Copy)]
pub struct UnreadSockets {
    /// The number of sockets.
    pub sockets: usize,
}

impl Attack for UnreadSockets {
    fn name(&self) -> &'static str {
        "T130 unread live sockets"
    }

    fn run<'a>(&'a self, target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>> {
        Box::pin(async move {
            let account = target.account.as_ref().context("no account")?;
            // Plain framing: sync step 1 with an empty state vector.
            let step_1 = [live_sockets::header(0x82, 4), vec![0, 0, 1, 0]].concat();
            let parts = vec![live_sockets::opening(&account.document, Some(&account.token)), step_1];
            hold_connections(target, course, self.sockets, move |_| parts.clone()).await
        })
    }
}
