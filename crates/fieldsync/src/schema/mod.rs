//! Collections: their fields and field types, their authorizers, and the projection of records and changes for a
//! principal. Imports `model`. `write` applies the rules to edits.

pub(crate) mod authorizer;
pub(crate) mod change_view;
pub(crate) mod checked_query;
pub(crate) mod checks;
pub(crate) mod collection;
pub(crate) mod collection_queries;
pub(crate) mod collection_reads;
pub(crate) mod collection_rules;
pub(crate) mod collection_table;
pub(crate) mod comparison;
pub(crate) mod field;
pub(crate) mod field_type;
pub(crate) mod grant;
pub(crate) mod hooks;
pub(crate) mod index_key;
pub(crate) mod json;
pub(crate) mod json_schema;
pub(crate) mod lookups;
pub(crate) mod member_rows;
pub(crate) mod names;
pub(crate) mod narrowing;
pub(crate) mod own_collections;
pub(crate) mod predicate;
pub(crate) mod queryable;
pub(crate) mod reads;
pub(crate) mod row_filter;
pub(crate) mod rule_checks;
pub(crate) mod rule_grants;
pub(crate) mod rules;
pub(crate) mod scalars;
pub(crate) mod sorting;
pub(crate) mod table_description;
pub(crate) mod to_json_schema;
pub(crate) mod values;
pub(crate) mod view;
