//! Changes of text. A block of a rich text is a sequence of texts and inline objects; an object counts as one character.

use std::ops::Range;

use weft_render::{Attributes, PlaceError, Unit};
use weft_wire::limits::MAX_REPLACEMENTS_PER_CHANGE;
use yrs::branch::{Branch, BranchID, BranchPtr};
use yrs::types::text::YChange;
use yrs::{
    Any, Out, ReadTxn, Text as _, TextRef, TransactionMut, XmlElementRef, XmlFragment as _, XmlFragmentRef, XmlOut,
    XmlTextPrelim,
};

use super::super::compare::{branch_id, children};
use super::place::plain;
use super::{Editing, invalid, values};

/// The code unit that stands for an object.
const OBJECT: u16 = 0xfffc;

/// A text: one type, or the content of a block.
pub(in crate::engine) enum Block {
    Text(TextRef),
    Rich(XmlElementRef),
}

/// A part of a block's text.
enum Part {
    Text(TextRef),
    /// An object, with its index in the block.
    Object(u32),
}

/// The text of a block in UTF-16, with the parts that it consists of.
struct View {
    units: Vec<u16>,
    parts: Vec<(Part, Range<usize>)>,
}

impl View {
    fn new<T: ReadTxn>(block: &Block, txn: &T) -> Self {
        let mut view = Self {
            units: Vec::new(),
            parts: Vec::new(),
        };
        match block {
            Block::Text(text) => view.add(text.clone(), txn),
            Block::Rich(element) => {
                for (index, child) in (0..).zip(element.children(txn)) {
                    match child {
                        XmlOut::Text(text) => view.add(plain(&text), txn),
                        _ => {
                            let start = view.units.len();
                            view.units.push(OBJECT);
                            view.parts.push((Part::Object(index), start..start + 1));
                        }
                    }
                }
            }
        }
        view
    }

    fn add<T: ReadTxn>(&mut self, text: TextRef, txn: &T) {
        let start = self.units.len();
        self.units.extend(units_of(&text, txn));
        self.parts.push((Part::Text(text), start..self.units.len()));
    }

    /// The first text in which a position is: the part's index, the text, and the position in it.
    fn text_part_at(&self, at: usize) -> Option<(usize, TextRef, usize)> {
        let mut parts = self.parts.iter().enumerate();
        parts.find_map(|(index, (part, range))| match part {
            Part::Text(text) if range.start <= at && at <= range.end => Some((index, text.clone(), at - range.start)),
            _ => None,
        })
    }

    /// The character or object at a position.
    fn end_at<T: ReadTxn>(&self, block: &Block, txn: &T, at: usize) -> Option<End> {
        let (part, range) = self.parts.iter().find(|(_, range)| range.contains(&at))?;
        match (part, block) {
            (Part::Text(text), _) => Some(End::Text(text.clone(), number(at - range.start))),
            (Part::Object(index), Block::Rich(element)) => {
                let object = children(
                    &XmlFragmentRef::from(BranchPtr::from(AsRef::<Branch>::as_ref(element))),
                    txn,
                )
                .into_iter()
                .nth(usize::try_from(*index).ok()?)?;
                Some(End::Object(branch_id(element.as_ref()), object.id))
            }
            (Part::Object(_), Block::Text(_)) => None,
        }
    }

    /// A range in the request's unit as a range of code units.
    fn range(&self, unit: Unit, at: u32, length: u32) -> Result<Range<usize>, PlaceError> {
        let to = at.saturating_add(length);
        let outside = || PlaceError::Range {
            from: at,
            to,
            end: length_in(unit, &self.units),
        };
        let from = self.place(unit, at)?.ok_or_else(outside)?;
        let end = self.place(unit, to)?.ok_or_else(outside)?;
        Ok(from..end)
    }

    /// `None`: beyond the end.
    fn place(&self, unit: Unit, at: u32) -> Result<Option<usize>, PlaceError> {
        let wanted = usize::try_from(at).unwrap_or(usize::MAX);
        match unit {
            Unit::Codepoint => Ok(code_point_borders(&self.units).nth(wanted)),
            Unit::Utf16 if wanted > self.units.len() => Ok(None),
            Unit::Utf16 if is_inside(&self.units, wanted) => Err(PlaceError::InsideCharacter {
                at,
                before: at.saturating_sub(1),
                after: at.saturating_add(1),
            }),
            Unit::Utf16 => Ok(Some(wanted)),
        }
    }
}

/// A character or an object of a block.
pub(in crate::engine) enum End {
    /// A text, and the position of the character in it.
    Text(TextRef, u32),
    /// The block, and the object in it.
    Object(BranchID, BranchID),
}

