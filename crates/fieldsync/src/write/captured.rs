//! What a store has captured: the writes of other programs, and the cascades and triggers that an edit set off. Folds the
//! writes of each record into one change.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::model::change::Action;
use crate::model::record::{Fields, Record, RecordKey};

/// One write of a row that the store has captured, whoever made it.
#[derive(Debug, Clone, PartialEq)]
pub struct CapturedWrite {
    /// The record.
    pub key: RecordKey,
    /// The values before the write. `None` for an insert. An update may lack the fields that it did not change.
    pub old: Option<Fields>,
    /// The values after the write. `None` for a delete. An update lacks the same fields as in `old`.
    pub new: Option<Fields>,
}

/// What a store has captured and now logs.
///
/// The order of the writes does not matter: nested triggers are captured before the write that set them off.
#[derive(Debug, Default)]
pub struct Captured {
    /// The collections whose tables have capture.
    pub collections: Arc<HashSet<Arc<str>>>,
    /// The writes of other transactions to the records that the plan writes, and to those that occur in `own`.
    pub others: Vec<CapturedWrite>,
    /// The writes of this transaction. A store may include those of the plan.
    pub own: Vec<CapturedWrite>,
    /// The rows as they are now, `None` where none exists: of every record in `own`, and of those in `others` that the plan
    /// does not write.
    pub rows: HashMap<RecordKey, Option<Record>>,
}

/// What several writes did to a record as a whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Folded {
    pub(crate) action: Action,
    /// The previous values, as in [`Change::previous`](crate::backend::Change::previous).
    pub(crate) previous: Fields,
}

/// The captured writes of each record.
pub(crate) type WritesByRecord<'a> = BTreeMap<&'a RecordKey, Vec<&'a CapturedWrite>>;

pub(crate) fn by_record<'a>(
    writes: impl IntoIterator<Item = &'a CapturedWrite>,
) -> WritesByRecord<'a> {
    let mut records = WritesByRecord::new();
    for write in writes {
        records.entry(&write.key).or_default().push(write);
    }
    records
}

/// Folds the writes of one record, in any order. `now` is the row after them. `None` if they changed nothing.
///
/// Per field, the value before is what remains of the old values without the new ones. Where that does not lead to the row,
/// all fields count as changed.
pub(crate) fn fold(writes: &[&CapturedWrite], now: Option<&Record>) -> Option<Folded> {
    let inserts = writes.iter().filter(|write| write.old.is_none()).count();
    let deletes = writes.iter().filter(|write| write.new.is_none()).count();
    // Where no insert and no delete was captured, there was a row to update.
    let existed = usize::from(now.is_some()) + deletes > inserts || inserts + deletes == 0;
    let (action, after) = match (existed, now) {
        (false, None) => return None,
        (false, Some(_)) => {
            return Some(Folded {
                action: Action::Create,
                previous: Fields::new(),
            });
        }
        (true, Some(row)) => (Action::Update, Some(&row.fields)),
        (true, None) => (Action::Delete, None),
    };
    let mut previous = Fields::new();
    for (name, remaining) in remaining_values(writes) {
        let (before, last) = match remaining.as_slice() {
            [] => continue,
            [(before, 1)] => (*before, None),
            [(before, 1), (last, -1)] | [(last, -1), (before, 1)] => (*before, Some(*last)),
            _ => return Some(unknown(action)),
        };
        if last != after.and_then(|after| after.get(name)) {
            return Some(unknown(action));
        }
        previous.insert(name.to_owned(), before.clone());
    }
    // An update that changed no field, or whose fields have their former values again.
    let is_unchanged = action == Action::Update && previous.is_empty();
    (!is_unchanged).then_some(Folded { action, previous })
}

fn unknown(action: Action) -> Folded {
    Folded {
        action,
        previous: Fields::new(),
    }
}

/// A value, and how often it occurs among the old values less how often among the new ones.
type Remaining<'a> = Vec<(&'a Value, i64)>;

