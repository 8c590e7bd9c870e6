//! The first records of an order, as one subscriber has them: which they are and where they stand, without their other values.
//!
//! A window knows all matching records up to a place, its reach. A change of a record before that place moves it in, out, or within; what is
//! behind it need not be known. When records have left and others behind the reach must follow, these are read.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::model::change::{Action, Change, FoldedChange, FoldedChanges};
use crate::model::record::{Fields, Record, RecordId};
use crate::model::timestamp::Timestamp;
use crate::schema::change_view::UnknownMembership;
use crate::schema::grant::Grant;
use crate::schema::sorting::{SortKey, Sorting};
use crate::schema::values::Values;

/// The window of one subscriber.
#[derive(Debug)]
pub(crate) struct Window {
    limit: usize,
    sorting: Arc<Sorting>,
    /// The places of its records, in their order.
    keys: Vec<SortKey>,
    reach: Reach,
    pub(crate) phase: Phase,
    /// What was not delivered yet: the window is not whole.
    pub(crate) folded: FoldedChanges,
    /// Whether changes were delivered without a cursor.
    pub(crate) owes_cursor: bool,
    /// Whether the last piece that was read had nothing for it, and more follows.
    pub(crate) is_sparse: bool,
}

/// Up to where the matching records are known.
#[derive(Debug)]
enum Reach {
    Nothing,
    UpTo(SortKey),
    All,
}

/// What the subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// What was delivered of a snapshot.
    Snapshot,
    /// The window at its cursor, which is not known here.
    Resuming,
    /// The window.
    Live,
}

/// What a change does to a window.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    /// What it does to its own record.
    pub(crate) action: Option<Action>,
    /// The record for which there is no more room.
    pub(crate) pushed_out: Option<RecordId>,
}

impl Effect {
    fn of(action: Option<Action>) -> Self {
        let pushed_out = None;
        Self { action, pushed_out }
    }
}

impl Window {
    /// The window that a grant's query asks for, if it does.
    pub(crate) fn of(grant: &Grant) -> Option<Self> {
        Some(Self {
            limit: grant.window?,
            sorting: Arc::clone(grant.sorting.as_ref()?),
            keys: Vec::new(),
            reach: Reach::Nothing,
            phase: Phase::Snapshot,
            folded: FoldedChanges::default(),
            owes_cursor: false,
            is_sparse: false,
        })
    }

    /// Begins again with a snapshot.
    pub(crate) fn restart(&mut self) {
        self.keys.clear();
        self.reach = Reach::Nothing;
        self.phase = Phase::Snapshot;
        self.folded = FoldedChanges::default();
        self.owes_cursor = false;
        self.is_sparse = false;
    }

    /// How many records are missing, unless there are no more.
    pub(crate) fn missing(&self) -> usize {
        match self.reach {
            Reach::All => 0,
            Reach::Nothing | Reach::UpTo(_) => self.limit - self.keys.len(),
        }
    }

    /// Whether nothing is known yet.
    pub(crate) fn is_blank(&self) -> bool {
        matches!(self.reach, Reach::Nothing)
    }

    /// The place after which the missing records are to be read.
    pub(crate) fn reach(&self) -> Option<&SortKey> {
        match &self.reach {
            Reach::UpTo(key) => Some(key),
            Reach::Nothing | Reach::All => None,
        }
    }

    /// Applies a change, with what it does to the records that match. What the subscriber had is known by this window alone.
    pub(crate) fn apply(
        &mut self,
        change: &Change,
        of_matching: Result<Option<Action>, UnknownMembership>,
    ) -> Effect {
        let id = &change.key.id;
        let action = match of_matching {
            Ok(None) => return Effect::of(None),
            Ok(Some(action)) => action,
            Err(UnknownMembership) => Action::Delete,
        };
        let index = self.keys.iter().position(|key| key.id == *id);
        if matches!(action, Action::Delete | Action::Leave) {
            let left = index.map(|index| self.keys.remove(index));
            return Effect::of(left.map(|_| action));
        }
        let key = self.sorting.key_of(&Values::new(id, &change.after));
        let had_it = index.map(|index| self.keys.remove(index)).is_some();
        if !self.covers(&key) {
            return Effect::of(had_it.then_some(Action::Leave));
        }
        let before = |known: &SortKey| self.sorting.compare(known, &key) == Ordering::Less;
        let place = self.keys.partition_point(before);
        self.keys.insert(place, key);
        let arrives = if action == Action::Update && !had_it {
            Action::Enter
        } else {
            action
        };
        if self.keys.len() <= self.limit {
            return Effect::of(Some(arrives));
        }
        let pushed_out = self.keys.pop().map(|key| key.id);
        self.reach = match self.keys.last() {
            Some(last) => Reach::UpTo(last.clone()),
            None => Reach::Nothing,
        };
        if pushed_out.as_ref() == Some(id) {
            return Effect::of(had_it.then_some(Action::Leave));
        }
        let action = Some(arrives);
        Effect { action, pushed_out }
    }

