//! Properties that hold for any bytes of an imported file: the fuzz targets of `conformance-tests/fuzz` and the replay of their
//! corpora (`corpus/`, next to this file) call the same checks. Must only be compiled in tests and fuzzing.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a check fails by panicking"
)]

use bytes::Bytes;
use weft_wire::mxc;

use crate::{archive::ArchiveReader, import};

/// Bytes of a file of an archive that are read.
const LIMIT: usize = 64 * 1024;

/// A zip archive: of a document, or an office file.
pub fn archives(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    import::read_any(data.clone());
    let Ok(archive) = ArchiveReader::of_bytes(data) else {
        return;
    };
    let names: Vec<&str> = archive.names().collect();
    assert!(names.is_sorted());
    for name in names {
        assert!(
            !name.starts_with('/') && !name.split('/').any(|part| part == ".."),
            "{name}"
        );
        if let Ok(bytes) = archive.read(name, LIMIT) {
            assert!(bytes.len() <= LIMIT);
            // A smaller limit is an error, and not a part of the file.
            assert!(bytes.is_empty() || archive.read(name, bytes.len() - 1).is_err());
        }
    }
}

/// Text with images and addresses of files.
pub fn images(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert_eq!(import::with_each_image_replaced_by_itself(text), text);
    assert_eq!(mxc::replaced(text, |uri| Some(uri.to_owned())), text);
    for uri in mxc::uris(text) {
        let (server, id) = mxc::parts(uri).unwrap();
        assert!(!server.is_empty() && !id.is_empty() && text.contains(uri));
    }
}

#[cfg(test)]
#[test]
fn the_corpora_pass() {
    for (target, check) in [("archives", archives as fn(&[u8])), ("images", images)] {
        let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
        assert!(!inputs.is_empty(), "{folder} is in the repository");
        inputs
            .iter()
            .for_each(|input| check(&std::fs::read(input.path()).unwrap()));
    }
}
