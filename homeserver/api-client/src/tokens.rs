//! Pagination tokens: the positions up to which a sync was answered (`w1.…`), and a position in a room's timeline
//! (`t…`).
//!
//! Pure. Opaque to clients. Must not guess: a token of another kind or of a newer format is refused.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use weft_http::errors::{ApiError, ApiResult};
use weft_store::{Lane, LanePositions, Lanes, VisiblePositions};
use weft_wire::limits::{MAX_SYNC_LANES, MAX_SYNC_TOKEN_BYTES};

/// The first part of a sync token: the version of its format.
const VERSION: &str = "w1";
/// The era of a deployment in which nothing was ever lost, as tokens of earlier versions are.
const FIRST_ERA: u64 = 1;

/// The end of a sync answer: `w1.era.positions.unstored`. The parts after the era are numbers in LEB128, in base64.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SyncToken {
    /// The highest era of the lanes at that time. A lane with a later era may have lost what the client received.
    pub(crate) era: u64,
    /// Everything stored at or below these positions was sent. Of a lane without a position nothing was sent: the user had
    /// no room in it.
    pub(crate) positions: BTreeMap<Lane, u64>,
    /// What was sent of the data that is not stored.
    pub(crate) unstored: Unstored,
}

/// Typing and presence that were sent. The serials are those of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Unstored {
    /// The start of the process; of another one, the client has received nothing.
    pub(crate) incarnation: u64,
    /// Typing up to this serial was sent.
    pub(crate) typing: u64,
    /// Presence up to this serial was sent.
    pub(crate) presence: u64,
    /// The client received a list of typing users that was not empty.
    pub(crate) is_typing_shown: bool,
}

impl SyncToken {
    pub(crate) fn parse(text: &str) -> ApiResult<Self> {
        Self::read(text)
            .or_else(|| Self::of_earlier_version(text))
            .ok_or_else(|| ApiError::invalid_param("Unknown token."))
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() > MAX_SYNC_TOKEN_BYTES {
            return None;
        }
        let mut parts = text.split('.');
        let (version, era) = (parts.next()?, parts.next()?);
        let (positions, unstored) = (parts.next()?, parts.next()?);
        if version != VERSION || parts.next().is_some() {
            return None;
        }
        Some(Self {
            era: number(era)?,
            positions: read_positions(&URL_SAFE_NO_PAD.decode(positions).ok()?)?,
            unstored: read_unstored(&URL_SAFE_NO_PAD.decode(unstored).ok()?)?,
        })
    }

    /// `s<position>_<typing>_<presence>`, the last one optional: of a deployment with one lane. Its serials are of a process
    /// that has ended.
    fn of_earlier_version(text: &str) -> Option<Self> {
        let (position, others) = text.strip_prefix('s')?.split_once('_')?;
        let (typing, presence) = others.split_once('_').unwrap_or((others, "0"));
        number(presence)?;
        Some(Self {
            era: FIRST_ERA,
            positions: BTreeMap::from([(Lane::FIRST, number(position)?)]),
            unstored: Unstored {
                is_typing_shown: number(typing)? > 0,
                ..Unstored::default()
            },
        })
    }

    /// The token of an answer that is complete up to these positions in these lanes.
    pub(crate) fn new(
        all: &LanePositions,
        now: &VisiblePositions,
        lanes: impl IntoIterator<Item = Lane>,
        unstored: Unstored,
    ) -> Self {
        let eras = all.iter().map(weft_store::Positions::era);
        Self {
            era: eras.max().unwrap_or(FIRST_ERA),
            positions: lanes.into_iter().map(|lane| (lane, now.in_lane(lane))).collect(),
            unstored,
        }
    }

    /// Without the positions that mean nothing any more, so that the client begins anew in their lanes: those of an earlier
    /// era, and those that were never assigned, because the store is older than the token (a restored backup). `None` if no
    /// position is left.
    pub(crate) fn still_valid(mut self, all: &LanePositions) -> Option<Self> {
        // A token of an earlier version that names the first lane is of a deployment with one.
        self.positions.retain(|lane, position| {
            let positions = all.in_lane(*lane);
            all.lanes().has(*lane) && positions.era() <= self.era && *position <= positions.ceiling()
        });
        (!self.positions.is_empty()).then_some(self)
    }

    /// A lane in which the token is ahead of what is visible, and the position to wait for: the owner of the lane has
    /// changed, or this process has not read what another one has.
    pub(crate) fn ahead_of(&self, now: &VisiblePositions) -> Option<(Lane, u64)> {
        let mut positions = self.positions.iter().map(|(lane, position)| (*lane, *position));
        positions.find(|(lane, position)| *position > now.in_lane(*lane))
    }

