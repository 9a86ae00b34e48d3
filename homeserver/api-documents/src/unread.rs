//! How many events of a document a user has not read, for lists. Must not mark anything as read.

use futures_util::future::try_join_all;
use ruma::{UserId, push::Ruleset};
use weft_fanout::unread::Counting;
use weft_http::{errors::ApiResult, ignored::ignored_users};
use weft_room_read::Reader;
use weft_wire::rest::{Document, UnreadMarks};

use super::DocumentPorts;

/// Documents that are counted at a time.
const COUNTED_AT_ONCE: usize = 16;

/// Adds the numbers of unread events.
///
/// # Errors
/// When the store can't be read.
pub(super) async fn add(
    ports: &DocumentPorts,
    reader: &Reader,
    user: &UserId,
    documents: &mut [Document],
) -> ApiResult<()> {
    let ignored = ignored_users(&ports.accounts, user).await?;
    let rules = Ruleset::server_default(user);
    let counting = Counting {
        user,
        rules: &rules,
        is_ignored: &|sender| ignored.contains(sender),
    };
    let now = reader.visible_positions();
    for some in documents.chunks_mut(COUNTED_AT_ONCE) {
        let counts = some.iter().map(|document| {
            let through = now.in_lane(reader.lane_of(&document.doc_id));
            ports.unread.counts(reader, &document.doc_id, &counting, through)
        });
        let counts = try_join_all(counts.collect::<Vec<_>>()).await?;
        for (document, counts) in some.iter_mut().zip(counts) {
            let total = counts.total();
            document.unread = Some(UnreadMarks {
                notifications: total.notifications,
                highlights: total.highlights,
            });
        }
    }
    Ok(())
}
