//! A change as a principal sees it through a grant.

use serde_json::Value;

use crate::model::change::{Action, Change, FoldedChange};
use crate::model::record::{Fields, Record, size_of_fields};
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;

/// A change through somebody's grant.
#[derive(Debug, Clone)]
pub(crate) struct ChangeView<'a> {
    pub(crate) change: &'a Change,
    pub(crate) action: Action,
    pub(crate) names: ChangedFields<'a>,
}

/// The fields that changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ChangedFields<'a> {
    All,
    These(Vec<&'a str>),
}

impl Change {
    /// Whether this change changed the field.
    #[must_use]
    pub fn touches(&self, field: &str) -> bool {
        match self.action {
            Action::Create | Action::Delete => true,
            Action::Update => self.previous.is_empty() || self.previous.contains_key(field),
        }
    }

    /// Makes it one of this version of the app. What it was read from may have been written by another version, by a node
    /// that is not yet restarted or already is: fields that are unknown here are left out, and a record that was made or
    /// deleted has of those that are missing what their new column has.
    pub(crate) fn adapt_to(&mut self, collection: &Collection) {
        let is_known = |name: &String| collection.field(name).is_some();
        self.after.retain(|name, _| is_known(name));
        let whole = match self.action {
            Action::Create => &mut self.after,
            Action::Delete => {
                self.previous.retain(|name, _| is_known(name));
                &mut self.previous
            }
            Action::Update => {
                // The names stay: without any it would count as touched.
                let unknown = self.previous.iter_mut().filter(|(name, _)| !is_known(name));
                unknown.for_each(|(_, value)| *value = Value::Null);
                return;
            }
        };
        for field in collection.fields() {
            if !whole.contains_key(&field.name) {
                let value = field.default.clone().unwrap_or_default();
                whole.insert(field.name.clone(), value);
            }
        }
    }

    /// Whether whoever wrote it knew nothing of some of the record's fields, whose values it hence does not have.
    pub(crate) fn is_partial(&self, collection: &Collection) -> bool {
        let mut fields = collection.fields().iter();
        self.action == Action::Update && !fields.all(|field| self.after.contains_key(&field.name))
    }

    /// The fields that an update changed and a grant shows, of those that this version of the app knows.
    fn changed<'a>(&'a self, grant: &Grant) -> impl Iterator<Item = &'a str> {
        let names = self.previous.keys().map(String::as_str);
        names.filter(|name| self.after.contains_key(*name) && grant.view.shows(name))
    }

    /// The change as somebody sees it through a grant: what it does to the records that exist for that one. `None`
    /// when nothing visible changed.
    pub(crate) fn seen_through<'a>(&'a self, grant: &Grant) -> Option<ChangeView<'a>> {
        self.seen_as(self.action_through(grant)?, grant)
    }

    /// What the change is through a grant; `None` where nothing of it is seen.
    pub(crate) fn action_through(&self, grant: &Grant) -> Option<Action> {
        let action = match &grant.rows {
            None => self.action,
            Some(_) => self.action_among_admitted(grant)?,
        };
        let is_seen = action != Action::Update
            || self.previous.is_empty()
            || self.changed(grant).next().is_some();
        is_seen.then_some(action)
    }

    /// The change through a grant, as an action that was found before: a row predicate may have changed its mind since.
    pub(crate) fn seen_as<'a>(&'a self, action: Action, grant: &Grant) -> Option<ChangeView<'a>> {
        let names = match action {
            Action::Create | Action::Delete => ChangedFields::All,
            Action::Update if self.previous.is_empty() => ChangedFields::All,
            Action::Update => {
                let visible: Vec<&str> = self.changed(grant).collect();
                if visible.is_empty() {
                    return None;
                }
                ChangedFields::These(visible)
            }
        };
        Some(ChangeView {
            change: self,
            action,
            names,
        })
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn size_in_memory(&self) -> usize {
        size_of_fields(&self.after) + size_of_fields(&self.previous) + 200
    }

    fn action_among_admitted(&self, grant: &Grant) -> Option<Action> {
        let admits = |fields: Fields| {
            grant.admits(&Record {
                id: self.key.id,
                fields,
            })
        };
        let after = self.action != Action::Delete && admits(self.after.clone());
        let before = match self.action {
            Action::Create => false,
            Action::Delete => self.previous.is_empty() || admits(self.previous.clone()),
            // What a touched record was before is not known; one who may not see it hears of a deletion too many.
            Action::Update if self.previous.is_empty() => true,
            Action::Update => {
                let mut before = self.after.clone();
                before.extend(self.previous.clone());
                admits(before)
            }
        };
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(Action::Create),
            (true, true) => Some(Action::Update),
            (true, false) => Some(Action::Delete),
        }
    }
}

