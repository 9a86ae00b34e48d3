//! A socket in plain framing: one document, named by the URL and authenticated before the upgrade.

use tokio_tungstenite::tungstenite::Message;
use weft_wire::{
    limits::MAX_LIVE_FRAME_BYTES,
    live::{
        close::{self, Close},
        plain::Frame,
    },
};

use super::{
    LivePorts,
    document_connection::{DocumentConnection, Incoming},
    encoder::Encoder,
    inbox::{InboxBytes, inbox},
    outgoing::Out,
    refusals,
    socket::{Ended, Messages},
    target::Target,
};

/// Serves the socket; `first` is the message from which the framing was detected.
pub(super) async fn serve(
    ports: LivePorts,
    target: Option<Target>,
    first: Message,
    mut messages: Messages,
    out: Out,
) -> Option<Close> {
    let Some(target) = target else {
        return Some(close::UNAUTHORIZED);
    };
    let (to_document, incoming) = inbox(&InboxBytes::default());
    let document_connection = DocumentConnection::new(ports, Encoder::Plain, target, out.clone()).await;
    let reading = async move {
        let mut message = first;
        loop {
            if let Some(incoming) = opened(&message, &out)?
                && !to_document.send(incoming).await
            {
                return Ok(());
            }
            message = match messages.next().await {
                Ok(message) => message,
                Err(Ended::Gone) => return Ok(()),
                Err(Ended::Close(close)) => return Err(close),
            };
        }
    };
    let serving = document_connection.run(incoming);
    tokio::pin!(serving);
    tokio::select! {
        // The document connection runs until its inbox is closed, so that everything read is committed.
        read = reading => match read {
            Ok(()) => serving.await,
            Err(close) => serving.await.or(Some(close)),
        },
        close = &mut serving => close,
    }
}

fn opened(message: &Message, out: &Out) -> Result<Option<Incoming>, Close> {
    let Message::Binary(bytes) = message else {
        return Ok(None);
    };
    if bytes.len() > MAX_LIVE_FRAME_BYTES {
        out.try_send(Encoder::Plain.notice(&refusals::too_large(bytes.len(), MAX_LIVE_FRAME_BYTES)));
        return Err(close::TOO_LARGE);
    }
    Ok(match Frame::parse(bytes).map_err(|_| close::BAD_FRAME)? {
        Frame::Sync(message) => Some(Incoming::from_sync(message, bytes)),
        Frame::Awareness(body) => Some(Incoming::Awareness(bytes.slice_ref(body))),
        Frame::QueryAwareness => Some(Incoming::QueryAwareness),
        // Only servers send these.
        Frame::PermissionDenied(_) | Frame::Notice(_) => None,
    })
}
