//! A collection: a name, the types of its fields, how it fits a table, its rule.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::authorize::{Authorizer, OpenToEveryone};
use crate::cursor::hash;
use crate::record::{CREATED_AT, Fields, RecordId, UPDATED_AT};
use crate::schema::{FieldType, Schema, only, strings};

/// Messages per field: what is wrong with it.
pub type FieldErrors = BTreeMap<String, Vec<String>>;

type Validator = Arc<dyn Fn(Option<&Fields>, &Fields) -> Result<(), FieldErrors> + Send + Sync>;

/// Records of one kind in one table of the app.
///
/// ```
/// use fieldsync::Collection;
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default, Serialize, Deserialize, JsonSchema)]
/// #[serde(default, deny_unknown_fields)]
/// struct User {
///     #[schemars(length(max = 100))]
///     first_name: String,
///     #[schemars(length(max = 100))]
///     last_name: String,
/// }
///
/// let users = Collection::of::<User>("users").timestamps().open_to_everyone();
/// assert_eq!(users.fields().len(), 4);
/// ```
#[derive(Clone)]
pub struct Collection {
    name: Arc<str>,
    table: String,
    key_column: String,
    ids: Ids,
    fields: Vec<Field>,
    creatable: bool,
    rule: Option<Arc<dyn Authorizer>>,
    validator: Option<Validator>,
    fault: Option<String>,
    /// Of the fields and their types; made when it is first asked for.
    schema_hash: OnceLock<u32>,
}

/// Where the ids of new records come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ids {
    /// Integers that the database gives.
    Integer,
    /// UUIDs version 7 (RFC 9562) that the engine gives.
    UuidV7,
}

/// One field of a collection, and the column of the same name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Field {
    /// The name, on the wire and in the table.
    pub name: String,
    /// The type, and whether null is allowed.
    pub schema: Schema,
    /// What a new record gets when nothing is said; without one the field is required on creation.
    pub default: Option<Value>,
    /// Set by the server alone: `created_at`, `updated_at`.
    pub set_by_server: bool,
}

impl Collection {
    /// Takes the fields, their types, lengths, defaults and nullability from the type's JSON Schema.
    ///
    /// serde's `rename` is the name of the field on the wire and of its column. A type that does not fit
    /// (see [`FieldType`] for what does) stops [`EngineBuilder::start`](crate::EngineBuilder::start).
    #[must_use]
    pub fn of<T: JsonSchema>(name: &str) -> Self {
        Self::from_schema(name, &schemars::schema_for!(T).to_value())
    }

    /// Takes the fields from a JSON Schema (draft 2020-12) of an object.
    ///
    /// Understood are the types string (`maxLength`, `enum`, the formats date-time, date, uuid), integer and
    /// number (`minimum`, `maximum`), boolean, object, array, each with null, `default` and `$ref`. Any other keyword
    /// stops [`EngineBuilder::start`](crate::EngineBuilder::start).
    #[must_use]
    pub fn from_schema(name: &str, schema: &Value) -> Self {
        let (fields, fault) = match read_fields(schema) {
            Ok(fields) => (fields, None),
            Err(fault) => (Vec::new(), Some(fault)),
        };
        let mut collection = Self {
            name: name.into(),
            table: name.into(),
            key_column: "id".into(),
            ids: Ids::Integer,
            fields,
            creatable: true,
            rule: None,
            validator: None,
            fault,
            schema_hash: OnceLock::new(),
        };
        collection.check_names();
        collection
    }

    /// Adds `created_at` and `updated_at`, set by the server.
    #[must_use]
    pub fn timestamps(mut self) -> Self {
        for name in [CREATED_AT, UPDATED_AT] {
            self.fields.push(Field {
                name: name.into(),
                schema: Schema {
                    kind: FieldType::DateTime,
                    nullable: false,
                },
                default: None,
                set_by_server: true,
            });
        }
        self.check_names();
        self
    }

