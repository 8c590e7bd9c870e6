//! Records, their ids and keys.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::model::timestamp::Timestamp;
use crate::model::typed::typed;

/// The fields of a record by name, as JSON values. The id is not one of them.
///
/// Inside a JSON column a number may have more digits than a double. In `Fields` it is a string: NUL, then its digits.
/// [`to_json`](crate::to_json) writes it as the number that it is; the app's own types get it as `serde_json` reads it.
pub type Fields = Map<String, Value>;

/// The id of a record within its collection.
///
/// ```
/// use fieldsync::RecordId;
/// assert_eq!(RecordId::from(7).to_string(), "7");
/// assert_eq!(serde_json::to_string(&RecordId::from(7)).unwrap(), "7");
/// ```
///
/// As JSON it is a number or a string. An integer beyond ±(2^53 − 1) is a string of digits: JSON readers would round it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RecordId {
    /// An integer.
    Integer(i64),
    /// A UUID (RFC 9562).
    Uuid(Uuid),
    /// Text. That of a key of several columns has their values, separated by commas; in each, `%` is `%25` and `,` is `%2C`.
    Text(Arc<str>),
}

impl Serialize for RecordId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(number) => integer_value(*number).serialize(serializer),
            Self::Uuid(uuid) => uuid.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// A string of digits is an integer if it is beyond ±(2^53 − 1), and text otherwise.
impl<'de> Deserialize<'de> for RecordId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Json {
            Integer(i64),
            Text(String),
        }
        let text = match Json::deserialize(deserializer)? {
            Json::Integer(number) => return Ok(Self::Integer(number)),
            Json::Text(text) => text,
        };
        let integer = text.parse().ok().map(Self::Integer);
        let uuid = || text.parse().ok().map(Self::Uuid);
        let is_written_so = |id: &Self| serde_json::to_value(id).is_ok_and(|json| json == *text);
        let typed = integer.or_else(uuid).filter(is_written_so);
        Ok(typed.unwrap_or_else(|| Self::Text(text.into())))
    }
}

/// The text of an id of several columns with these values.
#[must_use]
pub fn join_composite<T: AsRef<str>>(parts: impl IntoIterator<Item = T>) -> String {
    let encode = |part: T| part.as_ref().replace('%', "%25").replace(',', "%2C");
    parts.into_iter().map(encode).collect::<Vec<_>>().join(",")
}

/// The values in the text of an id of several columns. `None` if [`join_composite`] does not make it.
#[must_use]
pub fn split_composite(text: &str) -> Option<Vec<String>> {
    let decode = |part: &str| part.replace("%2C", ",").replace("%25", "%");
    let parts: Vec<String> = text.split(',').map(decode).collect();
    (join_composite(&parts) == text).then_some(parts)
}

impl RecordId {
    /// The number, if the id is an integer.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Uuid(_) | Self::Text(_) => None,
        }
    }

    /// The text, if the id is text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Integer(_) | Self::Uuid(_) => None,
        }
    }

    /// The UUID, if the id is a UUID.
    #[must_use]
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Self::Uuid(uuid) => Some(*uuid),
            Self::Integer(_) | Self::Text(_) => None,
        }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Uuid(uuid) => uuid.hyphenated().fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<i64> for RecordId {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<&str> for RecordId {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<&i64> for RecordId {
    fn from(number: &i64) -> Self {
        Self::Integer(*number)
    }
}

impl From<&Self> for RecordId {
    fn from(id: &Self) -> Self {
        id.clone()
    }
}

impl From<Uuid> for RecordId {
    fn from(uuid: Uuid) -> Self {
        Self::Uuid(uuid)
    }
}

/// Identifies one record by its collection and its id. Displayed as `users/1`.
///
/// ```
/// use fieldsync::RecordKey;
/// assert_eq!(RecordKey::from(("users", 1)).to_string(), "users/1");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    /// The name of the collection.
    pub collection: Arc<str>,
    /// The id within the collection.
    pub id: RecordId,
}

impl RecordKey {
    /// The key of the record with this id in this collection.
    pub fn new(collection: impl Into<Arc<str>>, id: impl Into<RecordId>) -> Self {
        Self {
            collection: collection.into(),
            id: id.into(),
        }
    }
}

impl<C: Into<Arc<str>>, I: Into<RecordId>> From<(C, I)> for RecordKey {
    fn from((collection, id): (C, I)) -> Self {
        Self::new(collection, id)
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection, self.id)
    }
}

/// One row: its id and all its fields, including those that the server sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The id within its collection.
    pub id: RecordId,
    /// Every field of the collection, by name.
    pub fields: Fields,
}

/// A record as the app's own type, with the fields that the server adds.
///
/// `Stored<Fields>` reads any collection without a type of its own.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stored<T> {
    /// The id within its collection.
    pub id: RecordId,
    /// When the record was created, in collections with timestamps. `None` where the column holds no time.
    pub created_at: Option<Timestamp>,
    /// When the record last changed, in collections with timestamps. `None` where the column holds no time.
    pub updated_at: Option<Timestamp>,
    /// The app's own fields.
    pub fields: T,
}

impl Record {
    /// Reads the record of a collection with timestamps as the app's own type. `created_at` and `updated_at` are not passed to
    /// the type.
    ///
    /// # Errors
    /// Returns an error if the fields do not deserialize as `T`.
    pub fn typed<T: DeserializeOwned>(self) -> Result<Stored<T>, serde_json::Error> {
        self.typed_with_timestamps(Some(CREATED_AT), Some(UPDATED_AT))
    }

    /// Reads a record of a collection whose timestamps have these names. Any other field is the app's own.
    pub(crate) fn typed_with_timestamps<T: DeserializeOwned>(
        self,
        created_at: Option<&str>,
        updated_at: Option<&str>,
    ) -> Result<Stored<T>, serde_json::Error> {
        let Self { id, mut fields } = self;
        // Another program may have written something else. That must not make the record unreadable.
        let mut time = |name: Option<&str>| serde_json::from_value(fields.remove(name?)?).ok();
        Ok(Stored {
            created_at: time(created_at),
            updated_at: time(updated_at),
            id,
            fields: typed(fields)?,
        })
    }
}

/// The highest integer that every JSON reader represents exactly (RFC 7493, section 2.2).
pub(crate) const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// The canonical form of an integer: a number, or a string where JSON readers would round the number.
#[must_use]
pub fn integer_value(number: i64) -> Value {
    if number.unsigned_abs() <= MAX_SAFE_INTEGER.unsigned_abs() {
        number.into()
    } else {
        number.to_string().into()
    }
}

/// The number of bytes that a value has as JSON.
pub(crate) fn json_size(value: &impl Serialize) -> usize {
    struct Counter(usize);

    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).expect("JSON values can be written as JSON");
    counter.0
}

/// The approximate number of bytes that fields take in memory.
pub(crate) fn size_of_fields(fields: &Fields) -> usize {
    fields
        .iter()
        .map(|(name, value)| name.len() + 32 + size_of_value(value))
        .sum()
}

/// The approximate number of bytes that a value takes in memory, besides its own 32.
pub(crate) fn size_of_value(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| 32 + size_of_value(item)).sum(),
        Value::Object(members) => size_of_fields(members),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

pub(crate) const CREATED_AT: &str = "created_at";
pub(crate) const UPDATED_AT: &str = "updated_at";
