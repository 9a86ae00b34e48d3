//! The vectors of `spec/vectors/templates` that have a template: the event made from it, or an error.

use std::{fs, path::Path};

use ruma::{CanonicalJsonObject, RoomId, RoomVersionId, UserId, server_name};
use serde_json::{Value, value::to_raw_value};
use weft_dag::{RoomVersion, testing};

use super::{hints, sign};
use crate::handshake::{HandshakeError, Wanted};
use weft_clock::from_millis;

fn vectors() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/templates");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let vectors = files.map(|path| {
        let vector: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        (path.display().to_string(), vector)
    });
    vectors.filter(|(_, vector)| !vector["template"].is_null()).collect()
}

/// The event that is signed for the user, without hashes and signatures.
fn made_of(vector: &Value) -> Result<Value, HandshakeError> {
    let text = |field: &str| vector[field].as_str().unwrap();
    let wanted = Wanted {
        room_id: RoomId::parse(text("room_id")).unwrap(),
        via: Vec::new(),
        user: UserId::parse(text("user_id")).unwrap(),
        content: serde_json::from_value::<CanonicalJsonObject>(vector["content"].clone()).unwrap(),
    };
    let version = RoomVersion::new(&RoomVersionId::try_from(text("room_version")).unwrap()).unwrap();
    let now = from_millis(vector["now"].as_u64().unwrap());
    let signer = testing::signer(wanted.user.server_name());
    let template = to_raw_value(&vector["template"]).unwrap();
    let hints = hints(server_name!("alpha.example"), &template)?;
    let signed = sign(&wanted, text("membership"), hints, &version, now, &signer)?;
    let mut event: Value = serde_json::from_str(signed.pdu.json()).unwrap();
    let fields = event.as_object_mut().unwrap();
    assert!(fields.remove("hashes").is_some() && fields.remove("signatures").is_some());
    Ok(event)
}

#[test]
fn every_template_yields_the_event_of_its_vector() {
    let vectors = vectors();
    assert!(vectors.len() >= 25, "vectors are missing: {}", vectors.len());
    for (name, vector) in vectors {
        match made_of(&vector) {
            Ok(event) => assert_eq!(event, vector["event"], "{name}"),
            Err(HandshakeError::Answer { reason, .. }) => {
                assert_eq!(vector["error"], "form", "{name}: {reason}");
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
}
