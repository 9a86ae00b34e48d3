//! A strict reader of canonical JSON.
//!
//! `serde_json` alone is too lenient: it keeps the last of two equal keys, so that two servers could read two different
//! events from one text. This reader refuses duplicate keys, fractions, exponents, `-0`, integers beyond 2^53-1 and
//! bytes after the value. `serde_json` bounds nesting to 127 levels, far from the limit of a 2 MiB stack. Must only be
//! used for untrusted text: stored text was checked before.

use std::fmt;

use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Parses one JSON object by the rules of canonical JSON (Matrix specification, appendix "Canonical JSON").
///
/// The text may have white space and any order of keys; the resulting value serialises to the canonical form.
///
/// # Errors
/// The text is not JSON, is not an object, or breaks a rule above.
pub fn parse_canonical(text: &str) -> Result<CanonicalJsonObject, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut deserializer)?;
    deserializer.end()?;
    match value {
        CanonicalJsonValue::Object(object) => Ok(object),
        _ => Err(serde_json::Error::custom("expected an object")),
    }
}

/// The seed that builds a value of any type.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = CanonicalJsonValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = CanonicalJsonValue;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("canonical JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
        let int = Int::try_from(value).map_err(|_| E::custom("the integer is outside of -(2^53-1) to 2^53-1"))?;
        Ok(CanonicalJsonValue::Integer(int))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
        let int = Int::try_from(value).map_err(|_| E::custom("the integer is outside of -(2^53-1) to 2^53-1"))?;
        Ok(CanonicalJsonValue::Integer(int))
    }

    fn visit_f64<E: serde::de::Error>(self, _value: f64) -> Result<Self::Value, E> {
        Err(E::custom("the number is not an integer in its shortest form"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::String(value))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(CanonicalJsonValue::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(Strict)? {
            items.push(item);
        }
        Ok(CanonicalJsonValue::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = CanonicalJsonObject::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(Strict)?;
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("an object has a duplicate key"));
            }
        }
        Ok(CanonicalJsonValue::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::parse_canonical;

    #[test]
    fn text_that_is_not_canonical_json_is_refused() {
        for text in [
            r#"{"a":1.0}"#,
            r#"{"a":1e3}"#,
            r#"{"a":-0}"#,
            r#"{"a":9007199254740992}"#,
            r#"{"a":-9007199254740992}"#,
            r#"{"a":18446744073709551616}"#,
            r#"{"a":NaN}"#,
            r#"{"a":Infinity}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"\u0062":2}}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\udc00\ud800"}"#,
            r#"{"a":1} x"#,
            "\u{feff}{}",
            "[]",
            "1",
            "",
            r#"{"a":01}"#,
            r#"{"a":1,}"#,
        ] {
            assert!(parse_canonical(text).is_err(), "{text}");
        }
        assert!(parse_canonical(&format!(r#"{{"a":{}}}"#, "9".repeat(400))).is_err());
    }

    #[test]
    fn values_at_the_limits_are_accepted_and_keys_are_sorted() {
        let object = parse_canonical(
            " {\"b\": 9007199254740991, \"a\": -9007199254740991, \"\\u65e5\": \"\\u0000\", \"c\": [null, true]} ",
        )
        .unwrap();
        assert_eq!(
            serde_json::to_string(&object).unwrap(),
            "{\"a\":-9007199254740991,\"b\":9007199254740991,\"c\":[null,true],\"日\":\"\\u0000\"}"
        );
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_stack_overflow() {
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(|| {
            for depth in [128, 1_000, 100_000] {
                for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
                    let text = format!(r#"{{"content":{}1{}}}"#, open.repeat(depth), close.repeat(depth));
                    assert!(parse_canonical(&text).is_err(), "{depth} levels of {open}");
                }
            }
            let fine = format!(r#"{{"content":{}1{}}}"#, "[".repeat(120), "]".repeat(120));
            assert!(parse_canonical(&fine).is_ok());
        });
        thread.unwrap().join().unwrap();
    }
}
