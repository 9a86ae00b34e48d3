//! Reads the lines of a file and their kinds. Must not hold more than one line, and must not read beyond the limit of one.

use std::io::BufRead;

use ruma::OwnedEventId;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use weft_wire::{
    audit::{AuditCut, AuditEnd, AuditHeader, AuditKeys, AuditKeysLine},
    limits::MAX_AUDIT_LINE_BYTES,
};

use crate::{Failed, Rule, Wrong};

/// A line.
#[derive(Debug)]
pub(crate) enum Line {
    Header(AuditHeader),
    Keys(AuditKeys),
    Event {
        event_id: OwnedEventId,
        pdu: Box<RawValue>,
        /// It only states what was before a cut.
        before: bool,
    },
    Cut(AuditCut),
    End(AuditEnd),
}

/// The fields by which lines are told apart.
#[derive(Deserialize)]
struct Kind {
    weft_audit: Option<IgnoredAny>,
    keys: Option<IgnoredAny>,
    pdu: Option<IgnoredAny>,
    cut: Option<IgnoredAny>,
    heads: Option<IgnoredAny>,
}

/// The line of an event.
#[derive(Deserialize)]
struct EventLine {
    event_id: OwnedEventId,
    pdu: Box<RawValue>,
    #[serde(default)]
    before: bool,
}

/// The lines of a file.
pub(crate) struct Lines<R> {
    reader: R,
    number: u64,
    bytes: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            number: 0,
            bytes: 0,
        }
    }

    /// The number of the last line, counted from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The bytes that were read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next line and its size in bytes; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(Line, usize)>, Failed> {
        let Some(text) = self.text()? else { return Ok(None) };
        let line = parse(&text).map_err(|why| self.wrong(why))?;
        Ok(Some((line, text.len())))
    }

    /// What is wrong with the form of the last line.
    pub(crate) fn wrong(&self, why: impl Into<String>) -> Wrong {
        Wrong {
            line: self.number,
            event: None,
            rule: Rule::Form,
            why: why.into(),
        }
    }

    fn text(&mut self) -> Result<Option<Vec<u8>>, Failed> {
        let mut text = Vec::new();
        self.number += 1;
        loop {
            let part = self.reader.fill_buf()?;
            if part.is_empty() {
                self.number -= u64::from(text.is_empty());
                return Ok(Some(text).filter(|text| !text.is_empty()));
            }
            let end = part.iter().position(|byte| *byte == b'\n');
            let taken = part.get(..end.unwrap_or(part.len())).unwrap_or_default();
            if text.len() + taken.len() > MAX_AUDIT_LINE_BYTES {
                return Err(self
                    .wrong(format!("the line has more than {MAX_AUDIT_LINE_BYTES} bytes"))
                    .into());
            }
            text.extend_from_slice(taken);
            let used = taken.len() + usize::from(end.is_some());
            self.reader.consume(used);
            self.bytes += used as u64;
            if end.is_some() {
                return Ok(Some(text));
            }
        }
    }
}

/// Reads one line, without its end.
pub(crate) fn parse(text: &[u8]) -> Result<Line, String> {
    let text = std::str::from_utf8(text).map_err(|_| "the line is not UTF-8".to_owned())?;
    let kind: Kind = read(text)?;
    let kinds = [&kind.weft_audit, &kind.pdu, &kind.cut, &kind.heads];
    if kinds.iter().filter(|kind| kind.is_some()).count() > 1 {
        return Err("the line has the fields of several kinds".to_owned());
    }
    if kind.pdu.is_some() {
        let EventLine { event_id, pdu, before } = read(text)?;
        return Ok(Line::Event { event_id, pdu, before });
    }
    if kind.weft_audit.is_some() {
        return read(text).map(Line::Header);
    }
    if kind.cut.is_some() {
        return read(text).map(Line::Cut);
    }
    if kind.heads.is_some() {
        return read(text).map(Line::End);
    }
    if kind.keys.is_some() {
        return read(text).map(|line: AuditKeysLine| Line::Keys(line.keys));
    }
    Err("the line is of no known kind".to_owned())
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("not a line of an audit file: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    fn first(reader: impl Read) -> Result<Option<(Line, usize)>, Failed> {
        Lines::new(BufReader::new(reader)).next()
    }

    #[test]
    fn a_line_without_end_is_refused_at_the_limit() {
        // Ten gigabytes without a line end; the test would not end if all of them were read.
        let endless = std::io::repeat(b'x').take(10 << 30);
        let error = first(endless).unwrap_err().to_string();
        assert!(error.contains("line 1: form: the line has more than"), "{error}");
    }

    #[test]
    fn deep_nesting_is_an_error() {
        for open in ["[", r#"{"a":"#] {
            let text = format!(r#"{{"event_id":"$a","pdu":{}"#, open.repeat(1_000_000));
            assert!(matches!(first(text.as_bytes()), Err(Failed::Wrong(_))));
        }
    }

    #[test]
    fn each_kind_of_line_is_recognised_and_no_line_has_two() {
        for (text, kind) in [
            (r#"{"event_id":"$a","pdu":{"x":1}}"#, "Event"),
            (r#"{"event_id":"$a","pdu":{},"before":true,"later":1}"#, "Event"),
            (r#"{"cut":["$a"],"state":[]}"#, "Cut"),
            (r#"{"keys":{}}"#, "Keys"),
            (r#"{"heads":[],"events":0}"#, "End"),
        ] {
            let line = format!("{:?}", parse(text.as_bytes()).unwrap());
            assert!(line.starts_with(kind), "{text}: {line}");
        }
        for text in [
            "",
            "{}",
            "[]",
            "1",
            r#"{"event_id":"$a"}"#,
            r#"{"pdu":{}}"#,
            r#"{"heads":[],"events":-1}"#,
            r#"{"heads":[],"events":1,"pdu":{}}"#,
            r#"{"heads":[],"heads":[],"events":1}"#,
            r#"{"cut":["a"],"state":[]}"#,
            "\u{feff}{\"keys\":{}}",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"{\"keys\":{\"\xff\":{}}}").is_err());
    }

    #[test]
    fn lines_are_counted() {
        let text = "{\"keys\":{}}\n{\"keys\":{}}\n";
        let mut lines = Lines::new(text.as_bytes());
        while lines.next().unwrap().is_some() {}
        assert_eq!((lines.number(), lines.bytes()), (2, text.len() as u64));
    }
}
