//! The projection of changes: what a principal sees of a change through its grant.

use std::sync::Arc;

use serde_json::Value;

use crate::model::change::{Action, Change, FoldedChange};
use crate::model::record::{Fields, Record, size_of_fields, size_of_value};
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::values::Values;

/// An unchanged value that is larger than this is not logged with an update.
const MAX_UNCHANGED_BYTES: usize = 1024;

/// A change as a principal sees it through a grant.
#[derive(Debug, Clone)]
pub(crate) struct ChangeView<'a> {
    pub(crate) change: &'a Change,
    pub(crate) action: Action,
    pub(crate) changed: ChangedFields<'a>,
}

/// The visible fields that a change changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ChangedFields<'a> {
    /// All visible fields.
    All,
    These(Vec<&'a str>),
}

impl Change {
    /// Whether the change changed this field. A create, a delete, and an update without previous values change every
    /// field.
    #[must_use]
    pub fn affects(&self, field: &str) -> bool {
        match self.action {
            Action::Create | Action::Delete => true,
            _ => self.previous.is_empty() || self.previous.contains_key(field),
        }
    }

    /// Adapts a change from the log to the fields of this version of the app. Another version may have written it, on a
    /// node that runs an older or a newer version.
    ///
    /// Fields that this version does not know are removed. A field that the other version did not know gets its default
    /// where the change contains a whole record: after a create, or before a delete.
    pub(crate) fn adapt_to(&mut self, collection: &Collection) {
        let is_known = |name: &String| collection.field(name).is_some();
        self.after.retain(|name, _| is_known(name));
        let whole_record = match self.action {
            Action::Create => &mut self.after,
            Action::Delete => {
                self.previous.retain(|name, _| is_known(name));
                &mut self.previous
            }
            _ => {
                // The names stay: without any name every field would count as changed.
                let unknown = self.previous.iter_mut().filter(|(name, _)| !is_known(name));
                unknown.for_each(|(_, value)| *value = Value::Null);
                return;
            }
        };
        for field in collection.fields() {
            if !whole_record.contains_key(&field.name) {
                let value = field.default.clone().unwrap_or_default();
                whole_record.insert(field.name.clone(), value);
            }
        }
    }

    /// Whether the change, adapted to the collection, lacks values of some fields: large ones that did not change, or those
    /// that the version of the app that wrote it did not know.
    pub(crate) fn is_partial(&self, collection: &Collection) -> bool {
        self.action == Action::Update && self.after.len() < collection.fields().len()
    }

    /// Whether the change lacks values that the holder of this grant needs: to tell whether it sees the record, or to receive it whole.
    pub(crate) fn lacks_for(&self, grant: &Grant) -> bool {
        let arrives = |action| matches!(action, Ok(Some(Action::Create | Action::Enter)));
        if self.is_hidden_from(grant) {
            return false;
        }
        // Whatever the change is of, its record may come into a window.
        grant.window.is_some()
            || !grant.is_for_all()
                && (grant.lacks(&self.after) || arrives(self.visible_action(grant)))
    }

    /// Whether the update is known to be of a record that was hidden from the holder of this grant, and still is.
    fn is_hidden_from(&self, grant: &Grant) -> bool {
        let is_known = self.tells_who_reads(grant);
        is_known && self.was_revealed(grant) == (false, false)
    }

    /// Whether the change has all values that decide whether the holder of this grant may read its record, before it and after it.
    fn tells_who_reads(&self, grant: &Grant) -> bool {
        let rows = grant.rows.as_ref();
        rows.is_none_or(|rows| !self.previous.is_empty() && !rows.lacks(&self.after))
    }

    /// Whether the record existed for the holder of this grant before the update, and whether it does after it.
    fn was_revealed(&self, grant: &Grant) -> (bool, bool) {
        let after = Values::new(&self.key.id, &self.after);
        let is_revealed = grant.reveals(&after);
        let before = after.with_previous(&self.previous);
        (grant.reveals(&before), is_revealed)
    }

