//! The fields of a collection that queries may name.

use std::collections::BTreeSet;

use crate::schema::collection::Collection;
use crate::schema::field_type::FieldType;

impl Collection {
    /// Allows clients to ask for records only by these fields, and by the id: conditions on others are refused. For a large table whose
    /// indexes serve only some fields. The app's own queries, and the filters of grants, may name every field.
    ///
    /// ```
    /// # use fieldsync::Collection;
    /// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # #[serde(default)]
    /// # struct Task { project_id: i64, status: String, title: String }
    /// let tasks = Collection::of::<Task>("tasks").filterable(["project_id", "status"]);
    /// ```
    #[must_use]
    pub fn filterable<N: Into<String>>(mut self, fields: impl IntoIterator<Item = N>) -> Self {
        let fields: BTreeSet<String> = fields.into_iter().map(Into::into).collect();
        self.check_queryable(&fields, |_| true);
        self.queryable.filterable = Some(fields);
        self
    }

    /// Allows lists and windows to be ordered by these fields of text: by code point (`Z` comes before `a`), whatever the collation of their
    /// column is. An index with another collation does not serve this order; on PostgreSQL one with `collate "C"` does.
    ///
    /// Numbers, times and UUIDs have an order without this.
    ///
    /// ```
    /// # use fieldsync::Collection;
    /// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # #[serde(default)]
    /// # struct Task { title: String }
    /// let tasks = Collection::of::<Task>("tasks").orderable(["title"]);
    /// ```
    #[must_use]
    pub fn orderable<N: Into<String>>(mut self, fields: impl IntoIterator<Item = N>) -> Self {
        let fields: BTreeSet<String> = fields.into_iter().map(Into::into).collect();
        self.check_queryable(&fields, |kind| matches!(kind, FieldType::Text { .. }));
        self.queryable.orderable.extend(fields);
        self
    }

    /// Whether a client may ask for records by this field.
    pub(crate) fn is_filterable(&self, field: &str) -> bool {
        let only = self.queryable.filterable.as_ref();
        field == "id" || only.is_none_or(|only| only.contains(field))
    }

    /// Whether this field of text has an order.
    pub(crate) fn is_orderable_text(&self, field: &str) -> bool {
        self.queryable.orderable.contains(field)
    }

    fn check_queryable(&mut self, fields: &BTreeSet<String>, fits: impl Fn(&FieldType) -> bool) {
        for name in fields {
            let fault = match self.field(name) {
                None => format!("field {name:?} can't be asked about: it is not a field"),
                Some(field) if !fits(&field.schema.kind) => {
                    format!("field {name:?} is not text: it has an order, or can have none")
                }
                Some(_) => continue,
            };
            self.fault.get_or_insert(fault);
        }
    }
}
