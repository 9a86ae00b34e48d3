//! A user's documents, from the indexes: without reading any state. Must not decide who may see them; a row exists only
//! while the user is joined.

use futures_util::try_join;
use ruma::{OwnedRoomId, RoomId, UserId};
use weft_room_api::Unavailable;
use weft_store::tables::documents::{
    DOC_SEQ, DOCUMENT_CHANGES, DOCUMENTS, DOCUMENTS_OF, DocumentChange, DocumentRow, EDIT_REQUESTS, EditRequestRow,
};
use weft_wire::{Role, document::DocumentKind, rest::Document};

use crate::{Reader, damaged};

impl Reader {
    /// The documents that a user of this server has joined, in no particular order.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn documents_of(&self, user: &UserId) -> Result<Vec<Document>, Unavailable> {
        let rows = self.store.scan_all(DOCUMENTS_OF.under(&(user,))).await?;
        let rows = rows.into_iter().map(|((_, room), role)| (room, role));
        self.documents(rows.collect()).await
    }

    /// The ids of [`Reader::documents_of`]: one row for each is read.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn ids_of_documents(&self, user: &UserId) -> Result<Vec<OwnedRoomId>, Unavailable> {
        let rows = self.store.scan_all(DOCUMENTS_OF.under(&(user,))).await?;
        Ok(rows.into_iter().map(|((_, room), _)| room).collect())
    }

    /// One of [`Reader::documents_of`]; `None` if the user has not joined it, or it is not a document.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn document_of(&self, user: &UserId, room: &RoomId) -> Result<Option<Document>, Unavailable> {
        let Some(role) = self.store.get(&DOCUMENTS_OF, &(user, room)).await? else {
            return Ok(None);
        };
        Ok(self.documents(vec![(room.to_owned(), role)]).await?.pop())
    }

    /// The document that a user's request created, and the hash of what was requested, if the user is still in it.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn created_by(&self, user: &UserId, key: &str) -> Result<Option<(OwnedRoomId, String)>, Unavailable> {
        let rows = self.store.scan_all(DOCUMENTS_OF.under(&(user,))).await?;
        let rooms = rows.iter().map(|((_, room), _)| (room,));
        let documents = self.store.get_many(&DOCUMENTS, rooms).await?;
        let found = rows.iter().zip(documents).find_map(|(((_, room), _), document)| {
            let document = document.filter(|document| document.owner == *user)?;
            let (_, body) = document.request.filter(|(made, _)| made == key)?;
            Some((room.clone(), body))
        });
        Ok(found)
    }

    /// The answer to an edit that a request made under this name.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn edit_request(&self, room: &RoomId, name: &str) -> Result<Option<EditRequestRow>, Unavailable> {
        Ok(self.store.get(&EDIT_REQUESTS, &(room, name)).await?)
    }

    async fn documents(&self, rows: Vec<(OwnedRoomId, String)>) -> Result<Vec<Document>, Unavailable> {
        let rooms = || rows.iter().map(|(room, _)| (room,));
        let (documents, changes, versions) = try_join!(
            self.store.get_many(&DOCUMENTS, rooms()),
            self.store.get_many(&DOCUMENT_CHANGES, rooms()),
            self.store.get_many(&DOC_SEQ, rooms()),
        )?;
        let found = rows.iter().zip(documents).zip(changes.into_iter().zip(versions));
        // A row may be missing if the user left meanwhile.
        found
            .filter_map(|(((room, role), document), (change, version))| {
                Some(read(room, role, document?, (change, version.unwrap_or(0))))
            })
            .collect()
    }
}

fn read(
    room: &RoomId,
    role: &str,
    row: DocumentRow,
    (change, version): (Option<DocumentChange>, u64),
) -> Result<Document, Unavailable> {
    let unknown = |what: &str| damaged(room, &format_args!("the index has an unknown {what}"));
    let role = Role::ALL.into_iter().find(|one| one.name() == role);
    Ok(Document {
        doc_id: room.to_owned(),
        title: row.title,
        kind: DocumentKind::from_name(&row.kind).ok_or_else(|| unknown("kind"))?,
        owner_id: row.owner,
        version,
        role: role.ok_or_else(|| unknown("role"))?,
        created_at: row.created_at,
        last_modified: change.map_or(row.created_at, |change| change.at),
        in_bin_since: row.in_bin_since,
        template: row.template,
        locked: row.locked,
        unread: None,
    })
}