    /// The change as it is logged: an update without its large values that did not change, so that the log grows with what
    /// changed. Those that decide who may read the record are kept. Where any may, the whole row is logged.
    pub(crate) fn for_log(self: &Arc<Self>, collection: &Collection) -> Arc<Self> {
        let is_left_out = |(name, value): &(&String, &Value)| {
            !self.affects(name)
                && size_of_value(value) > MAX_UNCHANGED_BYTES
                && !collection.decides_rows(name)
        };
        if !self.after.iter().any(|field| is_left_out(&field)) {
            return Arc::clone(self);
        }
        let logged = self.after.iter().filter(|field| !is_left_out(field));
        Arc::new(Self {
            position: self.position,
            key: self.key.clone(),
            action: self.action,
            after: logged
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            previous: self.previous.clone(),
            at: self.at,
            who: self.who.clone(),
            idempotency_key: self.idempotency_key.clone(),
        })
    }

    /// A partial change with the missing values from the current row of its record, for the holder of this grant, and what it does to the
    /// records that the holder sees. `None` if the change can't be shown: the record was deleted or hidden since, and a later change
    /// says so.
    ///
    /// Where values are missing that decide whether the holder saw the record, those of now say nothing of before: the record is sent as it
    /// is, or its end. Its end only if it is known that the holder might read it before or after the change.
    pub(crate) fn filled(
        &self,
        row: Option<&Record>,
        grant: &Grant,
    ) -> Result<Option<(Self, Action)>, UnknownMembership> {
        if self.is_hidden_from(grant) {
            return Ok(None);
        }
        let is_undecided = grant.lacks(&self.after)
            || row.is_none() && self.previous.is_empty() && !grant.is_for_all();
        if is_undecided {
            return match row {
                Some(row) if grant.shows(row) => {
                    let mut whole = self.clone();
                    whole.after.clone_from(&row.fields);
                    let arrives = grant
                        .asked
                        .as_ref()
                        .map_or(Action::Create, |_| Action::Enter);
                    Ok(Some((whole, arrives)))
                }
                _ if !self.tells_who_reads(grant) => Err(UnknownMembership),
                Some(row) if grant.reveals(&row.into()) => {
                    let (_, is_revealed) = self.was_revealed(grant);
                    let shown = is_revealed.then(|| self.clone());
                    let left = shown.unwrap_or_else(|| self.without_values());
                    Ok(Some((left, Action::Leave)))
                }
                _ => Ok(Some((self.without_values(), Action::Delete))),
            };
        }
        let Some(row) = row else {
            // The change that deleted it may tell nothing more: the record was not one of those that are shown by then.
            return Ok(match self.visible_action(grant)? {
                Some(Action::Leave | Action::Delete) => {
                    Some((self.without_values(), Action::Delete))
                }
                _ => None,
            });
        };
        let mut filled = self.clone();
        for (name, value) in &row.fields {
            if !filled.after.contains_key(name) {
                filled.after.insert(name.clone(), value.clone());
            }
        }
        let Some(action) = filled.visible_action(grant)? else {
            return Ok(None);
        };
        match action {
            // The current values belong to a record that the principal may not read.
            Action::Delete => Ok(Some((self.without_values(), action))),
            Action::Leave if grant.reveals(&row.into()) => Ok(Some((filled, action))),
            // It was hidden since, and the change that hid it is of a record that has left already.
            Action::Leave => Ok(Some((self.without_values(), Action::Delete))),
            Action::Create | Action::Update | Action::Enter => {
                Ok(grant.shows(row).then_some((filled, action)))
            }
        }
    }

    fn without_values(&self) -> Self {
        let mut empty = self.clone();
        empty.after.clear();
        empty.previous.clear();
        empty
    }

