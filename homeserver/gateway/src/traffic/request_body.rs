//! The body of a request: counted while it is read, and given up where it comes too slowly.
//!
//! A body that nobody reads to its end is handed over, so that the connection can be used again ([`super::layer`]).

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Error, body::Body};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use weft_budget::Exhausted;
use weft_wire::limits::{BODY_GRACE_MS, MIN_BODY_BYTES_PER_SECOND};

use super::Requester;

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The rest took too long.
    #[error("the body came too slowly")]
    TooSlow,
    /// The caller holds too much.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

/// What is left of a body that was not read to its end.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) body: Body,
    /// Whether any of it was asked for.
    pub(super) begun: bool,
}

/// Where a body that is dropped leaves its rest.
#[derive(Debug, Clone, Default)]
pub(super) struct Leftover(Arc<Mutex<Option<Rest>>>);

impl Leftover {
    pub(super) fn take(&self) -> Option<Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, rest: Rest) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(rest);
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct RequestBody {
    /// None once it has ended.
    inner: Option<Body>,
    requester: Arc<Requester>,
    leftover: Leftover,
    /// None until somebody asks for the first byte.
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
            // At least the grace is left after what has come, at most the time that the slowest client may take for it.
            let later = deadline.deadline() + Duration::from_millis(length * 1_000 / MIN_BODY_BYTES_PER_SECOND);
            let latest = Instant::now() + grace();
            deadline.as_mut().reset(later.min(latest));
            if let Err(exhausted) = this.requester.grow(length) {
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