    fn covers(&self, key: &SortKey) -> bool {
        match &self.reach {
            Reach::Nothing => false,
            Reach::UpTo(reach) => self.sorting.compare(key, reach) != Ordering::Greater,
            Reach::All => true,
        }
    }

    /// Takes the records that follow the reach, and returns those for which there is room.
    pub(crate) fn take(
        &mut self,
        records: Vec<Record>,
        grant: &Grant,
        is_last: bool,
    ) -> Vec<Record> {
        let end = records.last().map(|last| self.sorting.key(last));
        let mut taken = Vec::new();
        for record in records.into_iter().filter(|record| grant.shows(record)) {
            if self.keys.len() >= self.limit {
                if let Some(last) = self.keys.last() {
                    self.reach = Reach::UpTo(last.clone());
                }
                return taken;
            }
            // It may be known at a place that it has left, of which the log does not tell yet.
            self.keys.retain(|key| key.id != record.id);
            self.keys.push(self.sorting.key(&record));
            taken.push(record);
        }
        self.is_sparse = taken.is_empty() && !is_last;
        match end {
            _ if is_last => self.reach = Reach::All,
            Some(end) => self.reach = Reach::UpTo(end),
            None => {}
        }
        taken
    }

    /// Keeps what a change has done, to be delivered when the window is whole.
    pub(crate) fn fold(&mut self, change: &Change, effect: Effect, grant: &Grant) {
        let view = effect
            .action
            .and_then(|action| change.view_as(action, grant));
        if let Some(view) = view {
            self.folded.push(FoldedChange::of(&view, grant));
        }
        if let Some(id) = effect.pushed_out {
            let nothing = Fields::new();
            self.fold_other(id, Action::Leave, nothing, change.at);
        }
    }

    /// Keeps that a record which others have left room for is there now.
    pub(crate) fn fold_arrival(&mut self, record: Record) {
        let now = Timestamp::now();
        self.fold_other(record.id, Action::Enter, record.fields, now);
    }

