//! The verification of one file, from its first line to its last. Must not go on after the first thing that is wrong.

use std::{collections::BTreeMap, io::BufRead};

use ruma::{OwnedEventId, OwnedServerName};
use weft_dag::{RoomVersion, StateView, VerifyKeys};
use weft_wire::{
    audit::{AUDIT_FORMAT, AuditCut, AuditEnd, AuditHeader},
    document::{DocumentContent, DocumentKind},
    event_types,
    limits::MAX_AUDIT_HEADS,
};

use crate::{
    Doubt, Failed, Report, Rule, Witness, Wrong,
    keys::Keys,
    lines::{Line, Lines},
    log::Log,
    signatures::{Checked, Received, Room, check_all},
};

/// Events that are checked at a time.
const BATCH_EVENTS: usize = 1_024;
/// Bytes of these events.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// How to verify.
#[derive(Debug, Default)]
pub struct Options {
    /// Only these keys are trusted, and those of the file are not.
    pub pinned: Option<VerifyKeys>,
    /// Keeps all events in memory, which is needed if two of them claim the same clocks ([`Failed::ClaimedTwice`]).
    pub keep_events: bool,
    /// Keeps the text, for [`Report::text`].
    pub keep_text: bool,
}

/// How far a verification is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Events that were judged.
    pub events: u64,
    /// Bytes that were read.
    pub bytes: u64,
}

/// Verifies a file. Memory grows by some 300 bytes an event, and by the state events, with
/// [`Options::keep_events`] by all events, with [`Options::keep_text`] by the text.
///
/// # Errors
/// The first thing that is wrong, or why nothing can be judged.
pub fn verify(reader: impl BufRead, options: Options, mut progress: impl FnMut(Progress)) -> Result<Report, Failed> {
    let mut lines = Lines::new(reader);
    let mut keys = Keys::new(options.pinned);
    let header = header(&mut lines, &mut keys)?;
    let room = room(&header)?;
    let mut log = Log::new(room.clone(), options.keep_events, options.keep_text);
    let mut waiting = Vec::new();
    loop {
        let mut batch = Batch::default();
        let after = batch.read(&mut lines, &mut keys);
        let place = || place_all(&mut log, std::mem::take(&mut waiting));
        let (checked, placed) = check_all(&batch.events, &room, keys.usable(), place);
        placed?;
        progress(Progress {
            events: log.events_placed,
            bytes: lines.bytes(),
        });
        waiting = batch.in_order(checked);
        match after {
            Ok(After::More) => {}
            Ok(After::End(end)) => {
                place_all(&mut log, waiting)?;
                return finish(header, log, &keys, &lines, &end);
            }
            // What is wrong in the lines before it comes first.
            Err(error) => {
                place_all(&mut log, waiting)?;
                return Err(error);
            }
        }
    }
}

fn header<R: BufRead>(lines: &mut Lines<R>, keys: &mut Keys) -> Result<AuditHeader, Failed> {
    let Some((line, _)) = lines.next()? else {
        return Err(truncated(lines).into());
    };
    let Line::Header(header) = line else {
        return Err(lines.wrong("the first line is not that of an audit file").into());
    };
    if header.weft_audit != AUDIT_FORMAT {
        return Err(Failed::Unjudged(Doubt::Format(header.weft_audit)));
    }
    take_keys(lines, keys, &header.keys)?;
    Ok(header)
}

fn room(header: &AuditHeader) -> Result<Room, Failed> {
    let version = RoomVersion::new(&header.room_version);
    Ok(Room {
        id: header.room_id.clone(),
        version: version.map_err(|error| Failed::Unjudged(Doubt::RoomVersion(error.0)))?,
    })
}

fn take_keys<R: BufRead>(
    lines: &Lines<R>,
    keys: &mut Keys,
    stated: &weft_wire::audit::AuditKeys,
) -> Result<(), Failed> {
    keys.take(stated).map_err(|why| {
        Failed::from(Wrong {
            line: lines.number(),
            event: None,
            rule: Rule::Key,
            why,
        })
    })
}

fn truncated<R: BufRead>(lines: &Lines<R>) -> Wrong {
    Wrong {
        line: lines.number(),
        event: None,
        rule: Rule::Truncated,
        why: "the file ends here, without its last line".to_owned(),
    }
}

/// What follows a batch.
enum After {
    More,
    End(AuditEnd),
}

/// Lines that are checked together.
#[derive(Default)]
struct Batch {
    events: Vec<Received>,
    /// With the number of events before each.
    cuts: Vec<(usize, u64, AuditCut)>,
}

/// An event or a cut, in the order of the file.
enum Item {
    Event(Result<Checked, Wrong>),
    Cut(u64, AuditCut),
}

impl Batch {
    fn read<R: BufRead>(&mut self, lines: &mut Lines<R>, keys: &mut Keys) -> Result<After, Failed> {
        let mut bytes = 0;
        while self.events.len() < BATCH_EVENTS && bytes < BATCH_BYTES {
            let Some((line, size)) = lines.next()? else {
                return Err(truncated(lines).into());
            };
            bytes += size;
            match line {
                Line::Header(_) => return Err(lines.wrong("a second first line").into()),
                Line::Keys(stated) => take_keys(lines, keys, &stated)?,
                Line::Cut(cut) => self.cuts.push((self.events.len(), lines.number(), cut)),
                Line::End(end) => {
                    return match lines.next()? {
                        None => Ok(After::End(end)),
                        Some(_) => Err(lines.wrong("a line after the last one").into()),
                    };
                }
                Line::Event { event_id, pdu, before } => self.events.push(Received {
                    line: lines.number(),
                    event_id,
                    pdu,
                    before,
                }),
            }
        }
        Ok(After::More)
    }

