//! What a collection is: its fields and their types, who may do what, and what a principal sees. Imports `model`.

pub(crate) mod authorizer;
pub(crate) mod change_view;
pub(crate) mod collection;
pub(crate) mod field;
pub(crate) mod field_type;
pub(crate) mod grant;
pub(crate) mod hooks;
pub(crate) mod json;
pub(crate) mod json_schema;
