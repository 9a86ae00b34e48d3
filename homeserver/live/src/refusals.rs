//! Notices for users about the parts of their edits that were not accepted, by the rules of `spec/docs/admission.md`.

use ruma::OwnedUserId;
use weft_room_api::{Fill, LimitExceeded, RefusedContent, RefusedEdit};
use weft_wire::{
    limits::{MAX_CLIENTS_PER_DOCUMENT, MAX_DOCUMENT_BYTES},
    live::notice::{Notice, RefusedBlock},
};

/// Content that was replaced by a deletion: one notice for each rule.
pub(super) fn of_content(refused: &[RefusedContent]) -> Vec<Notice> {
    let mut codes: Vec<&str> = refused.iter().map(|block| &*block.rule).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
        .into_iter()
        .map(|code| {
            let blocks = refused
                .iter()
                .filter(|block| block.rule == code)
                .map(|block| RefusedBlock {
                    client: block.client,
                    clock: block.clock,
                    length: block.length,
                });
            Notice::refused(code, words(code)).of_blocks(blocks)
        })
        .collect()
}

fn words(code: &str) -> &'static str {
    match code {
        "piece_too_large" => {
            "A single value, such as a picture inside the text, is larger than 44,900 bytes. It was removed. Upload the file \
             and insert a link to it."
        }
        "malformed" => "A value is nested more than 32 deep, or contains invalid text. It was removed.",
        "sub_document" => "Subdocuments are not supported. It was removed.",
        _ => "This kind of content is not supported. It was removed.",
    }
}

/// Blocks of other users, which only those users may send. `waits`: own edits depend on them.
pub(super) fn of_others(users: Vec<OwnedUserId>, waits: bool) -> Notice {
    let waiting = if waits {
        " What you write next to them is not saved until they are."
    } else {
        ""
    };
    let reason = format!("This copy of the document contains edits of another user that were never sent.{waiting}");
    Notice::refused("foreign_client", reason).of_users(users, waits)
}

/// Why a reader's edit is not saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwritable {
    /// The user's role.
    Role,
    /// The document is locked.
    Lock,
}

impl Unwritable {
    /// For the acknowledgement.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Role => "you may read this document but not edit it",
            Self::Lock => "this document is locked",
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::Role => "read_only",
            Self::Lock => "locked",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Role => "You may read this document but not edit it. Your changes are not saved.",
            Self::Lock => "This document is locked. Your changes are not saved.",
        }
    }
}

/// An edit of a user who may not edit, as when the right was withdrawn while the editor was offline.
pub(super) fn of_reader(why: Unwritable, refused: &RefusedEdit) -> Notice {
    Notice::refused(why.code(), why.words())
        .of_blocks(refused.inserted.iter().copied())
        .of_deletions(refused.deleted.iter().copied())
}

/// The document is nearly full.
pub(super) fn nearly_full(fill: Fill) -> Notice {
    Notice::NearlyFull {
        bytes: fill.bytes,
        max_bytes: MAX_DOCUMENT_BYTES,
        clients: fill.clients,
        max_clients: MAX_CLIENTS_PER_DOCUMENT,
    }
}

/// A refused update.
pub(super) fn of_update(rule: &str, reason: &str) -> Notice {
    Notice::refused(rule, format!("The edit was refused: {reason}."))
}

/// An update that is too large by itself or together with the document.
pub(super) fn too_large(bytes: usize, limit: usize) -> Notice {
    Notice::refused(
        "too_large",
        format!("The edit was refused: {bytes} bytes are over the limit of {limit}."),
    )
}

/// An edit of a user who has sent too many bytes in a day.
pub(super) fn overspent(exceeded: &LimitExceeded) -> Notice {
    let seconds = exceeded.retry_after.as_secs().max(1);
    let limit = exceeded.limit;
    Notice::refused(
        "limit_exceeded",
        format!("The edit is not saved: you have sent {limit} bytes in a day. Try again in {seconds} s."),
    )
}