    fn in_order(self, checked: Vec<Result<Checked, Wrong>>) -> Vec<Item> {
        let mut items = Vec::with_capacity(checked.len() + self.cuts.len());
        let mut cuts = self.cuts.into_iter().peekable();
        for (at, event) in checked.into_iter().enumerate() {
            while let Some((_, line, cut)) = cuts.next_if(|(before, ..)| *before <= at) {
                items.push(Item::Cut(line, cut));
            }
            items.push(Item::Event(event));
        }
        items.extend(cuts.map(|(_, line, cut)| Item::Cut(line, cut)));
        items
    }
}

fn place_all(log: &mut Log, items: Vec<Item>) -> Result<(), Failed> {
    for item in items {
        match item {
            Item::Event(checked) => log.place(checked?)?,
            Item::Cut(line, cut) => log.cut(line, &cut)?,
        }
    }
    Ok(())
}

/// Compares the log with the last line.
fn finish<R: BufRead>(
    header: AuditHeader,
    mut log: Log,
    keys: &Keys,
    lines: &Lines<R>,
    end: &AuditEnd,
) -> Result<Report, Failed> {
    let wrong = |event: Option<OwnedEventId>, rule: Rule, why: String| {
        let line = lines.number();
        Failed::from(Wrong { line, event, rule, why })
    };
    let stated = u64::from(end.events);
    if stated != log.events_placed {
        let why = format!(
            "the file has {} events, and its last line says {stated}",
            log.events_placed
        );
        return Err(wrong(None, Rule::Count, why));
    }
    if let Some((event, why)) = log.rejected_head() {
        return Err(wrong(Some(event), Rule::Authorisation, why));
    }
    let heads = log.heads();
    if heads.len() > MAX_AUDIT_HEADS {
        return Err(Failed::Unjudged(Doubt::TooMany {
            what: "heads",
            limit: MAX_AUDIT_HEADS as u64,
        }));
    }
    if let Some(event) = difference(&heads, &end.heads) {
        let why = "a head of the log that the last line does not name, or the reverse".to_owned();
        return Err(wrong(Some(event), Rule::Heads, why));
    }
    let (doubts, redacted) = log.doubts();
    let text = log.take_text().map(crate::text::Text::finish);
    // Without the content of an update the text is another one.
    let text = text.filter(|_| !doubts.iter().any(|doubt| matches!(doubt, Doubt::Content { .. })));
    let hash = text.as_ref().map(|text| &text.state_hash);
    if let (Some(stated), Some(hash)) = (&end.state_hash, hash)
        && stated != hash
    {
        return Err(wrong(None, Rule::StateHash, format!("the text has the hash {hash}")));
    }
    let state = log.state_at(&heads);
    Ok(Report {
        room_id: header.room_id,
        room_version: header.room_version,
        server: header.server,
        events: log.events_placed,
        before: log.before,
        updates: text.as_ref().map_or(0, |text| text.updates),
        rejected: log.rejected,
        redacted,
        servers: state.as_ref().map(|state| state.joined_servers().into_iter().collect()),
        kind: state.as_ref().map(kind),
        heads,
        last_line: lines.number(),
        text_hash_stated: end.text_hash.clone(),
        state_hash_stated: end.state_hash.is_some() && text.is_some(),
        disputed: text.as_ref().is_some_and(|text| text.disputed),
        state_hash: text.as_ref().map(|text| text.state_hash.clone()),
        text: text.and_then(|text| text.text),
        keys: keys.listed(),
        witnesses: witnesses(&log),
        doubts,
    })
}

fn witnesses(log: &Log) -> BTreeMap<OwnedServerName, Witness> {
    let confirmed = log.confirmed().into_iter();
    let witness = |(server, (statement, events)): (OwnedServerName, (crate::log::Statement, u64))| {
        let crate::log::Statement { event, at } = statement;
        (server, Witness { event, at, events })
    };
    confirmed.map(witness).collect()
}

/// A room without a valid `dev.weft.document` is shown as text.
fn kind(state: &StateView) -> DocumentKind {
    let content = state.get(event_types::DOCUMENT, "");
    let content = content.and_then(|pdu| pdu.content_as::<DocumentContent>().ok());
    content.map_or(DocumentKind::Text, |content| content.kind)
}

/// An event that is in one of the lists and not in the other, or twice in the second.
fn difference(ours: &[OwnedEventId], stated: &[OwnedEventId]) -> Option<OwnedEventId> {
    let mut stated = stated.to_vec();
    stated.sort_unstable();
    let twice = stated.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(one.clone()),
        _ => None,
    });
    let missing = ours.iter().find(|id| stated.binary_search(id).is_err());
    let extra = stated.iter().find(|id| ours.binary_search(id).is_err());
    twice.or_else(|| missing.or(extra).cloned())
}
