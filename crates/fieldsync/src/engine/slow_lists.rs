//! The lists that no index serves: each is named once in the log, with the index that would.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::narrowing::Narrowing;

/// A list that takes longer is named.
pub(crate) const SLOW: Duration = Duration::from_secs(1);

/// The most that are remembered, and so named.
const MAX_NAMED: usize = 100;

/// The slow lists that were named.
#[derive(Debug, Default)]
pub(crate) struct SlowLists(Mutex<BTreeSet<(String, Vec<String>)>>);

impl SlowLists {
    /// Names a list, unless one like it was named before.
    pub(crate) fn name(&self, collection: &Collection, grant: &Grant) {
        let columns = columns_of(grant);
        let key = (collection.name().to_string(), columns.clone());
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() >= MAX_NAMED || !named.insert(key) {
            return;
        }
        drop(named);
        let (name, table) = (collection.name(), collection.table_name());
        if columns.is_empty() {
            tracing::warn!(
                collection = %name,
                "a list took longer than a second: its conditions are tested record by record, and no index can serve them"
            );
        } else {
            let columns = columns.join(", ");
            tracing::warn!(
                collection = %name,
                "a list took longer than a second: an index on {table} ({columns}) would serve it"
            );
        }
    }
}

/// The columns of an index that would serve this: first those that are equal to something, then those of the order or of a range.
fn columns_of(grant: &Grant) -> Vec<String> {
    let (mut equal, mut ranges) = (Vec::new(), Vec::new());
    if let Some(narrowing) = grant.narrowing() {
        take_columns(&narrowing, &mut equal, &mut ranges);
    }
    let order = grant.sorting.iter().flat_map(|sorting| sorting.order());
    let mut columns = equal;
    let ordered: Vec<_> = order.map(|term| term.field().to_owned()).collect();
    let rest = if ordered.is_empty() {
        ranges.into_iter().take(1).collect()
    } else {
        ordered
    };
    for column in rest {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns
}

fn take_columns(narrowing: &Narrowing, equal: &mut Vec<String>, ranges: &mut Vec<String>) {
    let columns = match narrowing {
        Narrowing::OneOf(field, _) | Narrowing::IsNull(field) => (equal, field),
        Narrowing::AtLeast(field, _) | Narrowing::AtMost(field, _) => (ranges, field),
        Narrowing::All(parts) => {
            return parts
                .iter()
                .for_each(|part| take_columns(part, equal, ranges));
        }
        Narrowing::IsNotNull(_) | Narrowing::Any(_) => return,
    };
    let (columns, field) = columns;
    if !columns.contains(field) {
        columns.push(field.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::query::Query;

    #[track_caller]
    fn check(query: &str, expected: &[&str]) {
        let schema = json!({"type": "object", "properties": {
            "project_id": {"type": "integer"}, "at": {"type": "string", "format": "date-time"},
            "done": {"type": "boolean"}, "title": {"type": "string"},
        }});
        let tasks = Collection::from_schema("tasks", &schema).open_to_everyone();
        let query = Query::read(query, &[]).unwrap();
        let grant = Grant::full().narrowed(&query, &tasks).unwrap();
        assert_eq!(columns_of(&grant), expected);
    }

    #[test]
    fn the_index_has_what_is_equal_before_the_order_or_a_range() {
        check("project_id=eq.5", &["project_id"]);
        check(
            "at=gt.2026-01-01T00:00:00Z&project_id=eq.5",
            &["project_id", "at"],
        );
        check(
            "done=is.true&project_id=eq.5&order=at.desc",
            &["done", "project_id", "at"],
        );
        check("order=at,project_id", &["at", "project_id"]);
        check("title=neq.a", &[]);
    }

    #[test]
    fn each_is_named_once() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        let notes = Collection::from_schema("notes", &schema).open_to_everyone();
        let slow = SlowLists::default();
        for number in 0..3 {
            let query = Query::read(&format!("n=eq.{number}"), &[]).unwrap();
            slow.name(&notes, &Grant::full().narrowed(&query, &notes).unwrap());
        }
        assert_eq!(slow.0.lock().unwrap().len(), 1);
    }
}
