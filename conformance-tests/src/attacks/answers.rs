//! Answers that an account asks for and never reads (T130).

use anyhow::{Context as _, Result};
use futures_util::future::BoxFuture;

use super::{Attack, Course, Figures, Target, hold_connections, live_sockets};
use crate::client::segment;

/// T130: the content of a large document, many times.
#[derive(Debug, Clone, Copy)]
pub struct UnreadContent {
    /// How many.
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

/// T130: live sockets that ask for all of a large document.
#[derive(Debug, Clone, Copy)]
pub struct UnreadSockets {
    /// How many.
    pub sockets: usize,
}

impl Attack for UnreadSockets {
    fn name(&self) -> &'static str {
        "T130 unread live sockets"
    }

    fn run<'a>(&'a self, target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>> {
        Box::pin(async move {
            let account = target.account.as_ref().context("no account")?;
            // Plain framing: step 1 with an empty vector.
            let ask = [live_sockets::header(0x82, 4), vec![0, 0, 1, 0]].concat();
            let parts = vec![live_sockets::opening(&account.document, Some(&account.token)), ask];
            hold_connections(target, course, self.sockets, move |_| parts.clone()).await
        })
    }
}
