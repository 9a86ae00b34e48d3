//! `event_fields` of a filter: the fields of an event that a client wants (client-server API, "Filtering").
//!
//! Pure. Must not drop an event: one without any of the fields becomes an empty object.

use serde_json::{Map, Value, value::RawValue, value::to_raw_value};

/// Field paths.
pub(super) struct EventFields {
    paths: Vec<Vec<String>>,
}

impl EventFields {
    /// Parses entries like `content.body`; `\\.` stands for a dot in a name.
    pub(super) fn new(entries: &[String]) -> Self {
        Self {
            paths: entries.iter().map(|entry| split(entry)).collect(),
        }
    }

    /// The event reduced to these fields.
    pub(super) fn only(&self, event: &RawValue) -> Option<Box<RawValue>> {
        let event: Value = serde_json::from_str(event.get()).ok()?;
        let mut kept = Map::new();
        for path in &self.paths {
            keep(&event, path, &mut kept);
        }
        to_raw_value(&kept).ok()
    }
}

fn split(entry: &str) -> Vec<String> {
    let (mut names, mut name) = (Vec::new(), String::new());
    let mut characters = entry.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('.' | '\\')) => name.push(escaped),
                Some(other) => name.extend(['\\', other]),
                None => name.push('\\'),
            },
            '.' => names.push(std::mem::take(&mut name)),
            other => name.push(other),
        }
    }
    names.push(name);
    names
}

fn keep(event: &Value, path: &[String], kept: &mut Map<String, Value>) {
    let Some((last, before)) = path.split_last() else {
        return;
    };
    let mut from = event;
    for name in before {
        match from.get(name) {
            Some(inner) => from = inner,
            None => return,
        }
    }
    let Some(value) = from.get(last) else { return };
    let mut into = kept;
    for name in before {
        let entry = into.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
        match entry.as_object_mut() {
            Some(inner) => into = inner,
            None => return,
        }
    }
    into.insert(last.clone(), value.clone());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_named_fields_are_kept() {
        let event = json!({"type": "t", "sender": "s", "content": {"body": "b", "a.b": 1, "c\\d": 2, "deep": {"x": 1, "y": 2}}});
        let event = to_raw_value(&event).unwrap();
        for (fields, expected) in [
            (vec!["type"], json!({"type": "t"})),
            (
                vec!["content.body", "sender"],
                json!({"sender": "s", "content": {"body": "b"}}),
            ),
            (vec!["content.a\\.b"], json!({"content": {"a.b": 1}})),
            (vec!["content.c\\\\d"], json!({"content": {"c\\d": 2}})),
            (
                vec!["content.deep.x", "content.deep"],
                json!({"content": {"deep": {"x": 1, "y": 2}}}),
            ),
            (
                vec!["content.deep", "content.deep.x"],
                json!({"content": {"deep": {"x": 1, "y": 2}}}),
            ),
            (vec!["content.a.b", "nothing", "type.t"], json!({})),
            (vec![""], json!({})),
        ] {
            let fields: Vec<String> = fields.into_iter().map(str::to_owned).collect();
            let kept = EventFields::new(&fields).only(&event).unwrap();
            assert_eq!(
                serde_json::from_str::<Value>(kept.get()).unwrap(),
                expected,
                "{fields:?}"
            );
        }
    }
}
