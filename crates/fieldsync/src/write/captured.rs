//! What a store has captured: the writes of other programs, and the cascades and triggers that an edit set off. Folds the
//! writes of each record into one change.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::model::change::Action;
use crate::model::record::{Fields, Record, RecordKey};
use crate::schema::collection::Collection;

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
    /// The collections whose tables have capture, by their names.
    pub collections: Arc<HashMap<Arc<str>, Arc<Collection>>>,
    /// The writes of other transactions to the records that the plan writes, and to those that occur in `own`.
    pub others: Vec<CapturedWrite>,
    /// The writes of this transaction. A store may include those of the plan.
    pub own: Vec<CapturedWrite>,
    /// The rows as they are now, `None` where none exists: of every record in `own`, and of those in `others` that the plan
    /// does not write.
    pub rows: HashMap<RecordKey, Option<Record>>,
}

/// One step of what several writes did to a record as a whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Folded {
    pub(crate) action: Action,
    /// The values after it, as in [`Change::after`](crate::backend::Change::after).
    pub(crate) after: Fields,
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

/// Folds the writes of one record, in any order, into the fewest changes. `now` is the row after them.
///
/// Per field, the value before is what remains of the old values without the new ones. Where that does not lead to the row,
/// all fields count as changed.
///
/// A snapshot may have read any state between two writes. So every field that was written counts as changed, even if it has its
/// former value again, and a record that was deleted and inserted is logged as both.
pub(crate) fn fold(writes: &[&CapturedWrite], now: Option<&Record>) -> Vec<Folded> {
    let inserts = writes.iter().filter(|write| write.old.is_none()).count();
    let deletes = writes.iter().filter(|write| write.new.is_none()).count();
    let only_updates = inserts + deletes == 0;
    let existed = only_updates || usize::from(now.is_some()) + deletes > inserts;
    let now = now.map(|row| &row.fields);
    let create = |after: &Fields| Folded {
        action: Action::Create,
        after: after.clone(),
        previous: Fields::new(),
    };
    let delete = |previous: Fields| Folded {
        action: Action::Delete,
        after: Fields::new(),
        previous,
    };
    match (existed, now) {
        (true, Some(now)) if only_updates => update(writes, now).into_iter().collect(),
        (true, Some(now)) => {
            let before = values_before(writes, Some(now));
            vec![delete(before.unwrap_or_default()), create(now)]
        }
        (true, None) => vec![delete(values_before(writes, None).unwrap_or_default())],
        (false, Some(now)) => vec![create(now)],
        (false, None) => {
            let deleted = writes.iter().rfind(|write| write.new.is_none());
            let last = deleted.and_then(|write| write.old.clone());
            last.map_or_else(Vec::new, |last| vec![create(&last), delete(last)])
        }
    }
}

/// Folds updates. `None` if they wrote no field.
fn update(writes: &[&CapturedWrite], now: &Fields) -> Option<Folded> {
    let mut written = HashSet::new();
    for write in writes {
        let (Some(old), Some(new)) = (&write.old, &write.new) else {
            continue;
        };
        let fields = old
            .iter()
            .filter(|(name, value)| new.get(*name) != Some(value));
        written.extend(fields.map(|(name, _)| name.as_str()));
    }
    let mut previous = values_before(writes, Some(now));
    if let Some(previous) = &mut previous {
        previous.retain(|name, _| written.contains(name.as_str()));
        if previous.is_empty() {
            return None;
        }
    }
    Some(Folded {
        action: Action::Update,
        after: now.clone(),
        previous: previous.unwrap_or_default(),
    })
}

/// The values before the writes of the fields that occur in them. `None` if the writes do not lead from any to those of now.
fn values_before(writes: &[&CapturedWrite], now: Option<&Fields>) -> Option<Fields> {
    let mut before = Fields::new();
    for (name, remaining) in remaining_values(writes) {
        let now = now.and_then(|now| now.get(name));
        let (first, last) = match remaining.as_slice() {
            [] => (now?, now),
            [(first, 1)] => (*first, None),
            [(first, 1), (last, -1)] | [(last, -1), (first, 1)] => (*first, Some(*last)),
            _ => return None,
        };
        if last != now {
            return None;
        }
        before.insert(name.to_owned(), first.clone());
    }
    Some(before)
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

    /// Folds writes, given as pairs of old and new fields, in every rotation. `null` stands for no row. The result has the
    /// action, the values after it, and the previous values.
    #[track_caller]
    fn check(writes: &[(Value, Value)], now: &Value, expected: &[(Action, Value, Value)]) {
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
        let expected: Vec<Folded> = expected
            .iter()
            .map(|(action, after, previous)| Folded {
                action: *action,
                after: fields(after).unwrap(),
                previous: fields(previous).unwrap(),
            })
            .collect();
        for _ in 0..writes.len() {
            writes.rotate_left(1);
            let writes: Vec<&CapturedWrite> = writes.iter().collect();
            assert_eq!(fold(&writes, now.as_ref()), expected);
        }
    }

    fn none() -> Value {
        Value::Null
    }

    #[test]
    fn updates_are_folded_in_any_order() {
        let writes = [
            (json!({"status": "closed"}), json!({"status": "archived"})),
            (json!({"status": "open"}), json!({"status": "closed"})),
        ];
        let now = json!({"status": "archived", "title": "a"});
        let expected = (Action::Update, now.clone(), json!({"status": "open"}));
        check(&writes, &now, &[expected]);
    }

    #[test]
    fn a_field_that_is_not_written_is_unchanged() {
        let writes = [(json!({"n": 1, "m": 1}), json!({"n": 2, "m": 1}))];
        let now = json!({"n": 2, "m": 1});
        check(
            &writes,
            &now,
            &[(Action::Update, now.clone(), json!({"n": 1}))],
        );
        check(&[(json!({"n": 1}), json!({"n": 1}))], &json!({"n": 1}), &[]);
    }

    #[test]
    fn a_value_that_comes_back_is_a_change() {
        let writes = [
            (json!({"n": 1}), json!({"n": 2})),
            (json!({"n": 2}), json!({"n": 1})),
        ];
        let one = json!({"n": 1});
        check(&writes, &one, &[(Action::Update, one.clone(), one.clone())]);
    }

    #[test]
    fn inserts_and_deletes_are_folded_with_the_row() {
        let (one, two) = (json!({"n": 1}), json!({"n": 2}));
        let create = |after: &Value| (Action::Create, after.clone(), json!({}));
        let delete = |previous: &Value| (Action::Delete, json!({}), previous.clone());
        check(&[(none(), one.clone())], &one, &[create(&one)]);
        check(
            &[(none(), one.clone()), (one.clone(), two.clone())],
            &two,
            &[create(&two)],
        );
        check(&[(one.clone(), none())], &none(), &[delete(&one)]);
        check(
            &[(one.clone(), two.clone()), (two.clone(), none())],
            &none(),
            &[delete(&one)],
        );
        check(
            &[(none(), one.clone()), (one.clone(), none())],
            &none(),
            &[create(&one), delete(&one)],
        );
        check(
            &[(one.clone(), none()), (none(), two.clone())],
            &two,
            &[delete(&one), create(&two)],
        );
    }

    #[test]
    fn writes_that_do_not_lead_to_the_row_leave_the_previous_values_unknown() {
        let writes = [(json!({"n": 1}), json!({"n": 2}))];
        let now = json!({"n": 3});
        check(&writes, &now, &[(Action::Update, now.clone(), json!({}))]);
        check(&writes, &none(), &[(Action::Delete, json!({}), json!({}))]);
    }
}