    /// Keeps the records in this table; without it the table has the collection's name.
    #[must_use]
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self.check_names();
        self
    }

    /// Keeps the id in this column; without it the column is `id`. On the wire it is always `id`.
    #[must_use]
    pub fn key(mut self, column: impl Into<String>) -> Self {
        self.key_column = column.into();
        self.check_names();
        self
    }

    /// Gives new records a UUID version 7 in place of an integer from the database.
    #[must_use]
    pub fn uuid_ids(mut self) -> Self {
        self.ids = Ids::UuidV7;
        self
    }

    /// Refuses to create records, for a table where others create them.
    #[must_use]
    pub fn no_create(mut self) -> Self {
        self.creatable = false;
        self
    }

    /// Lets everybody read and write everything, logged in or not.
    #[must_use]
    pub fn open_to_everyone(self) -> Self {
        self.authorize(OpenToEveryone)
    }

    /// Lets this rule decide who may do what.
    #[must_use]
    pub fn authorize(mut self, rule: impl Authorizer) -> Self {
        self.rule = Some(Arc::new(rule));
        self
    }

    /// Checks every new state of a record before it is stored. It gets the record before (none when it is created)
    /// and after, and answers with messages per field; any message refuses the edit with 422.
    ///
    /// It runs inside the transaction, on the current row, and so must be quick and must not block. It may run more
    /// than once for one edit.
    ///
    /// ```
    /// # use fieldsync::{Collection, FieldErrors};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # #[serde(default)]
    /// # struct Booking { seats: u32, taken: u32 }
    /// let bookings = Collection::of::<Booking>("bookings").validate(|_before: Option<&Booking>, after: &Booking| {
    ///     if after.taken > after.seats {
    ///         return Err(FieldErrors::from([("taken".into(), vec!["more than there are seats".into()])]));
    ///     }
    ///     Ok(())
    /// });
    /// ```
    #[must_use]
    pub fn validate<T, F>(mut self, check: F) -> Self
    where
        T: DeserializeOwned,
        F: Fn(Option<&T>, &T) -> Result<(), FieldErrors> + Send + Sync + 'static,
    {
        let read = |fields: &Fields| {
            serde_json::from_value::<T>(Value::Object(fields.clone())).map_err(|_| {
                FieldErrors::from([(
                    String::new(),
                    vec!["the record does not fit the app's type".into()],
                )])
            })
        };
        self.validator = Some(Arc::new(move |before, after| {
            // A row that others wrote may not fit the type; then there is no typed `before`.
            let before = before.and_then(|before| read(before).ok());
            check(before.as_ref(), &read(after)?)
        }));
        self
    }

    /// The collection's name, as in topics and paths.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The table; `schema.table` where the database has schemas.
    #[must_use]
    pub fn table_name(&self) -> &str {
        &self.table
    }

    /// The column of the id.
    #[must_use]
    pub fn key_column(&self) -> &str {
        &self.key_column
    }

    /// Where new ids come from.
    #[must_use]
    pub fn ids(&self) -> Ids {
        self.ids
    }

    /// The fields, those set by the server last.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Whether records can be created.
    #[must_use]
    pub fn is_creatable(&self) -> bool {
        self.creatable
    }

    /// Reads an id in its canonical form: `1`, not `01`.
    #[must_use]
    pub fn parse_id(&self, text: &str) -> Option<RecordId> {
        let id = match self.ids {
            Ids::Integer => RecordId::Integer(text.parse().ok()?),
            Ids::UuidV7 => RecordId::Uuid(text.parse().ok()?),
        };
        (id.to_string() == text).then_some(id)
    }

    pub(crate) fn rule(&self) -> Option<&Arc<dyn Authorizer>> {
        self.rule.as_ref()
    }

    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Tells other fields and types apart, the same on every node.
    pub(crate) fn schema_hash(&self) -> u32 {
        *self.schema_hash.get_or_init(|| {
            let fields = self.fields.iter();
            let fields = fields.map(|field| format!("{} {:?}", field.name, field.schema));
            hash(&fields.collect::<Vec<_>>().join("\n"))
        })
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Runs the app's own check, over the app's own fields.
    pub(crate) fn run_validator(
        &self,
        before: Option<&Fields>,
        after: &Fields,
    ) -> Result<(), FieldErrors> {
        match &self.validator {
            Some(validator) => validator(
                before.map(|before| self.own_fields(before)).as_ref(),
                &self.own_fields(after),
            ),
            None => Ok(()),
        }
    }

    /// The fields without those set by the server.
    pub(crate) fn own_fields(&self, fields: &Fields) -> Fields {
        let own = self.fields.iter().filter(|field| !field.set_by_server);
        own.filter_map(|field| Some((field.name.clone(), fields.get(&field.name)?.clone())))
            .collect()
    }

    fn check_names(&mut self) {
        let mut seen = std::collections::HashSet::from([self.key_column.to_lowercase()]);
        let doubled = self
            .fields
            .iter()
            .find(|field| !seen.insert(field.name.to_lowercase()));
        let fault = if !is_path_segment(&self.name) {
            Some(format!(
                "its name {:?} must be of letters, digits, '_' and '-'",
                self.name
            ))
        } else if self.table.to_lowercase().starts_with("fieldsync_") {
            Some(format!(
                "its table {:?} begins with fieldsync_, which is kept for fieldsync's own tables",
                self.table
            ))
        } else if let Some(field) = self.fields.iter().find(|field| field.name == "id") {
            Some(format!(
                "field {:?} stands in the type, but the id is added by fieldsync: leave it out",
                field.name
            ))
        } else if let Some(field) = doubled {
            Some(format!(
                "field {:?} stands twice (the id, created_at and updated_at count)",
                field.name
            ))
        } else {
            let unfit = self.fields.iter().find(|field| {
                field.name.is_empty() || field.name.len() > 63 || field.name.contains('\0')
            });
            unfit.map(|field| {
                format!(
                    "field {:?} has a name that is no column: 1 to 63 bytes, no NUL",
                    field.name
                )
            })
        };
        self.fault = self.fault.take().or(fault);
    }
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collection")
            .field("name", &self.name)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

fn is_path_segment(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn read_fields(schema: &Value) -> Result<Vec<Field>, String> {
    let root = schema.as_object().ok_or("its schema is not an object")?;
    only(
        root,
        &[
            "type",
            "properties",
            "required",
            "additionalProperties",
            "$defs",
            "definitions",
        ],
    )?;
    if root.get("type").and_then(Value::as_str) != Some("object") {
        return Err("its schema is not of type object".into());
    }
    if !matches!(
        root.get("additionalProperties"),
        None | Some(Value::Bool(false))
    ) {
        return Err(
            "additionalProperties is supported inside a field alone: every field needs a column"
                .into(),
        );
    }
    let nothing = Map::new();
    let definitions = root
        .get("$defs")
        .or_else(|| root.get("definitions"))
        .and_then(Value::as_object);
    let required = strings(root.get("required"));
    let properties = root
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&nothing);
    properties
        .iter()
        .map(|(name, property)| {
            read_field(name, property, definitions.unwrap_or(&nothing), &required)
        })
        .collect()
}

fn read_field(
    name: &str,
    property: &Value,
    definitions: &Map<String, Value>,
    required: &[String],
) -> Result<Field, String> {
    let fault = |message: String| format!("field {name:?}: {message}");
    let schema = Schema::parse(property, definitions).map_err(fault)?;
    let default = match property.get("default") {
        Some(default) => Some(
            schema
                .check(default)
                .map_err(|message| fault(format!("its default {message}")))?,
        ),
        None if schema.nullable && !required.iter().any(|one| one == name) => Some(Value::Null),
        None => None,
    };
    Ok(Field {
        name: name.into(),
        schema,
        default,
        set_by_server: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Role {
        #[default]
        Member,
        /// May do more.
        Admin,
    }

    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Person {
        #[schemars(length(max = 100))]
        name: String,
        #[serde(rename = "kind")]
        role: Role,
        former_role: Option<Role>,
        age: Option<u8>,
        tags: Vec<String>,
    }

    #[test]
    fn a_type_gives_its_fields() {
        let people = Collection::of::<Person>("people");
        assert_eq!(people.fault(), None);
        let describe = |field: &Field| {
            (
                field.name.clone(),
                field.schema.nullable,
                field.default.clone().unwrap(),
            )
        };
        let described: Vec<_> = people.fields().iter().map(describe).collect();
        assert_eq!(
            described,
            [
                ("age".into(), true, json!(null)),
                ("former_role".into(), true, json!(null)),
                ("kind".into(), false, json!("member")),
                ("name".into(), false, json!("")),
                ("tags".into(), false, json!([])),
            ]
        );
        let one_of = Some(vec!["member".into(), "admin".into()]);
        assert_eq!(
            people.field("former_role").unwrap().schema.kind,
            FieldType::Text {
                max_length: None,
                one_of
            }
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let fault = |schema: Value| {
            Collection::from_schema("x", &schema)
                .fault()
                .unwrap()
                .to_owned()
        };
        assert!(
            fault(json!({"type":"object","properties":{"a":{"type":"string","pattern":"x"}}}))
                .contains("field \"a\": keyword \"pattern\"")
        );
        assert!(
            fault(json!({"type":"object","properties":{"id":{"type":"integer"}}}))
                .contains("leave it out")
        );
        assert!(fault(json!({"type":"object","properties":{"A":{"type":"integer"},"a":{"type":"integer"}}})).contains("twice"));
        assert!(
            fault(json!({"type":"object","properties":{"a":{"type":"integer","default":"x"}}}))
                .contains("its default")
        );
        assert!(fault(json!({"type":"string"})).contains("not of type object"));
    }

    #[test]
    fn ids_are_canonical() {
        let people = Collection::of::<Person>("people");
        assert_eq!(people.parse_id("7"), Some(RecordId::Integer(7)));
        for text in ["07", "+7", "7.0", "", "abc", "9223372036854775808"] {
            assert_eq!(people.parse_id(text), None, "{text}");
        }
        let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert!(people.clone().uuid_ids().parse_id(uuid).is_some());
        assert_eq!(people.uuid_ids().parse_id(&uuid.to_uppercase()), None);
    }
}
