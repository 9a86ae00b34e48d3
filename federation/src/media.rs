//! `GET /_matrix/federation/v1/media/download/{mediaId}` (Matrix specification, "Content repository"): a file of another server,
//! passed on while it is received. The answer is `multipart/mixed`: a JSON object, then the file or the URL that has it.
//!
//! Must not hold a file in memory, nor connect to an address that the deny-list excludes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use http::{HeaderMap, StatusCode, header};
use mime::Mime;
use multer::Multipart;
use reqwest::Url;
use ruma::{ServerName, http_headers::ContentDisposition};
use weft_wire::limits;

use crate::{
    CallError, Client, Initiator,
    client::{Bounds, shorten},
    outgoing::OutgoingShare,
};

/// Characters of a boundary (RFC 2046).
const MAX_BOUNDARY: usize = 70;

/// A file that is being received.
pub struct RemoteContent {
    /// The media type that its server states.
    pub content_type: Option<String>,
    /// The file name that it states.
    pub name: Option<String>,
    /// The bytes. The caller limits their number and the time.
    pub body: BoxStream<'static, io::Result<Bytes>>,
}

impl Client {
    /// Requests a file on behalf of `initiator`, whose request is counted until the body is dropped. `id` consists of letters,
    /// digits, `_` and `-`.
    ///
    /// # Errors
    /// When the call fails, or the answer has another form.
    pub async fn media(
        &self,
        initiator: &Initiator,
        server: &ServerName,
        id: &str,
    ) -> Result<RemoteContent, CallError> {
        let outgoing = self.outgoing();
        let share = outgoing.take(initiator)?;
        let path = format!("/_matrix/federation/v1/media/download/{id}");
        let response = self.open_signed(server, &path, Bounds::MEDIA).await?;
        let unusable = |reason: &str| CallError::BadAnswer {
            server: server.to_owned(),
            reason: shorten(reason),
        };
        let kind = text(response.headers(), &header::CONTENT_TYPE).unwrap_or_default();
        let boundary = boundary(&kind).ok_or_else(|| unusable("not multipart/mixed"))?;
        let head = Arc::new(AtomicU64::new(limits::MAX_MULTIPART_HEAD_BYTES));
        let bytes = response.bytes_stream().map(|part| part.map_err(io::Error::other));
        let mut parts = Multipart::new(Paced::new(bytes, Arc::clone(&head)), boundary);
        // The first part is a JSON object that has no fields yet.
        let first = parts.next_field().await.map_err(|error| unusable(&error.to_string()))?;
        let first = first.ok_or_else(|| unusable("no parts"))?;
        first.bytes().await.map_err(|error| unusable(&error.to_string()))?;
        let second = parts.next_field().await.map_err(|error| unusable(&error.to_string()))?;
        let file = second.ok_or_else(|| unusable("no file"))?;
        if let Some(location) = text(file.headers(), &header::LOCATION) {
            let response = self.at_location(&location).await.map_err(|reason| unusable(&reason))?;
            let headers = response.headers().clone();
            let body = response.bytes_stream().map(|part| part.map_err(io::Error::other));
            return Ok(content(&headers, body.boxed(), share));
        }
        head.store(u64::MAX, Ordering::Relaxed);
        let headers = file.headers().clone();
        let body = file.map(|part| part.map_err(io::Error::other));
        Ok(content(&headers, body.boxed(), share))
    }

    /// Requests the file at the URL that another server named: over HTTPS, from public addresses only, without a signature.
    /// A further redirect is not followed.
    async fn at_location(&self, location: &str) -> Result<reqwest::Response, String> {
        let url = Url::parse(location).map_err(|error| error.to_string())?;
        if url.scheme() != "https" {
            return Err("the location of the file is not an HTTPS URL".to_owned());
        }
        let response = self.resolver().get_public(&url).await?;
        match response.status() {
            StatusCode::OK => Ok(response),
            status => Err(format!("the location of the file answered {status}")),
        }
    }
}