    /// Everything of the lane at or below this position was sent; 0 if nothing was.
    pub(crate) fn in_lane(&self, lane: Lane) -> u64 {
        self.positions.get(&lane).copied().unwrap_or(0)
    }
}

impl std::fmt::Display for SyncToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mut positions, mut before) = (Vec::new(), 0);
        for (lane, position) in &self.positions {
            // The difference from the lane before: small numbers are short.
            let number = u64::from(lane.number());
            write_number(&mut positions, number.saturating_sub(before));
            write_number(&mut positions, *position);
            before = number;
        }
        let Unstored {
            incarnation,
            typing,
            presence,
            is_typing_shown,
        } = self.unstored;
        let mut unstored = Vec::new();
        for number in [incarnation, typing, presence, u64::from(is_typing_shown)] {
            write_number(&mut unstored, number);
        }
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        write!(f, "{VERSION}.{}.{}.{}", self.era, encode(&positions), encode(&unstored))
    }
}

fn number(text: &str) -> Option<u64> {
    // `parse` accepts a plus sign.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

fn read_positions(mut bytes: &[u8]) -> Option<BTreeMap<Lane, u64>> {
    let (mut positions, mut before) = (BTreeMap::new(), None);
    while !bytes.is_empty() {
        let step = read_number(&mut bytes)?;
        let number = match before {
            None => step,
            // Ascending: no lane twice.
            Some(before) if step > 0 => u64::checked_add(before, step)?,
            Some(_) => return None,
        };
        before = Some(number);
        let lane = Lane::new(u16::try_from(number).ok()?)?;
        positions.insert(lane, read_number(&mut bytes)?);
        if positions.len() > MAX_SYNC_LANES {
            return None;
        }
    }
    Some(positions)
}

fn read_unstored(mut bytes: &[u8]) -> Option<Unstored> {
    let unstored = Unstored {
        incarnation: read_number(&mut bytes)?,
        typing: read_number(&mut bytes)?,
        presence: read_number(&mut bytes)?,
        is_typing_shown: match read_number(&mut bytes)? {
            0 => false,
            1 => true,
            _ => return None,
        },
    };
    bytes.is_empty().then_some(unstored)
}

/// Bits of a number in one byte of LEB128; the highest bit says that more follow.
const GROUP_BITS: u32 = 7;
const MORE: u8 = 0x80;

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= GROUP_BITS;
        if number == 0 {
            return out.push(low & !MORE);
        }
        out.push(low | MORE);
    }
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0_u64, 0_u32);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & !MORE);
        let shifted = bits.checked_shl(shift)?;
        if shifted >> shift != bits {
            return None;
        }
        number |= shifted;
        if byte & MORE == 0 {
            return Some(number);
        }
        shift = shift.checked_add(GROUP_BITS)?;
    }
}

/// A position in a room's timeline: just before the event of this stream ordering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimelineToken(pub(crate) i64);

impl TimelineToken {
    /// Parses a timeline token, or a sync token of which the position in the room's lane counts.
    pub(crate) fn parse(text: &str, lane: Lane) -> ApiResult<Self> {
        let timeline = || text.strip_prefix('t')?.parse().ok().map(Self);
        match timeline() {
            Some(token) => Ok(token),
            None => SyncToken::parse(text).map(|token| Self::after(token.in_lane(lane))),
        }
    }

    /// The position after everything at or below a stream position.
    pub(crate) fn after(position: u64) -> Self {
        Self(i64::try_from(position).unwrap_or(i64::MAX).saturating_add(1))
    }
}

