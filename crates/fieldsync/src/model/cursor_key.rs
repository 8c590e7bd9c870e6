//! The keys that cursors are sealed with.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A key that cursors are sealed with: 32 random bytes. As text it has 64 hexadecimal digits, as `openssl rand -hex 32` prints
/// them.
///
/// It is secret: whoever has it can make cursors. Its `Debug` output does not show it.
///
/// ```
/// use fieldsync::CursorKey;
///
/// # let variable = "8f".repeat(32);
/// let key: CursorKey = variable.parse()?;
/// assert_eq!(format!("{key:?}"), "CursorKey");
/// # Ok::<(), fieldsync::MalformedCursorKey>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct CursorKey([u8; 32]);

impl CursorKey {
    /// A new key.
    #[must_use]
    pub fn random() -> Self {
        // Each half of the key has 122 random bits.
        let halves = [Uuid::new_v4(), Uuid::new_v4()];
        let mut key = [0; 32];
        for (part, half) in key.chunks_mut(16).zip(halves) {
            part.copy_from_slice(half.as_bytes());
        }
        Self(key)
    }

    /// Its bytes, for a store that keeps it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for CursorKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CursorKey")
    }
}

/// The text is not a [`CursorKey`]. The message does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed key of cursors: expected 64 hexadecimal digits")]
pub struct MalformedCursorKey;

impl FromStr for CursorKey {
    type Err = MalformedCursorKey;

    fn from_str(text: &str) -> Result<Self, MalformedCursorKey> {
        let mut key = [0; 32];
        if text.len() != 2 * key.len() {
            return Err(MalformedCursorKey);
        }
        for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            for digit in pair {
                let digit = char::from(*digit).to_digit(16).ok_or(MalformedCursorKey)?;
                *byte = *byte << 4 | digit as u8;
            }
        }
        Ok(Self(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_64_digits() {
        let digits = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
        let expected: Vec<u8> = (0..32).collect();
        assert_eq!(
            digits.parse::<CursorKey>().unwrap().as_bytes()[..],
            expected
        );
        for wrong in [&digits[1..], "", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(
                wrong.parse::<CursorKey>(),
                Err(MalformedCursorKey),
                "{wrong}"
            );
        }
    }

    #[test]
    fn random_keys_differ() {
        assert_ne!(CursorKey::random(), CursorKey::random());
    }
}