impl FoldedChange {
    pub(crate) fn of(seen: &ChangeView<'_>, grant: &Grant) -> Self {
        let change = seen.change;
        let mut record = grant.view.project_fields(&change.after);
        if seen.action == Action::Delete {
            // As it was: what one may no longer see of it now is not for one.
            let previous = grant.view.project_fields(&change.previous).into_iter();
            record.extend(previous.filter(|(name, _)| {
                change.action == Action::Delete || change.after.contains_key(name)
            }));
            if change.action == Action::Update && change.previous.is_empty() {
                // It was touched, so what it was when one could see it, if ever, is not known.
                record.clear();
            }
        }
        let fields = match (&seen.names, seen.action) {
            (_, Action::Delete) => Fields::new(),
            (ChangedFields::All, _) => record.clone(),
            (ChangedFields::These(names), _) => names
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), record.get(*name)?.clone())))
                .collect(),
        };
        let idempotency_keys = change.idempotency_key.iter().cloned().collect();
        Self {
            id: change.key.id,
            action: seen.action,
            fields,
            record,
            idempotency_keys,
            at: change.at,
        }
    }

    /// Folds a later change of the same record into this one.
    pub(crate) fn fold(&mut self, later: Self) {
        self.action = match (self.action, later.action) {
            (_, Action::Delete) => {
                self.fields.clear();
                Action::Delete
            }
            // Delete + create is a create that replaces, and what was created stays so.
            (_, Action::Create) | (Action::Delete, Action::Update) => {
                self.fields.clone_from(&later.record);
                Action::Create
            }
            (Action::Create | Action::Update, Action::Update) => {
                self.fields.extend(later.fields);
                self.action
            }
        };
        self.record = later.record;
        self.idempotency_keys.extend(later.idempotency_keys);
        self.at = later.at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::change::fold;
    use crate::model::cursor::Position;
    use crate::model::record::RecordKey;
    use crate::model::timestamp::Timestamp;
    use crate::schema::grant::View;
    use serde_json::json;

    fn fields(value: serde_json::Value) -> Fields {
        serde_json::from_value(value).unwrap()
    }

    fn change(action: Action, after: serde_json::Value, previous: serde_json::Value) -> Change {
        Change {
            position: Position {
                epoch: 1,
                offset: 1,
                tag: 1,
            },
            key: RecordKey::from(("users", 1)),
            action,
            after: fields(after),
            previous: fields(previous),
            at: Timestamp::from_micros(0).unwrap(),
            who: None,
            idempotency_key: None,
        }
    }

    #[track_caller]
    fn check(actions: &[Action], expected: Action, expected_fields: serde_json::Value) {
        let grant = Grant::full();
        let changes: Vec<Change> = actions
            .iter()
            .enumerate()
            .map(|(at, action)| match action {
                Action::Create => change(*action, json!({"a": at, "b": 0}), json!({})),
                Action::Update => change(*action, json!({"a": at, "b": 0}), json!({"a": 0})),
                Action::Delete => change(*action, json!({}), json!({"a": at, "b": 0})),
            })
            .collect();
        let folded = fold(
            changes
                .iter()
                .map(|change| FoldedChange::of(&change.seen_through(&grant).unwrap(), &grant)),
        );
        assert_eq!(folded.len(), 1);
        assert_eq!(
            (folded[0].action, &folded[0].fields),
            (expected, &fields(expected_fields))
        );
    }

    #[test]
    fn changes_of_one_record_fold_into_one() {
        use Action::{Create, Delete, Update};
        check(&[Update, Update], Update, json!({"a": 1}));
        check(&[Create, Update], Create, json!({"a": 1, "b": 0}));
        check(&[Create, Update, Delete], Delete, json!({}));
        check(&[Update, Delete], Delete, json!({}));
        check(&[Delete, Create], Create, json!({"a": 1, "b": 0}));
        check(&[Delete, Create, Update], Create, json!({"a": 2, "b": 0}));
    }

    #[test]
    fn a_row_that_enters_or_leaves_what_one_may_see_is_created_or_deleted_for_one() {
        let grant = Grant::full().with_rows("open", |record| record.fields["open"] == json!(true));
        let seen = |before: bool, after: bool| {
            let change = change(
                Action::Update,
                json!({"open": after, "n": 1}),
                json!({"open": before, "n": 0}),
            );
            change.seen_through(&grant).map(|seen| seen.action)
        };
        assert_eq!(seen(false, false), None);
        assert_eq!(seen(false, true), Some(Action::Create));
        assert_eq!(seen(true, true), Some(Action::Update));
        assert_eq!(seen(true, false), Some(Action::Delete));
    }

    #[test]
    fn a_change_of_hidden_fields_alone_is_not_seen() {
        let grant = Grant::full().with_view(View::only(["a"]));
        assert!(
            change(Action::Update, json!({"a": 1, "b": 2}), json!({"b": 1}))
                .seen_through(&grant)
                .is_none()
        );
        let change = change(
            Action::Update,
            json!({"a": 1, "b": 2}),
            json!({"a": 0, "b": 1}),
        );
        let folded = FoldedChange::of(&change.seen_through(&grant).unwrap(), &grant);
        assert_eq!(
            (folded.fields, folded.record),
            (fields(json!({"a": 1})), fields(json!({"a": 1})))
        );
    }
}
