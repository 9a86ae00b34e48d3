//! The JSON schemas of an OpenAPI document: those of requests and of answers, which differ in what is optional, under one set
//! of names; written as generators of clients read them best.

use std::collections::BTreeMap;

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::operation::SchemaOf;

/// Where schemas with a name are in the document.
const COMPONENTS: &str = "#/components/schemas/";

/// The schemas of a document that is being made.
pub(super) struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
    queries: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        let inline = settings().with(|settings| settings.inline_subschemas = true);
        Self {
            requests: settings().for_deserialize().into_generator(),
            answers: settings().for_serialize().into_generator(),
            queries: inline.for_deserialize().into_generator(),
        }
    }

    /// The schema of something in a request.
    pub(super) fn request(&mut self, schema: SchemaOf) -> Value {
        simplified(schema(&mut self.requests).to_value(), false)
    }

    /// The schema of an answer.
    pub(super) fn answer(&mut self, schema: SchemaOf) -> Value {
        simplified(schema(&mut self.answers).to_value(), true)
    }

    /// The parameters of a query: name, whether it is required, and schema.
    pub(super) fn query(&mut self, schema: SchemaOf) -> Vec<(String, bool, Value)> {
        let object = simplified(schema(&mut self.queries).to_value(), true);
        let required = object.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|other| other == name));
        let properties = object
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        properties
            .map(|(name, schema)| (name.clone(), is_required(name), schema.clone()))
            .collect()
    }

    /// The named schemas, and the names of requests' types that have another one, because the same type is also in an answer.
    pub(super) fn finish(mut self) -> (Map<String, Value>, Renamed) {
        let take = |generator: &mut SchemaGenerator, is_answer: bool| -> BTreeMap<String, Value> {
            let schemas = generator.take_definitions(false);
            let schemas = schemas.into_iter();
            schemas
                .map(|(name, schema)| (name, simplified(schema, is_answer)))
                .collect()
        };
        let (answers, requests) = (take(&mut self.answers, true), take(&mut self.requests, false));
        // A schema that refers to a renamed one differs too, so this is repeated until nothing changes.
        let mut renamed = Renamed::default();
        loop {
            let differs = |(name, schema): (&String, &Value)| {
                let other = answers.get(name).is_some_and(|other| *other != renamed.apply(schema));
                (other && !renamed.0.contains(name)).then(|| name.clone())
            };
            let more: Vec<String> = requests.iter().filter_map(differs).collect();
            if more.is_empty() {
                break;
            }
            renamed.0.extend(more);
        }
        let requests = requests
            .iter()
            .map(|(name, schema)| (renamed.name(name), renamed.apply(schema)));
        let all: BTreeMap<String, Value> = requests.chain(answers.clone()).collect();
        (all.into_iter().collect(), renamed)
    }
}

/// Types whose schemas in requests and answers differ.
#[derive(Debug, Default)]
pub(super) struct Renamed(Vec<String>);

impl Renamed {
    fn name(&self, name: &str) -> String {
        if self.0.iter().any(|other| other == name) {
            format!("{name}Request")
        } else {
            name.to_owned()
        }
    }

    /// The schema with the references of a request.
    pub(super) fn apply(&self, schema: &Value) -> Value {
        let mut schema = schema.clone();
        walk(&mut schema, &mut |object| {
            if let Some(Value::String(reference)) = object.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(COMPONENTS)
            {
                *reference = format!("{COMPONENTS}{}", self.name(name));
            }
        });
        schema
    }
}

/// Enumerations as `enum`, and, where values that are not there are left out (in answers and queries), optional properties
/// without `null`.
fn simplified(mut schema: Value, is_left_out: bool) -> Value {
    walk(&mut schema, &mut |object| {
        enumerate(object);
        if object.get("default").is_some_and(Value::is_null) {
            object.remove("default");
        }
        if is_left_out {
            omit_null(object);
        }
    });
    schema
}

/// Applies a function to every object in a schema of this program, from the outside in.
fn walk(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            change(object);
            object.values_mut().for_each(|value| walk(value, change));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| walk(value, change)),
        _ => {}
    }
}

/// `oneOf` of constants with a description each becomes an `enum` with one description.
fn enumerate(schema: &mut Map<String, Value>) {
    let Some(variants) = schema.get("oneOf").and_then(Value::as_array) else {
        return;
    };
    let constants: Option<Vec<(Value, String)>> = variants
        .iter()
        .map(|variant| {
            let constant = variant.get("const").filter(|constant| constant.is_string())?;
            let meaning = variant.get("description").and_then(Value::as_str).unwrap_or_default();
            Some((constant.clone(), meaning.to_owned()))
        })
        .collect();
    let Some(constants) = constants else { return };
    let mut text = schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    for (constant, meaning) in &constants {
        let name = constant.as_str().unwrap_or_default();
        text.push_str(&format!("\n* `{name}`: {meaning}"));
    }
    schema.remove("oneOf");
    schema.insert("type".to_owned(), json!("string"));
    let values: Vec<Value> = constants.into_iter().map(|(constant, _)| constant).collect();
    schema.insert("enum".to_owned(), Value::Array(values));
    schema.insert("description".to_owned(), Value::String(text.trim_start().to_owned()));
}

/// Removes `null` from the types of properties that are not required.
fn omit_null(schema: &mut Map<String, Value>) {
    let required: Vec<String> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    for (name, property) in properties {
        if !required.contains(name)
            && let Value::Object(property) = property
        {
            without_null(property);
        }
    }
}

fn without_null(property: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = property.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [kind] = types.as_slice() {
            let kind = kind.clone();
            property.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(values)) = property.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let Some(Value::Array(choices)) = property.get_mut("anyOf") else {
        return;
    };
    choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        property.remove("anyOf");
        for (key, value) in only {
            property.entry(key).or_insert(value);
        }
    }
}
