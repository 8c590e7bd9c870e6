//! The text of cursors, and of places in a snapshot, as clients keep it: sealed by AES-SIV (RFC 5297), so that clients can
//! neither read nor make it. Equal places have equal texts.

use std::fmt;
use std::sync::Arc;

use aes_siv::siv::{Aes128Siv, IV_SIZE};
use aes_siv::{KeyInit as _, Tag};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::cursor::{CURSOR_BYTES, Place};
use crate::model::cursor_key::CursorKey;

/// What is sealed, and in which version.
const DOMAIN: &[u8] = b"cursor/1";

/// What the id of a key is made from.
const ID_DOMAIN: &[u8] = b"cursor key/1";

/// The first bytes of the id of a key, by which a text says what it was sealed with.
type KeyId = [u8; 4];

/// The keys of an engine. The first one seals, and each of them opens. A clone is cheap.
#[derive(Clone, Default)]
pub(crate) struct CursorKeys(Arc<[(KeyId, CursorKey)]>);

/// Why a text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// The text is not a cursor.
    #[error("malformed cursor")]
    Malformed,
    /// The cursor can't be opened: it was sealed with a key that the engine does not have, it is from another collection, or it
    /// was forged. A subscriber with such a cursor starts with a snapshot.
    #[error("the cursor is from another collection, was sealed with another key, or was forged")]
    Key,
}