    /// The fields that an update changed, that the grant shows, and that this version of the app knows.
    fn visible_changes<'a>(&'a self, grant: &Grant) -> impl Iterator<Item = &'a str> {
        let names = self.previous.keys().map(String::as_str);
        names.filter(|name| self.after.contains_key(*name) && grant.view.shows(name))
    }

    /// What the change does to the records that exist for the holder of this grant. `None` if nothing visible changed.
    pub(crate) fn visible_action(
        &self,
        grant: &Grant,
    ) -> Result<Option<Action>, UnknownMembership> {
        let Some(action) = self.action_on_members(grant)? else {
            return Ok(None);
        };
        let is_visible = action != Action::Update
            || self.previous.is_empty()
            || self.visible_changes(grant).next().is_some();
        Ok(is_visible.then_some(action))
    }

    /// The change as the holder of this grant sees it, with the result of an earlier [`Change::visible_action`]: the app's test for records
    /// may return something else now. `None` if nothing visible changed.
    pub(crate) fn view_as<'a>(&'a self, action: Action, grant: &Grant) -> Option<ChangeView<'a>> {
        let changed = match action {
            Action::Create | Action::Delete | Action::Enter | Action::Leave => ChangedFields::All,
            Action::Update if self.previous.is_empty() => ChangedFields::All,
            Action::Update => {
                let visible: Vec<&str> = self.visible_changes(grant).collect();
                if visible.is_empty() {
                    return None;
                }
                ChangedFields::These(visible)
            }
        };
        Some(ChangeView {
            change: self,
            action,
            changed,
        })
    }

    /// The approximate number of bytes that the change takes in memory.
    pub(crate) fn size_in_memory(&self) -> usize {
        size_of_fields(&self.after) + size_of_fields(&self.previous) + 200
    }

    /// What the change does to the set of records that the grant shows, and of these to those that are asked for.
    fn action_on_members(&self, grant: &Grant) -> Result<Option<Action>, UnknownMembership> {
        if grant.is_for_all() {
            return Ok(Some(self.action));
        }
        let (is_revealed, is_member) = match self.action {
            Action::Delete => (false, false),
            _ => membership(grant, &Values::new(&self.key.id, &self.after)),
        };
        if self.action == Action::Create {
            return Ok(is_member.then_some(Action::Create));
        }
        if self.previous.is_empty() {
            // What the record was is unknown. An id is only sent if the principal may know it.
            return match (is_member, is_revealed, grant.rows.is_some()) {
                (true, _, _) if grant.asked.is_some() => Ok(Some(Action::Enter)),
                (true, _, _) => Ok(Some(Action::Update)),
                (false, true, _) => Ok(Some(Action::Leave)),
                (false, false, true) => Err(UnknownMembership),
                (false, false, false) => Ok(Some(Action::Delete)),
            };
        }
        let before = Values::new(&self.key.id, &self.after).with_previous(&self.previous);
        let (was_revealed, was_member) = membership(grant, &before);
        Ok(match (was_member, is_member) {
            (false, false) => None,
            (true, true) => Some(Action::Update),
            (false, true) if was_revealed => Some(Action::Enter),
            (false, true) => Some(Action::Create),
            (true, false) if is_revealed => Some(Action::Leave),
            (true, false) => Some(Action::Delete),
        })
    }
}

/// What a change was to the subscriber can't be told: the values before it are unknown, and the record is hidden now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnknownMembership;

/// Whether a record with these values exists for the holder of the grant, and whether it is also asked for.
fn membership(grant: &Grant, values: &Values<'_>) -> (bool, bool) {
    let is_revealed = grant.reveals(values);
    (is_revealed, is_revealed && grant.is_asked(values))
}

