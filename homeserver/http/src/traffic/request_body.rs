//! The body of a request: counted while it is read, and aborted if it arrives too slowly.
//!
//! A body that is not read completely is handed over, so that the connection can be used again ([`super::layer`]).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Error, body::Body};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};
use weft_budget::Exhausted;
use weft_wire::limits::{BODY_GRACE_MS, MIN_BODY_BYTES_PER_SECOND};

use super::Requester;

/// Why a body was not read completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The rest took too long.
    #[error("the request body arrived too slowly")]
    TooSlow,
    /// The caller holds too much.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

/// The rest of a body that was not read completely.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) body: Body,
    /// Whether reading has started.
    pub(super) begun: bool,
}

/// Receives the rest of a body that is dropped.
#[derive(Debug, Clone, Default)]
pub(super) struct Leftover(Arc<Mutex<Option<Rest>>>);

impl Leftover {
    pub(super) fn take(&self) -> Option<Rest> {
        self.0.lock().take()
    }

    fn put(&self, rest: Rest) {
        *self.0.lock() = Some(rest);
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct RequestBody {
    /// `None` once it has ended.
    inner: Option<Body>,
    requester: Arc<Requester>,
    leftover: Leftover,
    /// `None` until the first read.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(body: Body, requester: Arc<Requester>, leftover: Leftover) -> Self {
        Self {
            inner: Some(body),
            requester,
            leftover,
            deadline: None,
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        let deadline = this
            .deadline
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + grace())));
        let Poll::Ready(frame) = Pin::new(inner).poll_frame(context) else {
            ready!(deadline.as_mut().poll(context));
            return Poll::Ready(Some(Err(Error::new(BodyError::TooSlow))));
        };
        let Some(frame) = frame else {
            this.inner = None;
            return Poll::Ready(None);
        };
        let frame = frame?;
        if let Some(data) = frame.data_ref() {
            let length = data.len() as u64;
            // The grace is always left after a frame; at most the slowest client's time for its bytes is added.
            let later = deadline.deadline() + Duration::from_millis(length * 1_000 / MIN_BODY_BYTES_PER_SECOND);
            let latest = Instant::now() + grace();
            deadline.as_mut().reset(later.min(latest));
            if let Err(exhausted) = this.requester.grow_by_body(length) {
                return Poll::Ready(Some(Err(Error::new(BodyError::Exhausted(exhausted)))));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let nothing = SizeHint::with_exact(0);
        self.inner.as_ref().map_or(nothing, HttpBody::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(body) = self.inner.take().filter(|body| !body.is_end_stream()) {
            let begun = self.deadline.is_some();
            self.leftover.put(Rest { body, begun });
        }
    }
}

fn grace() -> Duration {
    Duration::from_millis(BODY_GRACE_MS)
}