/// Per field, the values that do not occur as often among the old values as among the new ones.
fn remaining_values<'a>(writes: &[&'a CapturedWrite]) -> HashMap<&'a str, Remaining<'a>> {
    let mut fields: HashMap<&str, Remaining<'_>> = HashMap::new();
    for write in writes {
        for (values, count) in [(&write.old, 1), (&write.new, -1)] {
            for (name, value) in values.iter().flatten() {
                let remaining = fields.entry(name).or_default();
                match remaining.iter().position(|(known, _)| *known == value) {
                    None => remaining.push((value, count)),
                    Some(at) if remaining[at].1 + count == 0 => {
                        remaining.swap_remove(at);
                    }
                    Some(at) => remaining[at].1 += count,
                }
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::record::RecordId;

    fn fields(value: &Value) -> Option<Fields> {
        (!value.is_null()).then(|| serde_json::from_value(value.clone()).unwrap())
    }

    /// Folds writes, given as pairs of old and new fields, in every rotation. `null` stands for no row.
    #[track_caller]
    fn check(writes: &[(Value, Value)], now: &Value, expected: Option<(Action, Value)>) {
        let mut writes: Vec<CapturedWrite> = writes
            .iter()
            .map(|(old, new)| CapturedWrite {
                key: RecordKey::new("tasks", 1),
                old: fields(old),
                new: fields(new),
            })
            .collect();
        let now = fields(now).map(|fields| Record {
            id: RecordId::Integer(1),
            fields,
        });
        let expected = expected.map(|(action, previous)| Folded {
            action,
            previous: fields(&previous).unwrap(),
        });
        for _ in 0..writes.len() {
            writes.rotate_left(1);
            let writes: Vec<&CapturedWrite> = writes.iter().collect();
            assert_eq!(fold(&writes, now.as_ref()), expected);
        }
    }

    #[test]
    fn updates_are_folded_in_any_order() {
        let writes = [
            (json!({"status": "closed"}), json!({"status": "archived"})),
            (json!({"status": "open"}), json!({"status": "closed"})),
        ];
        check(
            &writes,
            &json!({"status": "archived", "title": "a"}),
            Some((Action::Update, json!({"status": "open"}))),
        );
    }

    #[test]
    fn a_value_that_comes_back_is_no_change() {
        let writes = [
            (json!({"n": 1}), json!({"n": 2})),
            (json!({"n": 2}), json!({"n": 1})),
        ];
        check(&writes, &json!({"n": 1}), None);
    }

    #[test]
    fn inserts_and_deletes_are_folded_with_the_row() {
        let (none, one, two) = (Value::Null, json!({"n": 1}), json!({"n": 2}));
        let create = Some((Action::Create, json!({})));
        let delete = Some((Action::Delete, json!({"n": 1})));
        check(&[(none.clone(), one.clone())], &one, create.clone());
        check(
            &[(none.clone(), one.clone()), (one.clone(), two.clone())],
            &two,
            create,
        );
        check(&[(one.clone(), none.clone())], &none, delete.clone());
        check(
            &[(one.clone(), two.clone()), (two.clone(), none.clone())],
            &none,
            delete,
        );
        check(
            &[(none.clone(), one.clone()), (one.clone(), none.clone())],
            &none,
            None,
        );
        check(
            &[(one.clone(), none.clone()), (none, two.clone())],
            &two,
            Some((Action::Update, one)),
        );
    }

    #[test]
    fn writes_that_do_not_lead_to_the_row_leave_the_previous_values_unknown() {
        check(
            &[(json!({"n": 1}), json!({"n": 2}))],
            &json!({"n": 3}),
            Some((Action::Update, json!({}))),
        );
        check(
            &[(json!({"n": 1}), json!({"n": 2}))],
            &Value::Null,
            Some((Action::Delete, json!({}))),
        );
    }
}
