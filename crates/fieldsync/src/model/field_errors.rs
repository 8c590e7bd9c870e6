//! Error messages per field.

use std::collections::BTreeMap;

/// Messages per field: what is wrong with it.
pub type FieldErrors = BTreeMap<String, Vec<String>>;