fn content(headers: &HeaderMap, body: BoxStream<'static, io::Result<Bytes>>, share: OutgoingShare) -> RemoteContent {
    let disposition = headers.get(header::CONTENT_DISPOSITION);
    let disposition = disposition.and_then(|value| ContentDisposition::try_from(value.as_bytes()).ok());
    RemoteContent {
        content_type: text(headers, &header::CONTENT_TYPE),
        name: disposition.and_then(|disposition| disposition.filename),
        body: body
            .map(move |part| {
                let _share = &share;
                part
            })
            .boxed(),
    }
}

fn text(headers: &HeaderMap, name: &http::HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn boundary(content_type: &str) -> Option<String> {
    let kind: Mime = content_type.parse().ok()?;
    let boundary = kind.get_param(mime::BOUNDARY)?.as_str();
    let is_mixed = kind.type_() == mime::MULTIPART && kind.subtype() == "mixed";
    (is_mixed && (1..=MAX_BOUNDARY).contains(&boundary.len())).then(|| boundary.to_owned())
}

/// Passes on one piece of the answer at a time: the parser would otherwise take whatever has arrived. Until the file begins,
/// at most `left` bytes pass.
struct Paced<S> {
    inner: S,
    left: Arc<AtomicU64>,
    is_due: bool,
}

impl<S> Paced<S> {
    fn new(inner: S, left: Arc<AtomicU64>) -> Self {
        Self {
            inner,
            left,
            is_due: true,
        }
    }
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Stream for Paced<S> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.is_due {
            self.is_due = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Some(Err(io::Error::other("the file does not begin in time"))));
        }
        let next = Pin::new(&mut self.inner).poll_next(context);
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            self.is_due = false;
            if left != u64::MAX {
                self.left
                    .store(left.saturating_sub(bytes.len() as u64), Ordering::Relaxed);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[test]
    fn the_boundary_is_that_of_a_mixed_multipart() {
        assert_eq!(boundary("multipart/mixed; boundary=abc").as_deref(), Some("abc"));
        assert_eq!(boundary("Multipart/Mixed; boundary=\"a b\"").as_deref(), Some("a b"));
        let long = format!("multipart/mixed; boundary={}", "x".repeat(71));
        for wrong in [
            "",
            "multipart/mixed",
            "multipart/form-data; boundary=a",
            "text/plain",
            &long,
        ] {
            assert_eq!(boundary(wrong), None, "{wrong}");
        }
    }

    async fn parse(parts: Vec<Bytes>, left: u64) -> (Arc<AtomicU64>, Result<Vec<u8>, String>) {
        let left = Arc::new(AtomicU64::new(left));
        let bytes = stream::iter(parts.into_iter().map(Ok));
        let mut multipart = Multipart::new(Paced::new(bytes, Arc::clone(&left)), "b");
        let read = async {
            let first = multipart.next_field().await?.ok_or(multer::Error::IncompleteStream)?;
            first.bytes().await?;
            let file = multipart.next_field().await?.ok_or(multer::Error::IncompleteStream)?;
            left.store(u64::MAX, Ordering::Relaxed);
            file.bytes().await
        };
        let read = read
            .await
            .map(|bytes| bytes.to_vec())
            .map_err(|error| error.to_string());
        (left, read)
    }

    #[tokio::test]
    async fn the_file_is_the_second_part_however_it_arrives() {
        let body = b"\r\n--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\nContent-Type: text/plain\r\n\r\n\r\n--a\r\n--b--\r\n";
        for size in [1, 2, 7, 50, 1_000] {
            let parts = body.chunks(size).map(Bytes::copy_from_slice).collect();
            assert_eq!(parse(parts, 1_000).await.1.unwrap(), b"\r\n--a", "{size}");
        }
        // Cut off: no end of the file.
        let cut = Bytes::copy_from_slice(body.get(..body.len() - 6).unwrap());
        assert!(parse(vec![cut], 1_000).await.1.is_err());
    }

    /// An answer that never comes to the file is not kept in memory.
    #[tokio::test]
    async fn what_is_before_the_file_is_limited() {
        for begin in ["", "--b\r\n", "--b\r\nA: b\r\n\r\n"] {
            let mut parts = vec![Bytes::from_static(begin.as_bytes())];
            parts.extend(vec![Bytes::from(vec![b'x'; 1_000]); 1_000]);
            let (_, read) = parse(parts, 64 * 1_024).await;
            assert!(read.is_err(), "{begin}");
        }
    }
}