/// The first and the last character of a range that is not empty, and its text.
pub(in crate::engine) fn quoted<T: ReadTxn>(
    block: &Block,
    txn: &T,
    unit: Unit,
    (from, to): (u32, u32),
) -> Result<(End, End, String), PlaceError> {
    let view = View::new(block, txn);
    let range = view.range(unit, from, to.saturating_sub(from))?;
    let end = |at: usize| view.end_at(block, txn, at).ok_or_else(|| invalid("the range is empty"));
    let units = view.units.get(range.clone()).unwrap_or_default();
    let quote = String::from_utf16_lossy(units);
    Ok((end(range.start)?, end(range.end.saturating_sub(1))?, quote))
}

/// The code units of a text.
pub(in crate::engine) fn units_of<T: ReadTxn>(text: &TextRef, txn: &T) -> Vec<u16> {
    let mut units = Vec::new();
    for run in text.diff(txn, YChange::identity) {
        match run.insert {
            Out::Any(Any::String(text)) => units.extend(text.encode_utf16()),
            _ => units.push(OBJECT),
        }
    }
    units
}

/// Whether a position is between the halves of a surrogate pair.
fn is_inside(units: &[u16], at: usize) -> bool {
    let unit = |at: usize| units.get(at).copied().unwrap_or_default();
    at > 0 && (0xd800..0xdc00).contains(&unit(at - 1)) && (0xdc00..0xe000).contains(&unit(at))
}

/// The positions before each code point, and the end.
fn code_point_borders(units: &[u16]) -> impl Iterator<Item = usize> {
    (0..=units.len()).filter(|at| !is_inside(units, *at))
}

/// The number of units of the request in a text.
pub(in crate::engine) fn length_in(unit: Unit, units: &[u16]) -> u32 {
    let length = match unit {
        Unit::Utf16 => units.len(),
        Unit::Codepoint => code_point_borders(units).count().saturating_sub(1),
    };
    number(length)
}

fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Editing {
    pub(super) fn insert(
        &mut self,
        block: &Block,
        txn: &mut TransactionMut<'_>,
        at: u32,
        text: &str,
        attributes: Option<&Attributes>,
    ) -> Result<(), PlaceError> {
        let view = View::new(block, txn);
        let at = view.range(self.unit, at, 0)?.start;
        let rich = matches!(block, Block::Rich(_));
        let attributes = attributes.map(|given| values::attributes(given, rich)).transpose()?;
        let (target, local) = self.text_at(block, &view, txn, at);
        self.touched
            .note(self.index, &target, local..local, text.encode_utf16().count());
        match attributes {
            None => target.insert(txn, number(local), text),
            Some(attributes) => target.insert_with_attributes(txn, number(local), text, attributes),
        }
        Ok(())
    }

    /// The text in which a position is, and the position in it. A block without a text at that place gets one.
    fn text_at(&self, block: &Block, view: &View, txn: &mut TransactionMut<'_>, at: usize) -> (TextRef, usize) {
        if let Some((_, text, local)) = view.text_part_at(at) {
            return (text, local);
        }
        match block {
            Block::Text(text) => (text.clone(), at),
            Block::Rich(element) => {
                let index = view.parts.iter().filter(|(_, range)| range.end <= at).count();
                (plain(&element.insert(txn, number(index), XmlTextPrelim::new(""))), 0)
            }
        }
    }

    pub(super) fn delete(
        &mut self,
        block: &Block,
        txn: &mut TransactionMut<'_>,
        at: u32,
        length: u32,
    ) -> Result<(), PlaceError> {
        let view = View::new(block, txn);
        let range = view.range(self.unit, at, length)?;
        self.remove(block, &view, txn, &range, None);
        Ok(())
    }

    /// Deletes a range, from its end so that earlier positions stay valid. `shift`: text of that length was inserted into that
    /// part, before the range.
    fn remove(
        &mut self,
        block: &Block,
        view: &View,
        txn: &mut TransactionMut<'_>,
        range: &Range<usize>,
        shift: Option<(usize, usize)>,
    ) {
        for (index, (part, place)) in view.parts.iter().enumerate().rev() {
            let (from, to) = (range.start.max(place.start), range.end.min(place.end));
            if from >= to {
                continue;
            }
            match (part, block) {
                (Part::Text(text), _) => {
                    let by = shift.filter(|(part, _)| *part == index).map_or(0, |(_, length)| length);
                    let local = by + from - place.start..by + to - place.start;
                    self.touched.note(self.index, text, local.clone(), 0);
                    text.remove_range(txn, number(local.start), number(local.len()));
                }
                (Part::Object(index), Block::Rich(element)) => element.remove_range(txn, *index, 1),
                (Part::Object(_), Block::Text(_)) => {}
            }
        }
    }

    pub(super) fn replace_range(
        &mut self,
        block: &Block,
        txn: &mut TransactionMut<'_>,
        (at, length): (u32, u32),
        text: &str,
    ) -> Result<(), PlaceError> {
        let view = View::new(block, txn);
        let range = view.range(self.unit, at, length)?;
        self.exchange(block, &view, txn, range, text);
        Ok(())
    }

    /// Replaces a range. The new text has the format of the first character that it replaces.
    fn exchange(&mut self, block: &Block, view: &View, txn: &mut TransactionMut<'_>, range: Range<usize>, text: &str) {
        let first = range.start + 1 + usize::from(is_inside(&view.units, range.start + 1));
        let length = text.encode_utf16().count();
        let within = view.text_part_at(first).filter(|_| !range.is_empty() && length > 0);
        let Some((part, target, local)) = within else {
            self.remove(block, view, txn, &range, None);
            let (target, local) = self.text_at(block, view, txn, range.start);
            self.touched.note(self.index, &target, local..local, length);
            target.insert(txn, number(local), text);
            return;
        };
        // Before anything is deleted: the engine inserts after deleted text, and so after what others wrote behind it.
        self.touched.note(self.index, &target, local..local, length);
        target.insert(txn, number(local), text);
        self.remove(block, view, txn, &(first..range.end), Some((part, length)));
        self.remove(block, view, txn, &(range.start..first), None);
    }

    pub(super) fn replace_found(
        &mut self,
        blocks: &[Block],
        txn: &mut TransactionMut<'_>,
        search: &str,
        count: Option<u32>,
        text: &str,
    ) -> Result<(), PlaceError> {
        let wanted: Vec<u16> = search.encode_utf16().collect();
        if wanted.is_empty() {
            return Err(invalid("the text to search is empty"));
        }
        let mut places = Vec::new();
        for block in blocks {
            let view = View::new(block, txn);
            let found = occurrences(&view.units, &wanted);
            places.push((block, found));
        }
        let found: usize = places.iter().map(|(_, found)| found.len()).sum();
        let expected = count.and_then(|count| usize::try_from(count).ok());
        if found == 0 || expected.is_some_and(|expected| expected != found) {
            return Err(PlaceError::Occurrences { found: number(found) });
        }
        if found > MAX_REPLACEMENTS_PER_CHANGE {
            let what = "the number of replacements".to_owned();
            let limit = MAX_REPLACEMENTS_PER_CHANGE;
            return Err(PlaceError::TooLarge { what, limit });
        }
        for (block, found) in places {
            let view = View::new(block, txn);
            // From the end, so that the view stays valid for what is left.
            for at in found.into_iter().rev() {
                self.exchange(block, &view, txn, at..at + wanted.len(), text);
            }
        }
        Ok(())
    }

    pub(super) fn format(
        &mut self,
        block: &Block,
        txn: &mut TransactionMut<'_>,
        (at, length): (u32, u32),
        attributes: &Attributes,
        rich_text: bool,
    ) -> Result<(), PlaceError> {
        let view = View::new(block, txn);
        let range = view.range(self.unit, at, length)?;
        let attributes = values::attributes(attributes, rich_text)?;
        for (part, place) in &view.parts {
            let (from, to) = (range.start.max(place.start), range.end.min(place.end));
            if let Part::Text(text) = part
                && from < to
            {
                let local = from - place.start..to - place.start;
                self.touched.note(self.index, text, local.clone(), local.len());
                text.format(txn, number(local.start), number(local.len()), attributes.clone());
            }
        }
        Ok(())
    }
}

/// The places of a text in another, from left to right, without overlaps and not within a character.
fn occurrences(units: &[u16], wanted: &[u16]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = units.get(at..).filter(|rest| rest.len() >= wanted.len()) {
        if rest.starts_with(wanted) && !is_inside(units, at) && !is_inside(units, at + wanted.len()) {
            found.push(at);
            at += wanted.len();
        } else {
            at += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occurrences_do_not_overlap_and_do_not_begin_within_a_character() {
        let units = |text: &str| text.encode_utf16().collect::<Vec<_>>();
        assert_eq!(occurrences(&units("aaaa"), &units("aa")), [0, 2]);
        assert_eq!(occurrences(&units("ab"), &units("abc")).len(), 0);
        assert_eq!(occurrences(&units("x\u{1f600}x"), &units("x")), [0, 3]);
        let low_half = units("\u{1f600}").get(1..).unwrap().to_vec();
        assert_eq!(occurrences(&units("\u{1f600}"), &low_half).len(), 0);
    }

    #[test]
    fn lengths_are_counted_in_the_unit_of_the_request() {
        let units: Vec<u16> = "a\u{1f600}b".encode_utf16().collect();
        assert_eq!(length_in(Unit::Utf16, &units), 4);
        assert_eq!(length_in(Unit::Codepoint, &units), 3);
    }
}