    fn fold_other(&mut self, id: RecordId, action: Action, fields: Fields, at: Timestamp) {
        self.folded.push(FoldedChange {
            id,
            action,
            record: fields.clone(),
            fields,
            idempotency_keys: Vec::new(),
            at,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::model::cursor::Position;
    use crate::model::filter::Filter;
    use crate::model::order::desc;
    use crate::model::query::Query;
    use crate::model::record::RecordKey;
    use crate::schema::collection::Collection;

    const LIMIT: usize = 4;

    fn collection() -> Collection {
        let schema = json!({"type": "object", "properties": {
            "rank": {"type": ["integer", "null"]},
            "open": {"type": "boolean"},
        }});
        Collection::from_schema("tasks", &schema).open_to_everyone()
    }

    fn grant() -> Grant {
        let query = Query {
            filter: Some(Filter::eq("open", true)),
            order: vec![desc("rank")],
            window: Some(LIMIT),
            ..Query::default()
        };
        Grant::full().narrowed(&query, &collection()).unwrap()
    }

    fn fields(rank: Option<i64>, open: bool) -> Fields {
        let fields = json!({"rank": rank, "open": open});
        fields.as_object().unwrap().clone()
    }

    /// A table, and what a client has of its window.
    struct Model {
        grant: Grant,
        rows: BTreeMap<i64, Fields>,
        window: Window,
        client: BTreeMap<RecordId, Fields>,
        reads: usize,
    }

    impl Model {
        fn new(rows: BTreeMap<i64, Fields>) -> Self {
            let grant = grant();
            let mut model = Self {
                window: Window::of(&grant).unwrap(),
                grant,
                rows,
                client: BTreeMap::new(),
                reads: 0,
            };
            model.fill();
            model.window.phase = Phase::Live;
            model.reads = 0;
            model
        }

        fn sorted(&self) -> Vec<Record> {
            let rows = self.rows.iter();
            let records = rows.map(|(id, fields)| Record {
                id: (*id).into(),
                fields: fields.clone(),
            });
            let mut records: Vec<_> = records.collect();
            let sorting = self.grant.sorting.clone().unwrap();
            records.sort_by(|one, other| sorting.compare(&sorting.key(one), &sorting.key(other)));
            records
        }

        /// Reads what is missing, two rows at a time.
        fn fill(&mut self) {
            let before = self.reads;
            while self.window.is_blank() || self.window.missing() > 0 {
                self.reads += 1;
                assert!(
                    self.reads - before <= self.rows.len() / 2 + 1,
                    "the window reads on after the last row"
                );
                let sorting = self.grant.sorting.clone().unwrap();
                let reach = self.window.reach().cloned();
                let follows = |record: &Record| {
                    let order = |reach| sorting.compare(&sorting.key(record), reach);
                    reach
                        .as_ref()
                        .is_none_or(|reach| order(reach) == Ordering::Greater)
                };
                let mut rest: Vec<_> = self.sorted().into_iter().filter(follows).collect();
                let is_last = rest.len() <= 2;
                rest.truncate(2);
                for record in self.window.take(rest, &self.grant, is_last) {
                    self.window.fold_arrival(record);
                }
            }
            for change in std::mem::take(&mut self.window.folded).changes {
                match change.action {
                    Action::Delete | Action::Leave => {
                        assert!(change.fields.is_empty());
                        self.client.remove(&change.id);
                    }
                    _ => {
                        let known = self.client.entry(change.id).or_default();
                        known.extend(change.fields);
                    }
                }
            }
        }

        fn write(&mut self, id: i64, to: Option<Fields>) {
            let before = match &to {
                Some(fields) => self.rows.insert(id, fields.clone()),
                None => self.rows.remove(&id),
            };
            let (action, previous) = match (&before, &to) {
                (None, None) => return,
                (None, Some(_)) => (Action::Create, Fields::new()),
                (Some(before), None) => (Action::Delete, before.clone()),
                (Some(before), Some(after)) => {
                    let changed = before
                        .iter()
                        .filter(|(name, value)| after[*name] != **value);
                    let changed = changed.map(|(name, value)| (name.clone(), value.clone()));
                    let changed: Fields = changed.collect();
                    if changed.is_empty() {
                        return;
                    }
                    (Action::Update, changed)
                }
            };
            let change = Change {
                position: Position {
                    epoch: 1,
                    offset: 1,
                    tag: 1,
                },
                key: RecordKey::from(("tasks", id)),
                action,
                after: to.unwrap_or_default(),
                previous,
                at: Timestamp::from_micros(0).unwrap(),
                who: None,
                idempotency_key: None,
            };
            let effect = self
                .window
                .apply(&change, change.visible_action(&self.grant));
            self.window.fold(&change, effect, &self.grant);
        }

        fn check(&self) {
            let matching = self.sorted().into_iter();
            let first = matching.filter(|record| record.fields["open"] == Value::Bool(true));
            let first = first.take(LIMIT).map(|record| (record.id, record.fields));
            assert_eq!(self.client, first.collect());
        }
    }

    #[test]
    fn nothing_is_read_unless_records_leave() {
        let rows = (1..=6).map(|id| (id, fields(Some(id * 10), true)));
        let mut model = Model::new(rows.collect());
        // The window has 60, 50, 40 and 30.
        model.write(7, Some(fields(Some(45), true)));
        model.fill();
        model.check();
        model.write(6, Some(fields(Some(41), true)));
        model.write(1, Some(fields(Some(12), true)));
        model.fill();
        model.check();
        assert_eq!(model.reads, 0);
        model.write(6, Some(fields(Some(1), true)));
        model.fill();
        model.check();
        assert_eq!(model.reads, 1);
    }

    #[test]
    fn a_record_whose_place_is_unknown_leaves_or_stays() {
        let mut model = Model::new([(1, fields(Some(1), true))].into());
        let change = |id: i64| Change {
            position: Position {
                epoch: 1,
                offset: 1,
                tag: 1,
            },
            key: RecordKey::from(("tasks", id)),
            action: Action::Update,
            after: fields(Some(1), false),
            previous: Fields::new(),
            at: Timestamp::from_micros(0).unwrap(),
            who: None,
            idempotency_key: None,
        };
        // What was never in the window is not named.
        let effect = model.window.apply(&change(2), Err(UnknownMembership));
        assert_eq!(effect, Effect::of(None));
        let effect = model.window.apply(&change(1), Err(UnknownMembership));
        assert_eq!(effect, Effect::of(Some(Action::Delete)));
    }

    proptest! {
        #[test]
        fn the_client_has_the_first_records_after_each_batch(
            rows in proptest::collection::btree_map(0..12_i64, (proptest::option::of(0..5_i64), any::<bool>()), 0..12),
            batches in proptest::collection::vec(
                proptest::collection::vec(
                    (0..12_i64, proptest::option::of((proptest::option::of(0..5_i64), any::<bool>()))),
                    1..4,
                ),
                1..30,
            ),
        ) {
            let row = |(rank, open)| fields(rank, open);
            let mut model = Model::new(rows.into_iter().map(|(id, to)| (id, row(to))).collect());
            model.check();
            for batch in batches {
                for (id, to) in batch {
                    model.write(id, to.map(row));
                }
                model.fill();
                model.check();
            }
        }
    }
}
