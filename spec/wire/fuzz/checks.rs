//! Properties of frames and bodies that must hold for any bytes. The fuzz targets of `conformance-tests/fuzz` and the replay
//! of their corpora (`corpus/` in this folder) call the same checks. Must only be part of the crate in tests and fuzzing.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a check fails by panicking"
)]

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    anchor::Anchor,
    awareness::AwarenessEdu,
    document::{DocumentContent, VersionContent},
    limits,
    live::{Framing, awareness, hocuspocus, plain},
    presence::PresenceEdu,
    resolution::ResolutionContent,
    rest,
    snapshot::DocumentSnapshot,
    suggestion::SuggestionContent,
    update::UpdateContent,
};

/// One WebSocket message, in either framing: a parsed frame equals itself after encoding and parsing again.
pub fn frames(data: &[u8]) {
    let _ = Framing::of_first_frame(data);
    if let Ok(frame) = plain::Frame::parse(data) {
        assert_eq!(plain::Frame::parse(&frame.encode()), Ok(frame));
    }
    if let Ok(frame) = hocuspocus::Frame::parse(data) {
        assert_eq!(hocuspocus::Frame::parse(&frame.encode()), Ok(frame));
        if let hocuspocus::Frame::Document { name, .. } = frame {
            assert!(name.len() <= limits::MAX_DOCUMENT_NAME_BYTES);
            let (document, session) = hocuspocus::split_name(name);
            assert_eq!(
                document.len() + session.map_or(0, |session| session.len() + 1),
                name.len()
            );
        }
    }
    if let Ok(entries) = awareness::parse(data) {
        assert!(entries.len() <= limits::MAX_AWARENESS_ENTRIES);
        assert_eq!(awareness::parse(&awareness::encode(&entries)), Ok(entries));
    }
}

/// A JSON body of each type of this crate: a parsed body equals itself after encoding and parsing again, and a checked body
/// is within its limits.
pub fn bodies(data: &[u8]) {
    if let Some(content) = round_trip::<UpdateContent>(data) {
        update(&content);
    }
    if let Some(edu) = round_trip::<AwarenessEdu>(data)
        && edu.check().is_ok()
    {
        assert!(edu.client_id < 1 << 53);
        // The identity, in `user`, does not count towards the size.
        let mut state = edu.state.unwrap_or_default();
        state.as_object_mut().map(|fields| fields.remove("user"));
        assert!(state.to_string().len() <= limits::MAX_AWARENESS_STATE_BYTES);
    }
    if let Ok(edu) = serde_json::from_slice::<PresenceEdu>(data) {
        let mut statuses = edu.push.iter().filter_map(|entry| entry.status_msg.as_ref());
        assert!(statuses.all(|status| status.len() <= limits::MAX_STATUS_MESSAGE_BYTES));
    }
    round_trip::<DocumentSnapshot>(data);
    round_trip::<DocumentContent>(data);
    round_trip::<VersionContent>(data);
    round_trip::<ResolutionContent>(data);
    if let Some(suggestion) = round_trip::<SuggestionContent>(data)
        && let Ok(bytes) = suggestion.bytes()
    {
        assert!(bytes.len() <= limits::MAX_SEALED_UPDATE_BYTES);
    }
    if let Some(anchor) = round_trip::<Anchor>(data)
        && anchor.target().is_some()
    {
        assert!(anchor.quote.len() <= limits::MAX_QUOTE_BYTES && anchor.heads.len() <= limits::MAX_ANCHOR_HEADS);
        let ids = [&anchor.from, &anchor.to].into_iter().flatten();
        let ids = ids.flat_map(|position| [position.item, position.within]).flatten();
        assert!(
            ids.chain(anchor.node)
                .all(|id| id.client < 1 << 53 && id.clock < 1 << 31)
        );
    }
    round_trip::<rest::CreateDocument>(data);
    round_trip::<rest::PatchDocument>(data);
    round_trip::<rest::SetRole>(data);
    round_trip::<rest::Document>(data);
    round_trip::<rest::MemberList>(data);
}

fn round_trip<T: Serialize + DeserializeOwned>(data: &[u8]) -> Option<T> {
    let body: T = serde_json::from_slice(data).ok()?;
    let written = serde_json::to_value(&body).unwrap();
    let again: T = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), written);
    Some(body)
}

fn update(content: &UpdateContent) {
    let ranges = content.ranges();
    if let Ok(ranges) = &ranges {
        assert!(ranges.iter().all(|(id, (from, to))| *id < 1 << 53 && from < to));
        assert_eq!(ranges.len(), content.clients.len());
    }
    if let Ok(bytes) = content.bytes() {
        assert!(bytes.len() <= limits::MAX_SEALED_UPDATE_BYTES);
        let again = UpdateContent::new(&bytes, ranges.unwrap_or_default());
        assert_eq!(again.bytes(), Ok(bytes));
    }
}

#[cfg(test)]
#[test]
fn every_corpus_input_passes_its_check() {
    for (target, check) in [("frames", frames as fn(&[u8])), ("bodies", bodies)] {
        let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
        assert!(!inputs.is_empty(), "{folder} has no corpus files");
        inputs
            .iter()
            .for_each(|input| check(&std::fs::read(input.path()).unwrap()));
    }
}
