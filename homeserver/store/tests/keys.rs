//! Keys: the order of their bytes is the order of the tuples, and the rows under a prefix are exactly the rows with
//! that prefix.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a panic fails the test

use bytes::Bytes;
use proptest::prelude::*;
use weft_store::key::{AsPart, Key, KeyError, Part};
use weft_store::{KeyRange, Scope, Table};

static ROWS: Table<(String, u64, i64, Vec<u8>), ()> = Table::new("ROWS", Scope::Global, 0x7F01);
static SCOPED: Table<(String, String, u32), Bytes> = Table::new("SCOPED", Scope::Room, 0x7F02);

fn text() -> impl Strategy<Value = String> {
    // Few letters, so that equal strings, prefixes and zero bytes are frequent.
    proptest::collection::vec(
        prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), Just('b'), Just('\u{10FFFF}')],
        0..5,
    )
    .prop_map(|letters| letters.into_iter().collect())
}

fn raw() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(254), Just(255)], 0..5)
}

fn within(range: &KeyRange, key: &Bytes) -> bool {
    *key >= range.start && range.end.as_ref().is_none_or(|end| key < end)
}

proptest! {
    #[test]
    fn bytes_sort_like_their_tuples(
        a in (text(), 0_u64..3, any::<i64>(), raw()),
        b in (text(), 0_u64..3, any::<i64>(), raw()),
    ) {
        prop_assert_eq!(a.cmp(&b), ROWS.physical(&a).cmp(&ROWS.physical(&b)));
    }

    #[test]
    fn keys_are_read_back_unchanged(key in (text(), any::<u64>(), any::<i64>(), raw())) {
        let bytes = ROWS.physical(&key);
        prop_assert_eq!(Key::decode(ROWS.layout(), &bytes), Ok(key));
    }

    #[test]
    fn prefixes_are_exact(a in (text(), text(), 0_u32..3), b in (text(), text(), 0_u32..3)) {
        let key = SCOPED.physical(&b);
        let one = KeyRange::prefix(SCOPED.physical(&a).slice(..prefix_length(&a.0, None)), 1);
        prop_assert_eq!(within(&one, &key), a.0 == b.0);
        let two = KeyRange::prefix(SCOPED.physical(&a).slice(..prefix_length(&a.0, Some(&a.1))), 1);
        prop_assert_eq!(within(&two, &key), a.0 == b.0 && a.1 == b.1);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _: Result<(String, u64, i64, Vec<u8>), KeyError> = Key::decode(ROWS.layout(), &bytes);
        let _: Result<(String, String, u32), KeyError> = Key::decode(SCOPED.layout(), &bytes);
        let mut rest = bytes.as_slice();
        if let Ok(part) = Vec::<u8>::read(&mut rest) {
            let mut again = Vec::new();
            part.write(&mut again);
            prop_assert_eq!(again.as_slice(), &bytes[..bytes.len() - rest.len()]);
        }
    }
}

/// Scope tag, first part, table tag, and the second part if it is given.
fn prefix_length(first: &String, second: Option<&String>) -> usize {
    let mut bytes = Vec::new();
    AsPart::<String>::write(first, &mut bytes);
    if let Some(second) = second {
        AsPart::<String>::write(second, &mut bytes);
    }
    1 + 2 + bytes.len()
}