impl FoldedChange {
    /// The change of one view, unfolded.
    pub(crate) fn of(view: &ChangeView<'_>, grant: &Grant) -> Self {
        let change = view.change;
        let mut record = grant.view.project_fields(&change.after);
        if view.action == Action::Delete {
            // The record as it was. Its values after the change belong to a record that the principal may not read.
            let previous = grant.view.project_fields(&change.previous).into_iter();
            record.extend(previous.filter(|(name, _)| {
                change.action == Action::Delete || change.after.contains_key(name)
            }));
            if change.action == Action::Update && change.previous.is_empty() {
                // After a refresh it is unknown what the record was while it was visible, if it ever was.
                record.clear();
            }
        }
        let fields = match (&view.changed, view.action) {
            (_, Action::Delete | Action::Leave) => Fields::new(),
            (ChangedFields::All, _) => record.clone(),
            (ChangedFields::These(names), _) => names
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), record.get(*name)?.clone())))
                .collect(),
        };
        let idempotency_keys = change.idempotency_key.iter().cloned().collect();
        Self {
            id: change.key.id.clone(),
            action: view.action,
            fields,
            record,
            idempotency_keys,
            at: change.at,
        }
    }

    /// Folds a later change of the same record into this one.
    pub(crate) fn fold(&mut self, later: Self) {
        self.action = match (self.action, later.action) {
            (_, Action::Delete | Action::Leave) => {
                self.fields.clear();
                later.action
            }
            // A create after a delete replaces the record. An update of a created record is still a create.
            (_, Action::Create | Action::Enter) => {
                self.fields.clone_from(&later.record);
                later.action
            }
            (Action::Delete | Action::Leave, Action::Update) => {
                self.fields.clone_from(&later.record);
                Action::Create
            }
            (Action::Create | Action::Enter | Action::Update, Action::Update) => {
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
    use serde_json::json;

    use super::*;
    use crate::model::change::FoldedChanges;
    use crate::model::cursor::Position;
    use crate::model::filter::Filter;
    use crate::model::query::Query;
    use crate::model::record::RecordKey;
    use crate::model::timestamp::Timestamp;
    use crate::schema::rules::{Rules, everyone, exists, on, owner, principal};
    use crate::schema::view::View;

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

    fn view<'a>(change: &'a Change, grant: &Grant) -> Option<ChangeView<'a>> {
        change.view_as(change.visible_action(grant).unwrap()?, grant)
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
                _ => change(*action, json!({}), json!({"a": at, "b": 0})),
            })
            .collect();
        let mut folded = FoldedChanges::default();
        for change in &changes {
            let view = view(change, &grant).unwrap();
            folded.push(FoldedChange::of(&view, &grant));
        }
        let folded = folded.changes;
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
    fn a_record_that_becomes_visible_or_hidden_is_created_or_deleted() {
        let grant =
            Grant::full().with_rows_fn("open", |record| record.fields["open"] == json!(true));
        let action = |before: bool, after: bool| {
            let change = change(
                Action::Update,
                json!({"open": after, "n": 1}),
                json!({"open": before, "n": 0}),
            );
            change.visible_action(&grant).unwrap()
        };
        assert_eq!(action(false, false), None);
        assert_eq!(action(false, true), Some(Action::Create));
        assert_eq!(action(true, true), Some(Action::Update));
        assert_eq!(action(true, false), Some(Action::Delete));
    }

    #[test]
    fn a_record_that_left_before_it_was_deleted_has_its_end() {
        let schema = json!({"type": "object", "properties": {
            "open": {"type": "boolean"}, "body": {"type": "string"},
        }});
        let notes = Collection::from_schema("users", &schema).open_to_everyone();
        let query = Query::read("open=is.true", &[]).unwrap();
        let grant = Grant::full().narrowed(&query, &notes).unwrap();
        // The body was left out of the log, and the record is gone.
        let leaves = change(
            Action::Update,
            json!({"open": false}),
            json!({"open": true}),
        );
        let (filled, action) = leaves.filled(None, &grant).unwrap().unwrap();
        assert_eq!((action, filled.after), (Action::Delete, Fields::new()));
        let enters = change(
            Action::Update,
            json!({"open": true}),
            json!({"open": false}),
        );
        assert!(enters.filled(None, &grant).unwrap().is_none());
    }

    /// A grant for the records that are open, of those with a body.
    fn open_ones(query: &str) -> Grant {
        let schema = json!({"type": "object", "properties": {
            "open": {"type": "boolean"}, "body": {"type": "string"}, "stars": {"type": "integer"},
        }});
        let notes = Collection::from_schema("users", &schema);
        let grant = Grant::full().with_rows(Filter::eq("open", true));
        let grant = grant.checked(&notes).unwrap();
        let query = Query::read(query, &[]).unwrap();
        grant.narrowed(&query, &notes).unwrap()
    }

    #[test]
    fn an_update_of_a_hidden_record_is_nothing_whatever_the_log_has_left_out() {
        let hidden = change(
            Action::Update,
            json!({"open": false, "stars": 1}),
            json!({"stars": 0}),
        );
        let grant = open_ones("body=neq.x");
        assert!(!hidden.lacks_for(&grant));
        let row = |open: bool| Record {
            id: 1.into(),
            fields: fields(json!({"open": open, "stars": 1, "body": "canary"})),
        };
        for row in [None, Some(row(false)), Some(row(true))] {
            assert_eq!(hidden.filled(row.as_ref(), &grant).unwrap(), None);
        }
        // One that is hidden by the change ends, and with its present values it is not shown.
        let hides = change(
            Action::Update,
            json!({"open": false, "stars": 1}),
            json!({"open": true}),
        );
        for row in [None, Some(row(false))] {
            let (shown, action) = hides.filled(row.as_ref(), &grant).unwrap().unwrap();
            assert_eq!((action, shown.after), (Action::Delete, Fields::new()));
        }
        let other = open_ones("body=eq.x");
        let (shown, action) = hides.filled(Some(&row(true)), &other).unwrap().unwrap();
        assert_eq!((action, shown.after), (Action::Leave, Fields::new()));
        // One that leaves the query, and was hidden since.
        let leaves = change(
            Action::Update,
            json!({"open": true, "stars": 1}),
            json!({"stars": 0}),
        );
        let few = open_ones("stars=lt.1");
        let (shown, action) = leaves.filled(Some(&row(false)), &few).unwrap().unwrap();
        assert_eq!((action, shown.after), (Action::Delete, Fields::new()));
    }

    #[test]
    fn values_that_decide_who_reads_are_logged_with_each_update() {
        let schema = json!({"type": "object", "properties": {
            "owner": {"type": "string"}, "draft": {"type": "string"}, "team": {"type": "string"},
            "body": {"type": "string"}, "stars": {"type": "integer"},
        }});
        let rules = Rules::new()
            .read(owner("owner").rows(!Filter::is_null("draft")))
            .read(exists(
                "members",
                on("name").equals("team"),
                principal("user"),
            ))
            .write(everyone().rows(Filter::eq("body", "")));
        let of = |collection: Collection| {
            let large = "x".repeat(MAX_UNCHANGED_BYTES + 1);
            let after =
                json!({"owner": large, "draft": large, "team": large, "body": large, "stars": 1});
            let change = Arc::new(change(Action::Update, after, json!({"stars": 0})));
            let logged = change.for_log(&collection);
            let mut names: Vec<String> = logged.after.keys().cloned().collect();
            names.sort_unstable();
            names.join(" ")
        };
        let notes = || Collection::from_schema("users", &schema);
        assert_eq!(of(notes().rules(rules)), "draft owner stars team");
        assert_eq!(of(notes().open_to_everyone()), "stars");
        assert_eq!(of(notes().rules(Rules::new().read(everyone()))), "stars");
        let any = notes().authorize_fn(|_, _| Ok(Grant::full()));
        assert_eq!(of(any), "body draft owner stars team");
    }

    #[test]
    fn a_change_of_only_hidden_fields_is_not_visible() {
        let grant = Grant::full().with_view(View::only(["a"]));
        assert!(
            view(
                &change(Action::Update, json!({"a": 1, "b": 2}), json!({"b": 1})),
                &grant
            )
            .is_none()
        );
        let change = change(
            Action::Update,
            json!({"a": 1, "b": 2}),
            json!({"a": 0, "b": 1}),
        );
        let folded = FoldedChange::of(&view(&change, &grant).unwrap(), &grant);
        assert_eq!(
            (folded.fields, folded.record),
            (fields(json!({"a": 1})), fields(json!({"a": 1})))
        );
    }
}
