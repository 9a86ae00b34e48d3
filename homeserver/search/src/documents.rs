//! Lists the documents of a server, to build the index from them. Must not write.

use ruma::OwnedRoomId;
use weft_room_api::Unavailable;
use weft_room_read::Reader;
use weft_store::tables::rooms::ROOMS;
use weft_wire::event_types;

/// All documents that this server has.
pub(crate) async fn all_documents(reader: &Reader) -> Result<Vec<OwnedRoomId>, Unavailable> {
    let mut rooms = reader.store().stream(ROOMS.under(&()))?;
    let mut documents = Vec::new();
    while let Some(page) = rooms.page().await? {
        let documents_of_page = page
            .into_iter()
            .filter(|(_, row)| row.kind.as_deref() == Some(event_types::DOCUMENT_ROOM));
        documents.extend(documents_of_page.map(|((room,), _)| room));
    }
    Ok(documents)
}
