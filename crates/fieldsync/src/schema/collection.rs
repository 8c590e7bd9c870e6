//! A collection: a name, its fields, the table that stores them, and the app's rules. The fields are read from a JSON
//! Schema in `json_schema`; the app's closures are in `hooks`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use schemars::JsonSchema;
use serde_json::Value;

use crate::model::canonical::CanonicalHasher;
use crate::model::cursor::Shape;
use crate::model::record::{CREATED_AT, Fields, RecordId, UPDATED_AT};
use crate::schema::authorizer::Authorizer;
use crate::schema::field::{Field, Ids, IdsGivenBy, SetBy};
use crate::schema::field_type::{FieldType, Schema};
use crate::schema::grant::Grant;
use crate::schema::hooks::Hooks;
use crate::schema::json_schema::read_fields;
use crate::schema::names::name_fault;
use crate::schema::queryable::Queryable;
use crate::schema::reads::Reads;
use crate::schema::rules::Rules;

/// Records of one kind, stored in one table of the app.
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
    pub(super) name: Arc<str>,
    pub(super) table: String,
    pub(super) key_columns: Vec<String>,
    pub(super) ids: Ids,
    pub(super) ids_given_by: IdsGivenBy,
    pub(super) fields: Vec<Field>,
    pub(super) creatable: bool,
    pub(super) writable: bool,
    pub(super) adds_missing_columns: bool,
    pub(super) capture: Option<CaptureChoice>,
    pub(super) shows_database_messages: bool,
    pub(super) authorizer: Option<Arc<dyn Authorizer>>,
    /// If the authorizer is rules as data.
    pub(super) rules: Option<Arc<Rules>>,
    /// The fields that decide which records a principal may read. `None`: any may.
    pub(super) deciding_fields: Option<BTreeSet<String>>,
    /// What the app says of its authorizer.
    pub(super) declared_fields: Option<Arc<BTreeSet<String>>>,
    pub(super) queryable: Queryable,
    /// What the rules read besides the principal.
    pub(super) reads: Vec<Reads>,
    pub(super) hooks: Hooks,
    /// Why the engine can't start with this collection.
    pub(super) fault: Option<String>,
    /// Computed on first use.
    pub(super) schema_identity: OnceLock<u32>,
}

/// Whether changes that the engine did not make are captured: [`Collection::capture`] or
/// [`Collection::without_capture`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureChoice {
    /// Every change of the table is announced.
    On,
    /// Only the engine's own changes are announced.
    Off,
}

impl Collection {
    /// Reads the fields, with their types, lengths, defaults and nullability, from the JSON Schema of a type.
    ///
    /// serde's `rename` sets the name of a field on the wire and of its column. [`FieldType`] lists the supported
    /// types. With any other type [`EngineBuilder::start`](crate::EngineBuilder::start) returns an error.
    #[must_use]
    pub fn of<T: JsonSchema>(name: &str) -> Self {
        Self::from_schema(name, &schemars::schema_for!(T).to_value())
    }

    /// Reads the fields from a JSON Schema (draft 2020-12) of an object.
    ///
    /// The supported types are string (with `maxLength`, `enum` and the formats date-time, date and uuid), integer and
    /// number (with `minimum` and `maximum`), boolean, object and array, each also with null, `default` and `$ref`.
    /// With any other keyword [`EngineBuilder::start`](crate::EngineBuilder::start) returns an error.
    #[must_use]
    pub fn from_schema(name: &str, schema: &Value) -> Self {
        let (fields, fault) = match read_fields(schema) {
            Ok(fields) => (fields, None),
            Err(fault) => (Vec::new(), Some(fault)),
        };
        let mut collection = Self {
            name: name.into(),
            table: name.into(),
            key_columns: vec!["id".into()],
            ids: Ids::Integer,
            ids_given_by: IdsGivenBy::Database,
            fields,
            creatable: true,
            writable: true,
            adds_missing_columns: false,
            capture: None,
            shows_database_messages: false,
            authorizer: None,
            rules: None,
            deciding_fields: None,
            declared_fields: None,
            queryable: Queryable::default(),
            reads: Vec::new(),
            hooks: Hooks::default(),
            fault,
            schema_identity: OnceLock::new(),
        };
        collection.check_names();
        collection
    }

