//! The table of a collection: which one, its key, and what the engine may do with it.

use serde_json::json;

use crate::schema::collection::{CaptureChoice, Collection};
use crate::schema::field::{Field, Ids, IdsGivenBy, SetBy};

impl Collection {
    /// Stores the records in this existing table, which may be `schema.table` if the database has schemas. Without it the
    /// table has the name of the collection, and is created if it does not exist.
    #[must_use]
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self.check_names();
        self
    }

    /// Stores the ids in this column. By default the column is `id`. On the wire the id is always `id`.
    #[must_use]
    pub fn key(mut self, column: impl Into<String>) -> Self {
        self.key_columns = vec![column.into()];
        self.check_names();
        self
    }

    /// Identifies records by several columns, which must be fields: whoever creates a record sets them, and nobody changes
    /// them afterwards. The id is text, the values separated by commas, like `7,3`. In the values of text `%` and `,` are
    /// percent-encoded.
    #[must_use]
    pub fn composite_key<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.key_columns = columns.into_iter().map(Into::into).collect();
        (self.ids, self.ids_given_by) = (Ids::Text, IdsGivenBy::Creator);
        for column in &self.key_columns {
            match self.fields.iter_mut().find(|field| field.column == *column) {
                Some(field) => field.set_by = SetBy::Creator,
                None => {
                    self.fault
                        .get_or_insert_with(|| format!("the key column {column:?} is not a field"));
                }
            }
        }
        self.check_names();
        self
    }

    /// Identifies records by UUIDs, instead of integers that the database assigns. A new record gets a version 7 UUID,
    /// unless its creator gives an id with [`Edit::with_id`](crate::Edit::with_id), or as `id` among the fields.
    #[must_use]
    pub fn uuid_ids(mut self) -> Self {
        (self.ids, self.ids_given_by) = (Ids::UuidV7, IdsGivenBy::Engine);
        self
    }

    /// Identifies records by text, like slugs or ULIDs, which the creator of a record gives as `id`.
    #[must_use]
    pub fn text_ids(mut self) -> Self {
        (self.ids, self.ids_given_by) = (Ids::Text, IdsGivenBy::Creator);
        self
    }

    /// The creator of a record gives its id, instead of the database.
    #[must_use]
    pub fn ids_by_creator(mut self) -> Self {
        self.ids_given_by = IdsGivenBy::Creator;
        self
    }

    /// A collection of an existing table.
    pub(super) fn with_fields_of_table(
        name: &str,
        table: String,
        key_columns: Vec<String>,
        (ids, ids_given_by): (Ids, IdsGivenBy),
        fields: Vec<Field>,
    ) -> Self {
        let mut collection = Self {
            table,
            key_columns,
            ids,
            ids_given_by,
            fields,
            ..Self::from_schema(name, &json!({"type": "object"}))
        };
        collection.check_names();
        collection
    }

    /// Refuses edits that create records. For tables whose rows are created by other programs.
    #[must_use]
    pub fn no_create(mut self) -> Self {
        self.creatable = false;
        self
    }

    /// Refuses every edit. For views and replicas, and for tables that only other programs write.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.writable = false;
        self.creatable = false;
        self
    }

    /// Shows these fields, and refuses edits that set them: the database sets them, by a trigger or in another way.
    #[must_use]
    pub fn read_only_fields<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.with_fields(names, |field| field.set_by = SetBy::Database)
    }

    /// Leaves these fields to the defaults of their columns, in a new record whose creator does not set them: `now()`,
    /// `gen_random_uuid()`, a sequence.
    #[must_use]
    pub fn database_defaults<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.with_fields(names, |field| field.has_database_default = true)
    }

    fn with_fields<'a>(
        mut self,
        names: impl IntoIterator<Item = &'a str>,
        change: impl Fn(&mut Field),
    ) -> Self {
        for name in names {
            match self.fields.iter_mut().find(|field| field.name == name) {
                Some(field) => change(field),
                None => {
                    self.fault
                        .get_or_insert_with(|| format!("field {name:?} does not exist"));
                }
            }
        }
        self
    }

    /// Adds the columns of new fields to an existing table, when the engine starts. Without it a missing column stops the
    /// start: a field may be misspelt, or an older version of the app may run against a newer database.
    ///
    /// Rows that exist get the field's default.
    #[must_use]
    pub fn add_missing_columns(mut self) -> Self {
        self.adds_missing_columns = true;
        self
    }

    /// Announces every change of the table, also those that the database makes itself (cascades, triggers) and those of
    /// other programs. The engine creates triggers on the table when it starts.
    ///
    /// A table that fieldsync created has capture on. For any other table the app must choose: with this, or with
    /// [`Collection::without_capture`].
    #[must_use]
    pub fn capture(mut self) -> Self {
        self.capture = Some(CaptureChoice::On);
        self
    }

    /// Announces only the changes that the engine makes. Windows show changes of the database itself and of other
    /// programs only after [`Engine::refresh`](crate::Engine::refresh).
    #[must_use]
    pub fn without_capture(mut self) -> Self {
        self.capture = Some(CaptureChoice::Off);
        self
    }
}