impl CursorKeys {
    pub(crate) fn new(keys: impl IntoIterator<Item = CursorKey>) -> Self {
        let with_id = |key: CursorKey| {
            let tag = seal_in_place(&key, [ID_DOMAIN], &mut []);
            (std::array::from_fn(|at| tag[at]), key)
        };
        Self(keys.into_iter().map(with_id).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of a place in a collection.
    pub(crate) fn seal(&self, collection: &str, place: &Place) -> String {
        let (id, key) = self.0.first().expect("an engine has a key");
        let mut bytes = place.to_bytes();
        let tag = seal_in_place(key, [DOMAIN, collection.as_bytes()], &mut bytes);
        URL_SAFE_NO_PAD.encode([&id[..], &tag, &bytes].concat())
    }

    /// Reads the text of a place in a collection.
    ///
    /// Where it can't be opened, it may be the plain text of an earlier version, which has as many bytes as a place at least.
    pub(crate) fn open(&self, collection: &str, text: &str) -> Result<Place, CursorError> {
        let decoded = URL_SAFE_NO_PAD.decode(text);
        let bytes = decoded.map_err(|_| CursorError::Malformed)?;
        if bytes.len() < CURSOR_BYTES {
            return Err(CursorError::Malformed);
        }
        let opened = self.try_keys([DOMAIN, collection.as_bytes()], &bytes);
        let opened = opened.as_deref().and_then(Place::from_bytes);
        opened.ok_or(CursorError::Key)
    }

    fn try_keys(&self, headers: [&[u8]; 2], bytes: &[u8]) -> Option<Vec<u8>> {
        let (id, sealed) = bytes.split_first_chunk()?;
        let (tag, sealed) = sealed.split_first_chunk::<IV_SIZE>()?;
        let mut keys = self.0.iter().filter(|(known, _)| known == id);
        keys.find_map(|(_, key)| {
            let mut place = sealed.to_vec();
            let buffer = place.as_mut_slice().into();
            let opened = cipher(key).decrypt_inout_detached(headers, buffer, &Tag::from(*tag));
            opened.ok().map(|()| place)
        })
    }
}

fn seal_in_place<const N: usize>(key: &CursorKey, headers: [&[u8]; N], bytes: &mut [u8]) -> Tag {
    let sealed = cipher(key).encrypt_inout_detached(headers, bytes.into());
    sealed.expect("there are fewer headers than the limit")
}

fn cipher(key: &CursorKey) -> Aes128Siv {
    Aes128Siv::new(key.as_bytes().into())
}

impl fmt::Debug for CursorKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys of cursors", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::cursor::{Cursor, Position, Resume, Shape};

    fn key(byte: u8) -> CursorKey {
        [byte; 32].into()
    }

    fn keys<const N: usize>(bytes: [u8; N]) -> CursorKeys {
        CursorKeys::new(bytes.map(key))
    }

    fn cursor(offset: u64) -> Cursor {
        Cursor {
            position: Position {
                epoch: 1,
                offset,
                tag: 3,
            },
            shape: Shape { schema: 4, view: 5 },
        }
    }

    fn at(offset: u64) -> Place {
        Place::Cursor(cursor(offset))
    }

    fn in_snapshot(after: &str) -> Place {
        Place::InSnapshot(Resume {
            cursor: cursor(2),
            after: after.to_owned(),
        })
    }

    #[test]
    fn a_place_is_opened_from_its_text() {
        let keys = keys([1]);
        for place in [at(0), at(7), in_snapshot("7"), in_snapshot("a b/é")] {
            let text = keys.seal("users", &place);
            assert_eq!(keys.open("users", &text), Ok(place));
        }
    }

    #[test]
    fn the_text_is_pinned() {
        let text = keys([1]).seal("users", &at(2));
        assert_eq!(
            text,
            "a3q2Fze6nz0KIXqGIB7LKsaCbvLbtJmE1b-BWfhVD5-uoLx_p10Z7lbD8vsXrmU1"
        );
        let uuid = "00000000-0000-7000-8000-000000000000";
        let lengths = [at(u64::MAX / 2), in_snapshot("7"), in_snapshot(uuid)];
        let lengths = lengths.map(|place| keys([1]).seal("users", &place).len());
        assert_eq!(lengths, [64, 86, 128]);
    }

    #[test]
    fn equal_places_have_equal_texts_and_others_have_nothing_in_common() {
        let keys = keys([1]);
        let texts: Vec<String> = (0..100)
            .map(|offset| keys.seal("users", &at(offset)))
            .collect();
        assert_eq!(keys.seal("users", &at(7)), texts[7]);
        for (number, text) in texts.iter().enumerate() {
            for other in &texts[..number] {
                // All begin with the id of the key: 32 bits, and so five characters.
                assert_ne!(text[6..14], other[6..14]);
                assert_ne!(text[56..], other[56..]);
            }
        }
    }

    #[test]
    fn a_text_of_another_collection_or_key_is_not_opened() {
        let text = keys([1]).seal("users", &at(2));
        for (collection, keys) in [
            ("user", keys([1])),
            ("users", keys([2])),
            ("users", keys([])),
        ] {
            assert_eq!(keys.open(collection, &text), Err(CursorError::Key));
        }
    }

    #[test]
    fn the_first_key_seals_and_every_key_opens() {
        let (old, both, new) = (keys([1]), keys([1, 2]), keys([2, 1]));
        let (by_old, by_new) = (old.seal("users", &at(2)), new.seal("users", &at(2)));
        assert_eq!(both.seal("users", &at(2)), by_old);
        assert_ne!(by_old, by_new);
        for keys in [&both, &new] {
            assert_eq!(keys.open("users", &by_old), Ok(at(2)));
            assert_eq!(keys.open("users", &by_new), Ok(at(2)));
        }
        assert_eq!(old.open("users", &by_new), Err(CursorError::Key));
    }

    #[test]
    fn a_plain_cursor_of_an_earlier_version_is_not_opened() {
        for place in [at(0), in_snapshot("7"), in_snapshot("a longer text")] {
            let plain = URL_SAFE_NO_PAD.encode(place.to_bytes());
            assert_eq!(keys([1]).open("users", &plain), Err(CursorError::Key));
        }
    }

    #[test]
    fn other_text_is_malformed() {
        let sealed = keys([1]).seal("users", &at(2));
        let too_short = URL_SAFE_NO_PAD.encode([0; 27]);
        let with_space = sealed.replace(&sealed[9..10], " ");
        for text in [
            "",
            "x",
            "nonsense",
            &sealed[1..30],
            &too_short,
            &with_space,
            "é",
        ] {
            let opened = keys([1]).open("users", text);
            assert_eq!(opened, Err(CursorError::Malformed), "{text}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let keys = keys([0xAB, 0xCD]);
        assert_eq!(
            format!("{keys:?} {:?}", key(0xAB)),
            "2 keys of cursors CursorKey"
        );
    }

    proptest! {
        #[test]
        fn no_text_but_its_own_opens_a_place(
            offset in 0..u64::MAX / 2,
            after in proptest::option::of("\\PC{0,40}"),
            text in "[A-Za-z0-9_-]{0,200}|\\PC{0,100}",
            (number, bit) in (0..1000_usize, 0..8_u8),
        ) {
            let place = after.map_or_else(|| at(offset), |after| in_snapshot(&after));
            let sealed = keys([1]).seal("users", &place);
            let opens = |text: &str| keys([2, 1]).open("users", text);
            prop_assert_eq!(opens(&sealed), Ok(place));
            prop_assert!(opens(&text).is_err());
            let mut bytes = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
            let number = number % bytes.len();
            bytes[number] ^= 1_u8 << bit;
            prop_assert_eq!(opens(&URL_SAFE_NO_PAD.encode(&bytes)), Err(CursorError::Key));
            bytes.truncate(number);
            prop_assert!(opens(&URL_SAFE_NO_PAD.encode(&bytes)).is_err());
        }
    }
}