    /// Gives the collection another name than its table has.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self.check_names();
        self
    }

    /// Adds the fields `created_at` and `updated_at`, which the server sets.
    #[must_use]
    pub fn timestamps(mut self) -> Self {
        self.add_timestamp(CREATED_AT, SetBy::CreatedAt);
        self.add_timestamp(UPDATED_AT, SetBy::UpdatedAt);
        self
    }

    /// Sets the times of a record's creation and of its last change in the columns with these names. Without this and
    /// [`Collection::timestamps`] no field is ever set unasked.
    ///
    /// A field of this name that the collection already has, with the format date-time, is set by the server from now on;
    /// otherwise the field is added.
    #[must_use]
    pub fn timestamps_as(mut self, created_at: &str, updated_at: &str) -> Self {
        for (name, set_by) in [
            (created_at, SetBy::CreatedAt),
            (updated_at, SetBy::UpdatedAt),
        ] {
            let own = self.fields.iter_mut().find(|field| field.name == name);
            match own {
                Some(own) if own.schema.kind == FieldType::DateTime => own.set_by = set_by,
                Some(_) => {
                    let fault =
                        format!("field {name:?} can't be a timestamp: it is not a date-time");
                    self.fault.get_or_insert(fault);
                }
                None => self.add_timestamp(name, set_by),
            }
        }
        self
    }

    fn add_timestamp(&mut self, name: &str, set_by: SetBy) {
        self.fields.push(Field {
            set_by,
            is_own: false,
            ..Field::new(name, Schema::new(FieldType::DateTime, false))
        });
        self.check_names();
    }

    /// Sends clients the messages of the errors that the app's triggers raise: `raise exception 'too many seats'`, or
    /// `raise(abort, 'too many seats')` in SQLite. By default they are only logged, since they may contain stored values.
    #[must_use]
    pub fn show_database_messages(mut self) -> Self {
        self.shows_database_messages = true;
        self
    }

    /// The name of the collection, as in topics and paths.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The name of the table. It may be `schema.table` if the database has schemas.
    #[must_use]
    pub fn table_name(&self) -> &str {
        &self.table
    }

    /// The names of the columns that store the ids. If there are several, they are also fields.
    #[must_use]
    pub fn key_columns(&self) -> &[String] {
        &self.key_columns
    }

    /// The kind of the record ids.
    #[must_use]
    pub fn ids(&self) -> Ids {
        self.ids
    }

    /// What gives new records their ids.
    #[must_use]
    pub fn ids_given_by(&self) -> IdsGivenBy {
        self.ids_given_by
    }

    /// The fields. Those that the server sets come last.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Whether edits may create records.
    #[must_use]
    pub fn is_creatable(&self) -> bool {
        self.creatable
    }

    /// Whether edits may change records.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether columns are added to an existing table.
    #[must_use]
    pub fn adds_missing_columns(&self) -> bool {
        self.adds_missing_columns
    }

    /// What the app chose about capture, if it did.
    #[must_use]
    pub fn capture_choice(&self) -> Option<CaptureChoice> {
        self.capture
    }

    /// Whether clients receive the messages of the errors that the app's triggers raise.
    #[must_use]
    pub fn shows_database_messages(&self) -> bool {
        self.shows_database_messages
    }

    /// Parses a record id. `None` unless the text is the canonical form of an id of this collection: `1`, not `01`.
    #[must_use]
    pub fn parse_id(&self, text: &str) -> Option<RecordId> {
        let id = match self.ids {
            Ids::Integer => RecordId::Integer(text.parse().ok()?),
            Ids::UuidV7 => RecordId::Uuid(text.parse().ok()?),
            Ids::Text => RecordId::Text(text.into()),
        };
        (id.to_string() == text && self.has_id_kind(&id)).then_some(id)
    }

    pub(crate) fn authorizer(&self) -> Option<&Arc<dyn Authorizer>> {
        self.authorizer.as_ref()
    }

    pub(crate) fn ruled_by(&self) -> Option<&Rules> {
        self.rules.as_deref()
    }

    /// Why the engine can't start with this collection.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// The shape of cursors under this grant. A subscriber can only resume from a cursor of this shape.
    pub(crate) fn shape(&self, grant: &Grant) -> Shape {
        Shape {
            schema: self.schema_identity(),
            view: grant.identity(),
        }
    }

    /// The identity of the fields and their types.
    fn schema_identity(&self) -> u32 {
        *self.schema_identity.get_or_init(|| {
            let mut hasher = CanonicalHasher::new("schema/1");
            // The order of the fields depends on serde_json's feature `preserve_order`.
            let mut fields: Vec<_> = self.fields.iter().collect();
            fields.sort_unstable_by_key(|field| &field.name);
            hasher.list(fields.len());
            for field in fields {
                hasher.text(&field.name);
                field.schema.identify(&mut hasher);
            }
            hasher.bits()
        })
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The field that is set like this.
    pub(crate) fn field_set_by(&self, set_by: SetBy) -> Option<&Field> {
        self.fields.iter().find(|field| field.set_by == set_by)
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Whether everybody may read every record.
    pub(crate) fn is_open_to_everyone(&self) -> bool {
        let deciding = self.deciding_fields.as_ref();
        self.rules.is_none() && deciding.is_some_and(BTreeSet::is_empty)
    }

    /// Whether a value of this field may decide who may read a record.
    pub(crate) fn decides_rows(&self, field: &str) -> bool {
        let declared = self.declared_fields.as_deref();
        let deciding = self.deciding_fields.as_ref().or(declared);
        deciding.is_none_or(|fields| fields.contains(field))
    }

    /// Of these fields, those that the app defines, without those that the server sets.
    pub(crate) fn own_fields(&self, fields: &Fields) -> Fields {
        let own = self.fields.iter().filter(|field| field.is_own);
        own.filter_map(|field| Some((field.name.clone(), fields.get(&field.name)?.clone())))
            .collect()
    }

    pub(super) fn check_names(&mut self) {
        let fault = name_fault(&self.name, &self.table, &self.key_columns, &self.fields);
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

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Role {
        #[default]
        Member,
        /// May edit every record.
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
    fn fields_are_read_from_a_type() {
        let people = Collection::of::<Person>("people");
        assert_eq!(people.fault(), None);
        let describe = |field: &Field| {
            (
                field.name.clone(),
                field.schema.nullable,
                field.default.clone().unwrap(),
            )
        };
        let mut described: Vec<_> = people.fields().iter().map(describe).collect();
        described.sort_by(|(one, ..), (other, ..)| one.cmp(other));
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
    fn an_unsupported_schema_is_an_error_that_names_the_problem() {
        let fault = |schema: Value| {
            Collection::from_schema("x", &schema)
                .fault()
                .unwrap()
                .to_owned()
        };
        assert!(
            fault(json!({"type":"object","properties":{"a":{"type":"integer","multipleOf":2}}}))
                .contains("field \"a\": keyword \"multipleOf\"")
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
    fn only_canonical_ids_are_parsed() {
        let people = Collection::of::<Person>("people");
        assert_eq!(people.parse_id("7"), Some(RecordId::Integer(7)));
        for text in ["07", "+7", "7.0", "", "abc", "9223372036854775808"] {
            assert_eq!(people.parse_id(text), None, "{text}");
        }
        let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert!(people.clone().uuid_ids().parse_id(uuid).is_some());
        assert_eq!(people.uuid_ids().parse_id(&uuid.to_uppercase()), None);
    }

    /// When shapes change, every subscriber that resumes is reset.
    #[test]
    fn shapes_are_pinned() {
        let schema = json!({"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "maxLength": 100},
            "role": {"type": ["string", "null"], "enum": ["member", "admin", null]},
            "born": {"type": "string", "format": "date"},
            "team": {"type": "string", "format": "uuid"},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "score": {"type": "number", "minimum": 0.5},
            "active": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "address": {"type": "object", "properties": {"zip": {"type": "string"}}, "required": ["zip"]},
            "extra": true,
        }});
        let people = Collection::from_schema("people", &schema).timestamps();
        assert_eq!(people.fault(), None);
        let grants = [
            Grant::full(),
            Grant::full().with_view(crate::schema::view::View::only(["name", "age"])),
            Grant::full().with_rows_fn("owner=17", |_| true),
        ];
        let shapes = grants.map(|grant| people.shape(&grant));
        let pinned = [
            (1_405_122_840, 2_902_972_715),
            (1_405_122_840, 3_569_176_895),
            (1_405_122_840, 1_972_422_411),
        ]
        .map(|(schema, view)| Shape { schema, view });
        assert_eq!(shapes, pinned);
    }
}
