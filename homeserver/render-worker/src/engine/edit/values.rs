//! JSON of a request as values of the engine. Must stay within what admission accepts.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use weft_crdt::limits::VALUE_NESTING;
use weft_render::{Attributes, PlaceError};
use yrs::types::Attrs;
use yrs::{Any, Number};

use super::invalid;

/// A value.
pub(in crate::engine) fn any(value: &Value) -> Result<Any, PlaceError> {
    nested(value, VALUE_NESTING)
}

fn nested(value: &Value, levels: u32) -> Result<Any, PlaceError> {
    let deeper = || {
        levels
            .checked_sub(1)
            .ok_or_else(|| invalid(format!("a value is nested more than {VALUE_NESTING} deep")))
    };
    Ok(match value {
        Value::Null => Any::Null,
        Value::Bool(value) => Any::Bool(*value),
        Value::Number(number) => Any::Number(match number.as_i64() {
            Some(integer) => Number::Int(integer),
            None => Number::Float(number.as_f64().unwrap_or_default()),
        }),
        Value::String(text) => Any::String(text.as_str().into()),
        Value::Array(items) => {
            let levels = deeper()?;
            let items: Result<Vec<Any>, _> = items.iter().map(|item| nested(item, levels)).collect();
            Any::Array(items?.into())
        }
        Value::Object(entries) => {
            let levels = deeper()?;
            let entries: Result<HashMap<String, Any>, PlaceError> = entries
                .iter()
                .map(|(key, value)| Ok((key.clone(), nested(value, levels)?)))
                .collect();
            Any::Map(Arc::new(entries?))
        }
    })
}

/// The attributes of a text. In a rich text `true` is written as the empty object that y-prosemirror writes for a mark.
pub(in crate::engine) fn attributes(attributes: &Attributes, rich_text: bool) -> Result<Attrs, PlaceError> {
    attributes
        .iter()
        .map(|(key, value)| {
            let value = match value {
                Value::Bool(true) if rich_text => Any::Map(Arc::default()),
                other => any(other)?,
            };
            Ok((Arc::from(key.as_str()), value))
        })
        .collect()
}
