//! The queue of messages to write to one socket, bounded in messages and in bytes.
//!
//! A client that stops reading while its kernel still accepts data must not cost more than that. Must not drop messages:
//! senders check [`Out::has_room`] first, and leave the message in the room's queue if there is no space.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use ruma::UserId;
use tokio::sync::{Notify, mpsc};
use weft_budget::Exhausted;
use weft_http::traffic::Held;
use weft_wire::{
    limits::MAX_QUEUE_BYTES_PER_SOCKET,
    live::close::{self, Close},
};

use super::{meter::Meter, socket::QUEUE};

/// Messages up to this size are not charged: the bounds of the queue suffice for them, and most are shared by all sockets.
const FREE_BYTES: usize = 16 * 1024;

/// A message for the socket's writer.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// One WebSocket message and its charge.
    Message(Bytes, Option<Held>),
    /// The close frame; nothing follows it.
    Close(Close),
}

/// The writer has ended, and the socket is closed.
#[derive(Debug)]
pub(super) struct WriterGone;

#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicUsize,
    written: Notify,
}

/// The sending half. Clones send to the same socket.
#[derive(Debug, Clone)]
pub(super) struct Out {
    queue: mpsc::Sender<Outgoing>,
    waiting: Arc<Waiting>,
    meter: Arc<Meter>,
}

/// The receiving half, for the writer.
#[derive(Debug)]
pub(super) struct ToWrite {
    queue: mpsc::Receiver<Outgoing>,
    waiting: Arc<Waiting>,
    /// Bytes of the message that is being written.
    under_way: usize,
}

/// The queue of a socket.
pub(super) fn queue(meter: Arc<Meter>) -> (Out, ToWrite) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let waiting = Arc::new(Waiting::default());
    let out = Out {
        queue: sender,
        waiting: Arc::clone(&waiting),
        meter,
    };
    let to_write = ToWrite {
        queue: receiver,
        waiting,
        under_way: 0,
    };
    (out, to_write)
}

impl Out {
    /// Whether another message may be added. One message may be larger than all others together.
    pub(super) fn has_room(&self) -> bool {
        self.queue.capacity() > 0 && self.waiting.bytes.load(Ordering::Relaxed) < MAX_QUEUE_BYTES_PER_SOCKET
    }

    /// Waits until there is space.
    pub(super) async fn room(&self) -> Result<(), WriterGone> {
        loop {
            // Created before the check, so that a write in between is not missed.
            let written = self.waiting.written.notified();
            if self.queue.is_closed() {
                return Err(WriterGone);
            }
            if self.has_room() {
                return Ok(());
            }
            tokio::select! {
                () = written => {}
                () = self.queue.closed() => return Err(WriterGone),
            }
        }
    }

    /// Adds a message.
    pub(super) async fn send(&self, message: Bytes) -> Result<(), WriterGone> {
        self.add(self.charged(message)).await
    }

    /// Charges a message from now on; a close frame if the account already holds too much.
    pub(super) fn charged(&self, message: Bytes) -> Outgoing {
        match self.charge(&message) {
            Ok(held) => Outgoing::Message(message, held),
            // Unread messages of this account's sockets use its whole budget.
            Err(_) => Outgoing::Close(close::RATE_LIMITED),
        }
    }

    /// Adds a charged message.
    pub(super) async fn add(&self, outgoing: Outgoing) -> Result<(), WriterGone> {
        let permit = self.queue.reserve().await.map_err(|_| WriterGone)?;
        let goes_on = match &outgoing {
            Outgoing::Message(message, _) => {
                self.waiting.bytes.fetch_add(message.len(), Ordering::Relaxed);
                Ok(())
            }
            Outgoing::Close(_) => Err(WriterGone),
        };
        permit.send(outgoing);
        goes_on
    }

    /// The socket was authenticated by a frame; from now on the account is charged.
    pub(super) fn sign_in(&self, user: &UserId) -> Result<(), Close> {
        self.meter.sign_in(user).map_err(|_| close::RATE_LIMITED)
    }

    fn charge(&self, message: &Bytes) -> Result<Option<Held>, Exhausted> {
        let large = message.len() > FREE_BYTES;
        large.then(|| self.meter.hold(message.len())).transpose()
    }

    /// Adds a message if there is space now; otherwise the message is dropped.
    pub(super) fn try_send(&self, message: Bytes) {
        if let Ok(permit) = self.queue.try_reserve()
            && let Ok(held) = self.charge(&message)
        {
            self.waiting.bytes.fetch_add(message.len(), Ordering::Relaxed);
            permit.send(Outgoing::Message(message, held));
        }
    }

    /// Adds a close frame; false if the queue is full.
    pub(super) fn try_close(&self, close: Close) -> bool {
        self.queue.try_send(Outgoing::Close(close)).is_ok()
    }

    /// Waits until the writer has ended.
    pub(super) async fn closed(&self) {
        self.queue.closed().await;
    }
}

impl ToWrite {
    /// The next message, once the previous one is written; `None` when all senders are dropped.
    pub(super) async fn next(&mut self) -> Option<Outgoing> {
        let written = std::mem::take(&mut self.under_way);
        if written > 0 {
            self.waiting.bytes.fetch_sub(written, Ordering::Relaxed);
        }
        self.waiting.written.notify_waiters();
        let next = self.queue.recv().await;
        if let Some(Outgoing::Message(message, _)) = &next {
            self.under_way = message.len();
        }
        // There is space in the queue.
        self.waiting.written.notify_waiters();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_http::traffic::Requester;

    fn uncounted() -> (Out, ToWrite) {
        queue(Meter::new(Requester::uncounted()))
    }

    #[tokio::test]
    async fn bytes_are_bounded_until_they_are_written_and_one_message_may_be_larger() {
        let (out, mut to_write) = uncounted();
        out.send(Bytes::from(vec![0; MAX_QUEUE_BYTES_PER_SOCKET - 1]))
            .await
            .unwrap();
        assert!(out.has_room());
        out.send(Bytes::from(vec![0; 3 * MAX_QUEUE_BYTES_PER_SOCKET]))
            .await
            .unwrap();
        assert!(!out.has_room());
        for _ in 0..2 {
            to_write.next().await.unwrap();
            assert!(!out.has_room(), "the message being written is still held");
        }
        let waiting = tokio::spawn({
            let out = out.clone();
            async move { out.room().await.is_ok() }
        });
        tokio::task::yield_now().await;
        out.try_send(Bytes::from_static(b"x"));
        to_write.next().await.unwrap();
        assert!(out.has_room() && waiting.await.unwrap());
    }

    #[tokio::test]
    async fn messages_are_bounded_and_the_end_of_the_writer_is_noticed() {
        let (out, to_write) = uncounted();
        for _ in 0..QUEUE {
            assert!(out.has_room());
            out.send(Bytes::from_static(b"x")).await.unwrap();
        }
        assert!(!out.has_room());
        let waiting = tokio::spawn({
            let out = out.clone();
            async move { out.room().await.is_err() }
        });
        drop(to_write);
        assert!(waiting.await.unwrap());
        assert!(out.send(Bytes::new()).await.is_err());
    }
}
