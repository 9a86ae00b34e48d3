//! The body of an answer: its bytes are charged to the requester until they are passed to the connection.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{Error, body::Body, response::Response};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use weft_budget::Exhausted;

use super::{Requester, connection::Activity};

/// Maximum bytes passed to the connection at one time. HTTP/2 buffers them until the client has window for them.
const PART_BYTES: usize = 64 * 1024;

/// Extension of an answer whose bytes are part of the program: they are not charged.
#[derive(Debug, Clone, Copy)]
pub struct Uncharged;

/// Charges an answer to its requester.
///
/// # Errors
/// If the requester already holds too much: the answer must be dropped.
pub(super) fn charge(answer: Response, requester: Arc<Requester>) -> Result<Response, Exhausted> {
    let bytes = answer.body().size_hint().exact().unwrap_or_default();
    if bytes > 0 && answer.extensions().get::<Uncharged>().is_none() {
        requester.grow(bytes)?;
    }
    let hold = Arc::new(Hold {
        _activity: requester.connection().begin_answer(),
        requester,
    });
    Ok(answer.map(|inner| {
        Body::new(AnswerBody {
            inner,
            rest: Bytes::new(),
            hold,
        })
    }))
}

/// The charge of an answer, held until its last byte is written or dropped.
#[derive(Debug)]
struct Hold {
    _activity: Activity,
    requester: Arc<Requester>,
}

/// Bytes with their charge.
#[derive(Debug)]
struct Charged {
    bytes: Bytes,
    _hold: Arc<Hold>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[derive(Debug)]
struct AnswerBody {
    inner: Body,
    /// The rest of the last frame.
    rest: Bytes,
    hold: Arc<Hold>,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut this.inner).poll_frame(context)?) else {
                return Poll::Ready(None);
            };
            match frame.into_data() {
                Ok(bytes) => {
                    let hold = Arc::clone(&this.hold);
                    this.rest = Bytes::from_owner(Charged { bytes, _hold: hold });
                }
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        this.hold.requester.connection().progressed();
        let part = this.rest.split_to(this.rest.len().min(PART_BYTES));
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.size_hint();
        let rest = self.rest.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper().and_then(|upper| upper.checked_add(rest)) {
            hint.set_upper(upper);
        }
        hint
    }
}
