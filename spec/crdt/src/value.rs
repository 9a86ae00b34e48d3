//! Skips lib0 values ("Any") without building them. One pass; must not recurse.

use crate::lib0::Reader;
use crate::parse::{Malformed, ParseError};

/// The number of values left at one open level, and whether each has a key.
#[derive(Clone, Copy)]
struct Level {
    left: u64,
    keyed: bool,
}

/// Skips one value that is nested at most `nesting` levels.
pub(crate) fn skip_any_within(r: &mut Reader<'_>, nesting: u32) -> Result<(), ParseError> {
    // Most values are scalars: no levels are allocated for them.
    let Some(level) = skip_one(r)? else { return Ok(()) };
    let mut open = vec![level];
    while let Some(top) = open.last_mut() {
        if top.left == 0 {
            open.pop();
            continue;
        }
        top.left -= 1;
        if top.keyed {
            r.var_str().map_err(|e| ParseError::lib0(r, e))?;
        }
        if let Some(level) = skip_one(r)? {
            if open.len() >= nesting as usize {
                return Err(ParseError::at(r, Malformed::ValueTooDeep));
            }
            open.push(level);
        }
    }
    Ok(())
}

/// Skips a scalar, or the head of an array or object.
fn skip_one(r: &mut Reader<'_>) -> Result<Option<Level>, ParseError> {
    let tag = r.u8().map_err(|e| ParseError::lib0(r, e))?;
    let scalar = match tag {
        127 | 126 | 121 | 120 => Ok(()),
        125 => r.var_int().map(|_| ()),
        124 => r.take(4).map(|_| ()),
        123 | 122 => r.take(8).map(|_| ()),
        119 => r.var_str().map(|_| ()),
        116 => r.var_bytes().map(|_| ()),
        118 | 117 => {
            let left = r.var_uint().map_err(|e| ParseError::lib0(r, e))?;
            return Ok(Some(Level {
                left,
                keyed: tag == 118,
            }));
        }
        _ => return Err(ParseError::at(r, Malformed::UnknownValue(tag))),
    };
    scalar.map(|()| None).map_err(|e| ParseError::lib0(r, e))
}