impl std::fmt::Display for TimelineToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// The deployments that tokens of earlier versions are of.
pub(crate) fn accepts(text: &str, lanes: Lanes) -> bool {
    lanes == Lanes::ONE || !text.starts_with('s')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lane(number: u16) -> Lane {
        Lane::new(number).unwrap()
    }

    fn tokens() -> impl Strategy<Value = SyncToken> {
        let positions = proptest::collection::btree_map(0_u16..4096, any::<u64>(), 0..MAX_SYNC_LANES);
        (any::<u64>(), positions, any::<(u64, u64, u64, bool)>()).prop_map(|(era, positions, unstored)| SyncToken {
            era,
            positions: positions.into_iter().map(|(number, at)| (lane(number), at)).collect(),
            unstored: Unstored {
                incarnation: unstored.0,
                typing: unstored.1,
                presence: unstored.2,
                is_typing_shown: unstored.3,
            },
        })
    }

    proptest! {
        #[test]
        fn tokens_are_read_back_unchanged(token in tokens()) {
            let text = token.to_string();
            prop_assert!(text.len() <= MAX_SYNC_TOKEN_BYTES);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
            prop_assert_eq!(SyncToken::parse(&text).unwrap(), token);
        }

        #[test]
        fn changed_tokens_are_refused_or_read(token in tokens(), at in any::<prop::sample::Index>(), with in "[ -~]") {
            let mut text = token.to_string();
            let at = at.index(text.len());
            text.replace_range(at..=at, &with);
            if let Ok(read) = SyncToken::parse(&text) {
                prop_assert_eq!(SyncToken::parse(&read.to_string()).unwrap(), read);
            }
            let cut: String = text.chars().take(at).collect();
            prop_assert!(SyncToken::parse(&cut).is_err() || cut.starts_with('s') || cut.matches('.').count() == 3);
        }

        #[test]
        fn any_text_is_refused_or_read(text in "[swt0-9._A-Za-z-]{0,40}") {
            if let Ok(token) = SyncToken::parse(&text) {
                prop_assert_eq!(SyncToken::parse(&token.to_string()).unwrap(), token);
            }
        }
    }

    #[test]
    fn a_token_of_fifty_rooms_is_short() {
        let positions = (0..50).map(|number| (lane(number * 80), 5_000_000)).collect();
        let token = SyncToken {
            era: 1,
            positions,
            unstored: Unstored::default(),
        };
        assert!(token.to_string().len() < 500, "{}", token.to_string().len());
    }

    #[test]
    fn tokens_of_earlier_versions_are_positions_of_the_first_lane() {
        let token = SyncToken::parse("s17_4_9").unwrap();
        assert_eq!(token.positions, BTreeMap::from([(lane(0), 17)]));
        assert!(token.unstored.is_typing_shown);
        assert_eq!(SyncToken::parse("s17_0").unwrap().unstored, Unstored::default());
        assert_eq!(TimelineToken::parse("s17_4", lane(0)).unwrap(), TimelineToken(18));
        assert!(accepts("s17_4", Lanes::ONE) && !accepts("s17_4", Lanes::new(2).unwrap()));
        for order in [-5, 0, 99] {
            let token = TimelineToken(order);
            assert_eq!(TimelineToken::parse(&token.to_string(), lane(3)).unwrap(), token);
        }
    }

    #[test]
    fn a_sync_token_is_a_place_in_the_timeline_of_a_room_in_any_lane() {
        let token = SyncToken {
            era: 1,
            positions: BTreeMap::from([(lane(3), 17)]),
            unstored: Unstored::default(),
        };
        let text = token.to_string();
        assert_eq!(TimelineToken::parse(&text, lane(3)).unwrap(), TimelineToken(18));
        assert_eq!(TimelineToken::parse(&text, lane(4)).unwrap(), TimelineToken(1));
    }

    #[test]
    fn invalid_tokens_are_refused() {
        let (twice, far) = (
            URL_SAFE_NO_PAD.encode([1, 5, 0, 5]),
            URL_SAFE_NO_PAD.encode([128, 32, 5]),
        );
        let huge = URL_SAFE_NO_PAD.encode([1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]);
        let none = URL_SAFE_NO_PAD.encode([0, 0, 0, 0]);
        for text in [
            "",
            "s",
            "s1",
            "s1_",
            "s-1_0",
            "s+1_0",
            "t",
            "tx",
            "17",
            "s99999999999999999999999_0",
            "s1_2_",
            "s1_2_x",
            "s1_2_3_4",
            "w1",
            "w1.1",
            "w1.1.",
            "w1.1..",
            "w1...AAAAAA",
            "w2.1..AAAAAA",
            "w1.1.A.AAAAAA",
            "w1.1.AQ.AAAAAA",
            "w1.1..AAAAAA.",
            "w1.1..AAAAAAA",
            "w1.+1..AAAAAA",
            &format!("w1.1.{twice}.{none}"),
            &format!("w1.1.{far}.{none}"),
            &format!("w1.1.{huge}.{none}"),
            &format!("w1.1..{}", URL_SAFE_NO_PAD.encode([0, 0, 0, 2])),
            &format!("w1.1..{}", URL_SAFE_NO_PAD.encode([0, 0, 0, 0, 0])),
            &"w".repeat(MAX_SYNC_TOKEN_BYTES + 1),
        ] {
            assert!(SyncToken::parse(text).is_err(), "{text}");
            assert!(TimelineToken::parse(text, lane(0)).is_err(), "{text}");
        }
        assert!(SyncToken::parse(&format!("w1.1..{none}")).is_ok());
    }
}
