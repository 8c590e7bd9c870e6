//! Identities: hashes of a versioned canonical encoding, equal on every node and in every build.
//!
//! An identity must not depend on `Debug` output, on the order of a map, or on features of other crates, such as
//! `serde_json/preserve_order`. Each part is therefore written with a type byte and its length, and the members of an
//! object in the order of their names. The domain and its version come first: an encoding that changes gets a new
//! version.

use serde_json::Value;

/// Hashes the parts of one identity, in order.
pub(crate) struct CanonicalHasher(sha1_smol::Sha1);

impl CanonicalHasher {
    /// Starts an identity. The domain keeps identities of different kinds apart, for example `edit/1`.
    pub(crate) fn new(domain: &str) -> Self {
        let mut hasher = Self(sha1_smol::Sha1::new());
        hasher.text(domain);
        hasher
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.part(b's', text.as_bytes());
    }

    pub(crate) fn number(&mut self, number: i128) {
        self.part(b'i', number.to_string().as_bytes());
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.part(b'b', &[u8::from(flag)]);
    }

    /// Opens a list of this many elements, which the caller writes next.
    pub(crate) fn list(&mut self, length: usize) {
        self.part(b'[', &(length as u64).to_be_bytes());
    }

    /// Writes whether there is a value. When there is one, the caller writes it next.
    pub(crate) fn option<T>(&mut self, value: Option<T>) -> Option<T> {
        self.part(b'?', &[u8::from(value.is_some())]);
        value
    }

    /// A number with a fraction, by its bits. `-0.0` and `0.0` differ.
    pub(crate) fn float(&mut self, float: f64) {
        self.part(b'f', &float.to_bits().to_be_bytes());
    }

    pub(crate) fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.part(b'n', &[]),
            Value::Bool(flag) => self.flag(*flag),
            Value::String(text) => self.text(text),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(whole), _, _) => self.number(whole.into()),
                (None, Some(whole), _) => self.number(whole.into()),
                (None, None, Some(float)) => self.float(float),
                // Only with the feature `arbitrary_precision` of serde_json.
                (None, None, None) => self.part(b'd', number.to_string().as_bytes()),
            },
            Value::Array(items) => {
                self.list(items.len());
                items.iter().for_each(|item| self.json(item));
            }
            Value::Object(members) => self.object(members),
        }
    }

    pub(crate) fn object(&mut self, members: &serde_json::Map<String, Value>) {
        let mut members: Vec<_> = members.iter().collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        self.part(b'{', &(members.len() as u64).to_be_bytes());
        for (name, value) in members {
            self.text(name);
            self.json(value);
        }
    }

    /// The identity as 40 hexadecimal digits.
    pub(crate) fn hex(self) -> String {
        self.0.digest().to_string()
    }

    /// The identity's first 32 bits.
    pub(crate) fn bits(self) -> u32 {
        let [a, b, c, d, ..] = self.0.digest().bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// The identity's first 128 bits.
    pub(crate) fn wide_bits(self) -> u128 {
        let mut first = [0; 16];
        first.copy_from_slice(&self.0.digest().bytes()[..16]);
        u128::from_be_bytes(first)
    }

    fn part(&mut self, kind: u8, bytes: &[u8]) {
        self.0.update(&[kind]);
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hex(value: &Value) -> String {
        let mut hasher = CanonicalHasher::new("test/1");
        hasher.json(value);
        hasher.hex()
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let mut forward = serde_json::Map::new();
        forward.insert("a".into(), json!(1));
        forward.insert("b".into(), json!([null, true]));
        let backward: serde_json::Map<_, _> = forward.clone().into_iter().rev().collect();
        assert_eq!(hex(&Value::Object(forward)), hex(&Value::Object(backward)));
    }

    #[test]
    fn different_values_have_different_identities() {
        let values = [
            json!(null),
            json!(false),
            json!(0),
            json!(0.0),
            json!(-0.0),
            json!(""),
            json!("0"),
            json!([]),
            json!({}),
            json!(["a", "b"]),
            json!(["ab"]),
            json!([["a"], "b"]),
            json!([["a", "b"]]),
            json!({"a": "b"}),
            json!({"a": {"b": null}}),
            json!({"a": null, "b": null}),
            json!(u64::MAX),
            json!(i64::MIN),
        ];
        let identities: std::collections::HashSet<_> = values.iter().map(hex).collect();
        assert_eq!(identities.len(), values.len());
    }

    #[test]
    fn the_encoding_is_pinned() {
        let value =
            json!({"name": "Ada", "tags": ["x", 1, 1.5, null, true], "address": {"zip": "53111"}});
        assert_eq!(hex(&value), "3bf09ab7c66a97ef8d6bd37e10d5105ee6811b87");
    }
}
