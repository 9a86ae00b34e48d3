//! Messages of one document between the reader of its socket and the task that serves it. The queue is bounded in messages, and
//! in bytes over all documents of the socket.
//!
//! Bytes are released when the update in a message is on disk. The sender waits while there is no space, so that the socket is
//! not read and its client slows down. Must not drop messages.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use weft_wire::limits::MAX_INBOX_BYTES_PER_SOCKET;

use super::{document_connection::Incoming, socket::QUEUE};

/// The bytes that the messages of one socket may hold. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct InboxBytes(Arc<Semaphore>);

impl Default for InboxBytes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_INBOX_BYTES_PER_SOCKET)))
    }
}

/// The bytes of one message; released on drop.
#[derive(Debug, Default)]
pub(super) struct Held(#[expect(dead_code, reason = "held until it is dropped")] Option<OwnedSemaphorePermit>);

/// The sending half, for the socket's reader.
#[derive(Debug, Clone)]
pub(super) struct ToDocument {
    queue: mpsc::Sender<(Incoming, Held)>,
    bytes: InboxBytes,
}

/// The receiving half, for the document connection.
pub(super) type Inbox = mpsc::Receiver<(Incoming, Held)>;

/// The queue of a document.
pub(super) fn inbox(bytes: &InboxBytes) -> (ToDocument, Inbox) {
    let (queue, receiver) = mpsc::channel(QUEUE);
    let to_document = ToDocument {
        queue,
        bytes: bytes.clone(),
    };
    (to_document, receiver)
}

impl ToDocument {
    /// Adds a message once there is space. A message larger than the whole space takes all of it. Returns false if the document
    /// connection has ended.
    pub(super) async fn send(&self, message: Incoming) -> bool {
        let bytes = message.size().min(MAX_INBOX_BYTES_PER_SOCKET);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let held = tokio::select! {
            held = Arc::clone(&self.bytes.0).acquire_many_owned(permits) => Held(held.ok()),
            () = self.queue.closed() => return false,
        };
        self.queue.send((message, held)).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(bytes: usize) -> Incoming {
        Incoming::Step1(Bytes::from(vec![0; bytes]))
    }

    #[tokio::test]
    async fn bytes_are_bounded_over_all_documents_until_they_are_released() {
        let bytes = InboxBytes::default();
        let ((first, mut first_inbox), (second, mut second_inbox)) = (inbox(&bytes), inbox(&bytes));
        assert!(
            first.send(message(3 * MAX_INBOX_BYTES_PER_SOCKET)).await,
            "a large message alone"
        );
        let waiting = tokio::spawn(async move { second.send(message(1)).await });
        tokio::task::yield_now().await;
        let (_, held) = first_inbox.recv().await.unwrap();
        tokio::task::yield_now().await;
        assert!(second_inbox.try_recv().is_err(), "taken from the queue and still held");
        drop(held);
        assert!(waiting.await.unwrap());
        assert!(second_inbox.recv().await.is_some());
    }

    #[tokio::test]
    async fn a_waiting_sender_is_notified_when_the_document_ends() {
        let (to_document, inbox) = inbox(&InboxBytes::default());
        assert!(to_document.send(message(MAX_INBOX_BYTES_PER_SOCKET)).await);
        let waiting = tokio::spawn(async move { to_document.send(message(1)).await });
        tokio::task::yield_now().await;
        drop(inbox);
        assert!(!waiting.await.unwrap());
    }
}
