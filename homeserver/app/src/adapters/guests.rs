//! Ends guests: with their share link, as a durable job, and when a document lets no guests in any more. Must not decide which.

use std::time::Duration;

use async_trait::async_trait;
use ruma::RoomId;
use weft_gateway::documents::{Guests, GuestsStay};
use weft_jobs::{Job, JobHandler, KindLimits, Outcome};
use weft_room::END_GUESTS;
use weft_room_api::{Changes, Delivery};

/// The job of a link that has guests.
pub(crate) struct EndGuests(pub(crate) Guests);

#[async_trait]
impl JobHandler for EndGuests {
    fn kind(&self) -> &'static str {
        END_GUESTS
    }

    fn limits(&self) -> KindLimits {
        KindLimits {
            at_once: 4,
            first_pause: Duration::from_secs(5),
            longest_pause: Duration::from_secs(10 * 60),
            // A hundred guests leave a room whose worker may be loading it.
            deadline: Duration::from_secs(10 * 60),
        }
    }

    async fn run(&self, job: &Job) -> Outcome {
        let named = job.key.split_once(' ');
        let Some((Ok(room), link)) = named.map(|(room, link)| (RoomId::parse(room), link)) else {
            // A row that this program did not write.
            return Outcome::Done;
        };
        match self.0.end_with_link(&room, link).await {
            Ok(GuestsStay::Over) => Outcome::Done,
            Ok(GuestsStay::For(left)) => Outcome::Again {
                after: Duration::from_millis(left),
            },
            Err(error) => Outcome::Failed {
                reason: error.to_string(),
            },
        }
    }
}

/// Ends the guests of documents whose `m.room.guest_access` changes, until the bus is closed.
pub(crate) async fn follow_guest_access(mut changes: Changes, guests: Guests) {
    while let Some(delivery) = changes.next().await {
        let ended = match delivery {
            Delivery::Change(change) => {
                let is_access = |pdu: &weft_dag::Pdu| pdu.kind() == "m.room.guest_access";
                if !change.events.iter().any(|event| is_access(&event.pdu)) {
                    continue;
                }
                guests.end_if_refused(&change.room_id).await
            }
            Delivery::Missed(_) => guests.end_all_refused().await,
        };
        if let Err(error) = ended {
            tracing::error!(event = "guests.not_ended", %error, "guests of a document that refuses them can't be ended");
        }
    }
}
