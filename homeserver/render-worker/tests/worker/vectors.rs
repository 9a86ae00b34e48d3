//! Runs `spec/vectors/rendering` as its README prescribes.

use weft_render::{Format, RenderRequest, Renderer as _};
use weft_wire::document::DocumentKind;

use crate::{bytes, pool, vectors};

/// Floats such as `3.0` and integers are the same number.
fn numbers_as_floats(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Number(number) => *value = number.as_f64().into(),
        serde_json::Value::Array(items) => items.iter_mut().for_each(numbers_as_floats),
        serde_json::Value::Object(entries) => entries.values_mut().for_each(numbers_as_floats),
        _ => {}
    }
}

#[tokio::test]
async fn documents_are_rendered_as_in_the_vectors() {
    let pool = pool(1);
    let mut count = 0;
    for (name, case) in vectors("rendering") {
        let kind = DocumentKind::from_name(case["kind"].as_str().unwrap()).unwrap();
        let state = bytes(&case["update"]);
        for format in Format::ALL {
            let request = RenderRequest {
                kind,
                state: state.clone(),
                format,
            };
            let rendered = pool.render(&name, request).await.unwrap();
            if let Some(expected) = case.get(format.name()) {
                assert_eq!(
                    &rendered.content,
                    expected.as_str().unwrap(),
                    "{name} {}",
                    format.name()
                );
            }
            if format == Format::Json {
                let mut read: serde_json::Value = serde_json::from_str(&rendered.content).unwrap();
                let mut expected = case["document"].clone();
                numbers_as_floats(&mut read);
                numbers_as_floats(&mut expected);
                assert_eq!(read, expected, "{name}");
            }
            assert_eq!(format!("{:?}", rendered.text_hash), case["text_hash"], "{name}");
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}
