//! The collections of fieldsync's own. Their tables are side tables, and no topic or path names them.

use serde_json::json;

use crate::schema::collection::{CaptureChoice, Collection};

/// What the names of the collections and tables of fieldsync's own begin with.
pub(crate) const OWN_PREFIX: &str = "fieldsync_";

/// The collection whose log tells all nodes what was revoked. Its table stays empty.
pub(crate) const REVOCATIONS: &str = "fieldsync_revocations";

/// The collections of fieldsync's own, which the engine prepares with those of the app. Their tables are side tables: a store
/// keeps them beside its own, and lists them with the SQL that a start would run.
#[must_use]
pub fn own_collections() -> Vec<Collection> {
    let target = json!({"type": "string", "maxLength": 32});
    let fields =
        json!({"type": "object", "properties": {"target": target}, "required": ["target"]});
    let revocations = Collection::from_schema(REVOCATIONS, &fields).uuid_ids();
    vec![Collection {
        capture: Some(CaptureChoice::Off),
        // The names are reserved for these collections.
        fault: None,
        ..revocations
    }]
}

impl Collection {
    /// Whether the collection is one of fieldsync's own, and its table a side table.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.table.starts_with(OWN_PREFIX)
    }
}
