//! The body of an answer: its bytes are charged to whoever asked until the connection has taken them.

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

/// What is given to the connection at one time. HTTP/2 keeps what it was given until the client has room for it.
const PART_BYTES: usize = 64 * 1024;

/// In the extensions of an answer whose bytes are part of the program: they cost nothing.
#[derive(Debug, Clone, Copy)]
pub struct Uncharged;

/// Charges an answer to its requester.
///
/// # Errors
/// When the requester holds too much already: the answer must not be kept.
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

/// What an answer holds until the last of its bytes has been written or thrown away.
#[derive(Debug)]
struct Hold {
    _activity: Activity,
    requester: Arc<Requester>,
}

/// Bytes that go on holding.
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
    /// Of the frame that was read last.
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
