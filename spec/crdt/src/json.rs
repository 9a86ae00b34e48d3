//! Checks JSON text without building it: syntax, nesting, and cases on which engines disagree. One pass; must not
//! recurse or allocate.

use crate::limits::VALUE_NESTING;

/// Why JSON text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not RFC 8259, or a number outside of 64-bit floats, or half of a surrogate pair: engines differ on these.
    Syntax,
    /// Nested deeper than [`VALUE_NESTING`].
    TooDeep,
}

/// The open arrays and objects at the current position: one bit per level, set for an object.
#[derive(Default)]
struct Open {
    objects: u64,
    depth: u32,
}

impl Open {
    fn push(&mut self, object: bool) -> Result<(), Fault> {
        if self.depth >= VALUE_NESTING {
            return Err(Fault::TooDeep);
        }
        self.objects = (self.objects << 1) | u64::from(object);
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// Accepts exactly one JSON value, with optional white space around it.
pub(crate) fn check(text: &str) -> Result<(), Fault> {
    let mut s = Scanner { text, at: 0 };
    let mut open = Open::default();
    loop {
        let opened = s.value_start(&mut open)?;
        if !opened && s.value_end(&mut open)? {
            return Ok(());
        }
    }
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, Fault> {
        let byte = self.peek().ok_or(Fault::Syntax)?;
        self.at += 1;
        Ok(byte)
    }

    fn eat(&mut self, byte: u8) -> bool {
        let hit = self.peek() == Some(byte);
        self.at += usize::from(hit);
        hit
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.eat(byte) { Ok(()) } else { Err(Fault::Syntax) }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Reads a scalar (`false`), an empty array or object (`false`), or the start of a non-empty one (`true`).
    fn value_start(&mut self, open: &mut Open) -> Result<bool, Fault> {
        self.space();
        match self.next()? {
            b'{' => {
                open.push(true)?;
                self.space();
                if self.eat(b'}') {
                    open.pop();
                    return Ok(false);
                }
                self.key()?;
                Ok(true)
            }
            b'[' => {
                open.push(false)?;
                self.space();
                let empty = self.eat(b']');
                if empty {
                    open.pop();
                }
                Ok(!empty)
            }
            b'"' => self.string().map(|()| false),
            b't' => self.word("rue"),
            b'f' => self.word("alse"),
            b'n' => self.word("ull"),
            first @ (b'-' | b'0'..=b'9') => self.number(first).map(|()| false),
            _ => Err(Fault::Syntax),
        }
    }

    /// After a value: `true` at the end of the text, `false` if another value must follow.
    fn value_end(&mut self, open: &mut Open) -> Result<bool, Fault> {
        loop {
            self.space();
            if open.depth == 0 {
                return if self.at == self.text.len() {
                    Ok(true)
                } else {
                    Err(Fault::Syntax)
                };
            }
            match (self.next()?, open.in_object()) {
                (b',', true) => {
                    self.space();
                    self.key()?;
                    return Ok(false);
                }
                (b',', false) => return Ok(false),
                (b'}', true) | (b']', false) => open.pop(),
                _ => return Err(Fault::Syntax),
            }
        }
    }

    fn key(&mut self) -> Result<(), Fault> {
        self.expect(b'"')?;
        self.string()?;
        self.space();
        self.expect(b':')
    }

    fn word(&mut self, rest: &str) -> Result<bool, Fault> {
        for byte in rest.bytes() {
            self.expect(byte)?;
        }
        Ok(false)
    }

    fn digits(&mut self) -> Result<(), Fault> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(Fault::Syntax);
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self, first: u8) -> Result<(), Fault> {
        let start = self.at - 1;
        let digit = if first == b'-' { self.next()? } else { first };
        match digit {
            b'0' => {}
            b'1'..=b'9' if matches!(self.peek(), Some(b'0'..=b'9')) => self.digits()?,
            b'1'..=b'9' => {}
            _ => return Err(Fault::Syntax),
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _ = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        let value = self.text.get(start..self.at).and_then(|t| t.parse::<f64>().ok());
        if value.is_some_and(f64::is_finite) {
            Ok(())
        } else {
            Err(Fault::Syntax)
        }
    }

    /// After the opening quote.
    fn string(&mut self) -> Result<(), Fault> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                0..=0x1f => return Err(Fault::Syntax),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => match self.hex4()? {
                0xd800..=0xdbff => {
                    self.expect(b'\\')?;
                    self.expect(b'u')?;
                    if matches!(self.hex4()?, 0xdc00..=0xdfff) {
                        Ok(())
                    } else {
                        Err(Fault::Syntax)
                    }
                }
                0xdc00..=0xdfff => Err(Fault::Syntax),
                _ => Ok(()),
            },
            _ => Err(Fault::Syntax),
        }
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = char::from(self.next()?).to_digit(16).ok_or(Fault::Syntax)?;
            value = value * 16 + digit;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_agrees_with_a_json_parser() {
        let good = [
            "null",
            " true ",
            "-0",
            "0.5e-3",
            "1E5",
            "\"\"",
            "\"\\ud83d\\ude00\\n\"",
            "[]",
            "{}",
            "[1,[2],{}]",
            "{\"a\":{\"b\":[null,\"x\"]} , \"c\" :1}",
        ];
        let bad = [
            "",
            "nul",
            "01",
            "1.",
            "-",
            "+1",
            "1e",
            "1e999",
            "\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "[1,]",
            "[",
            "{\"a\"}",
            "{\"a\":1,}",
            "{a:1}",
            "[1}",
            "1 2",
            "\"\u{1}\"",
            "undefined",
            "NaN",
        ];
        for text in good {
            assert_eq!(check(text), Ok(()), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
        }
        for text in bad {
            assert_eq!(check(text), Err(Fault::Syntax), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nesting_is_limited_to_32_levels() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert_eq!(check(&nested(32)), Ok(()));
        assert_eq!(check(&nested(33)), Err(Fault::TooDeep));
        assert_eq!(check(&"{\"a\":".repeat(100_000)), Err(Fault::TooDeep));
    }
}
