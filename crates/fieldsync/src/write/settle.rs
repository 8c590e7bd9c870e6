//! What to log for a batch: its rows as the database left them, and what was captured meanwhile, become changes and outcomes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::model::change::{Action, Change};
use crate::model::cursor::Position;
use crate::model::outcome::IdempotencyRecord;
use crate::model::record::{Fields, Record, RecordKey};
use crate::model::timestamp::Timestamp;
use crate::schema::collection::Collection;
use crate::write::batch::{Batch, GroupResult};
use crate::write::captured::{Captured, Folded, by_record, fold};
use crate::write::mutation::{HeadUpdate, Mutation, Write};
use crate::write::plan::Plan;
use crate::write::results::{Mutated, SettledPlan};

/// The changes to log, before their offsets are known.
///
/// The store updates the heads that [`Settled::head_updates`] names, and passes them to [`Settled::finish`].
#[derive(Debug)]
pub struct Settled {
    now: Timestamp,
    drafts: Vec<Draft>,
    planned: Option<SettledPlan>,
    /// The collections of what was captured.
    captured: Arc<HashMap<Arc<str>, Arc<Collection>>>,
}

/// A change without a position.
#[derive(Debug)]
struct Draft {
    key: RecordKey,
    action: Action,
    after: Fields,
    previous: Fields,
    tag: u32,
    /// The indexes of the group and the edit. `None` for what was captured.
    edit: Option<(usize, usize)>,
}

/// What a store writes to the logs, and what it returns.
#[derive(Debug)]
#[non_exhaustive]
pub struct CommitOutput {
    /// The changes, whole, to return.
    pub changes: Vec<Arc<Change>>,
    /// The changes to append to the logs, some without large values that did not change.
    pub logged: Vec<Arc<Change>>,
    /// The idempotency keys to store.
    pub idempotency_records: Vec<IdempotencyRecord>,
    /// The result of each group.
    pub results: Vec<GroupResult>,
}

impl Plan {
    /// The record of each mutation, given the rows that the mutations returned.
    ///
    /// # Panics
    /// When an insert returned no row, which is a bug of the store.
    #[must_use]
    pub fn written_records(&self, rows: &[Option<Record>]) -> Vec<RecordKey> {
        let written = self.mutations.iter().zip(rows);
        written
            .map(|(mutation, row)| key_of(mutation, row.as_ref()))
            .collect()
    }

    /// Turns the rows that the mutations returned, and what was captured, into changes.
    ///
    /// Of a record that the plan writes, the captured writes of others come first, up to the row as the plan found it. Then
    /// come the mutations. If the row is now different from what the last mutation returned, a trigger has changed it: the
    /// change has the row as it is now, and a delete that did not delete is an update. Everything else that was captured
    /// follows, one change per record.
    ///
    /// # Panics
    /// When the number of rows differs from the number of mutations, which is a bug of the store.
    #[must_use]
    pub fn settle(self, rows: Vec<Option<Record>>, captured: &Captured) -> Settled {
        assert_eq!(rows.len(), self.mutations.len(), "a row per mutation");
        let keys = self.written_records(&rows);
        let Self {
            batch,
            now,
            records,
            mutations,
            results,
        } = self;
        let planned: HashSet<&RecordKey> = keys.iter().collect();
        let mut drafts = Vec::new();
        let mut of_others = HashMap::new();
        let others = captured.others.iter();
        for (key, writes) in by_record(others.filter(|write| planned.contains(&write.key))) {
            let found = records.get(key);
            for folded in fold(&writes, found) {
                of_others.insert(key, drafts.len());
                drafts.push(Draft::captured(key, folded));
            }
        }
        let last: HashMap<&RecordKey, usize> = keys.iter().zip(0..).collect();
        let mut settling = Settling {
            captured,
            of_others,
            latest: records.clone(),
            drafts,
        };
        let mut mutated = Vec::with_capacity(keys.len());
        for (at, ((mutation, key), row)) in mutations.iter().zip(&keys).zip(rows).enumerate() {
            let is_last = last[key] == at;
            mutated.push(settling.mutation(mutation, key, row, is_last));
        }
        let mut drafts = settling.drafts;
        drafts.extend(effects(captured, &planned));
        Settled {
            now,
            drafts,
            planned: Some(SettledPlan {
                batch,
                results,
                mutations: mutated,
            }),
            captured: Arc::clone(&captured.collections),
        }
    }
}

/// The record of a mutation. The database has given an inserted row its id by now.
fn key_of(mutation: &Mutation, row: Option<&Record>) -> RecordKey {
    let id = match (&mutation.write, row) {
        (Write::Update { id, .. } | Write::Delete { id } | Write::Refresh { id }, _) => id.clone(),
        (Write::Insert { .. }, Some(row)) => row.id.clone(),
        (Write::Insert { .. }, None) => unreachable!("a store returns the row of an insert"),
    };
    RecordKey {
        collection: Arc::clone(mutation.collection.name()),
        id,
    }
}

/// What was captured of records that the plan does not write.
fn effects<'a>(
    captured: &'a Captured,
    planned: &'a HashSet<&RecordKey>,
) -> impl Iterator<Item = Draft> + 'a {
    let writes = captured.others.iter().chain(&captured.own);
    let writes = by_record(writes.filter(|write| !planned.contains(&write.key)));
    writes.into_iter().flat_map(|(key, writes)| {
        let now = captured.rows.get(key).and_then(Option::as_ref);
        let folded = fold(&writes, now).into_iter();
        folded.map(move |folded| Draft::captured(key, folded))
    })
}

struct Settling<'a> {
    captured: &'a Captured,
    /// The last draft of what others did to each record of the plan.
    of_others: HashMap<&'a RecordKey, usize>,
    /// The rows as the mutations so far have left them.
    latest: HashMap<RecordKey, Record>,
    drafts: Vec<Draft>,
}

impl Settling<'_> {
    fn mutation(
        &mut self,
        mutation: &Mutation,
        key: &RecordKey,
        row: Option<Record>,
        is_last: bool,
    ) -> Mutated {
        let (mut after, mut vanished) = (row, false);
        if let Some(now) = self.captured.rows.get(key).filter(|_| is_last) {
            vanished = after.is_some() && now.is_none();
            if !vanished {
                after.clone_from(now);
            }
        }
        let before = self.latest.remove(key);
        let mutated = self.draft(mutation, key, before, after.as_ref());
        if let Some(row) = after {
            if vanished {
                // Another edit of the batch, or a trigger, has deleted it.
                let folded = Folded {
                    action: Action::Delete,
                    after: Fields::new(),
                    previous: row.fields.clone(),
                };
                self.drafts.push(Draft::captured(key, folded));
            }
            self.latest.insert(key.clone(), row);
        }
        mutated
    }

    /// Drafts the change of a mutation that turned the row `before` into `after`.
    fn draft(
        &mut self,
        mutation: &Mutation,
        key: &RecordKey,
        before: Option<Record>,
        after: Option<&Record>,
    ) -> Mutated {
        let unchanged = |after: Option<&Record>| Mutated::Unchanged(key.id.clone(), after.cloned());
        let (action, previous) = match (&mutation.write, after) {
            (Write::Insert { .. }, _) => (Action::Create, Fields::new()),
            (Write::Update { .. } | Write::Delete { .. }, Some(after)) => {
                let before = before.map(|before| before.fields).unwrap_or_default();
                let is_changed =
                    |(name, value): &(String, _)| after.fields.get(name) != Some(value);
                let previous: Fields = before.into_iter().filter(is_changed).collect();
                if previous.is_empty() {
                    return unchanged(Some(after));
                }
                (Action::Update, previous)
            }
            (Write::Update { .. } | Write::Delete { .. }, None) => {
                let before = before.map(|before| before.fields);
                (Action::Delete, before.unwrap_or_default())
            }
            (Write::Refresh { .. }, after) => {
                // What others did to the record is all that there is to log, where it is captured.
                if let Some(draft) = self.of_others.get(key) {
                    self.drafts[*draft].edit = Some((mutation.group, mutation.edit));
                    return Mutated::Changed(*draft);
                }
                match after {
                    Some(_) => (Action::Update, Fields::new()),
                    None if self.captured.collections.contains_key(&key.collection) => {
                        return unchanged(None);
                    }
                    None => {
                        let before = before.map(|before| before.fields);
                        (Action::Delete, before.unwrap_or_default())
                    }
                }
            }
        };
        self.drafts.push(Draft {
            key: key.clone(),
            action,
            after: after.map(|row| row.fields.clone()).unwrap_or_default(),
            previous,
            tag: fastrand::u32(1..),
            edit: Some((mutation.group, mutation.edit)),
        });
        Mutated::Changed(self.drafts.len() - 1)
    }
}

impl Draft {
    /// The change for what was captured of a record.
    fn captured(key: &RecordKey, folded: Folded) -> Self {
        Self {
            key: key.clone(),
            action: folded.action,
            after: folded.after,
            previous: folded.previous,
            tag: fastrand::u32(1..),
            edit: None,
        }
    }
}

impl Settled {
    /// Turns what was captured, without a batch, into changes.
    #[must_use]
    pub fn of_captured(captured: &Captured) -> Self {
        Self {
            now: Timestamp::now(),
            drafts: effects(captured, &HashSet::new()).collect(),
            planned: None,
            captured: Arc::clone(&captured.collections),
        }
    }

    /// The heads to update, or only to read where the count is 0, in the order in which to lock them.
    #[must_use]
    pub fn head_updates(&self) -> Vec<HeadUpdate> {
        let mut counts: BTreeMap<&Arc<str>, (u64, u32)> = BTreeMap::new();
        if let Some(planned) = &self.planned {
            let groups = planned.batch.groups.iter();
            for (_, collection, _) in groups.flat_map(|group| &group.edits) {
                counts.entry(collection.name()).or_default();
            }
        }
        for draft in &self.drafts {
            let (count, last_tag) = counts.entry(&draft.key.collection).or_default();
            *count += 1;
            *last_tag = draft.tag;
        }
        let update = |(collection, (count, last_tag)): (&Arc<str>, _)| HeadUpdate {
            collection: Arc::clone(collection),
            count,
            last_tag,
        };
        counts.into_iter().map(update).collect()
    }

    /// Builds the changes to log and the results, from the updated heads.
    ///
    /// # Panics
    /// When a head is missing, which is a bug of the store.
    #[must_use]
    pub fn finish(self, heads: &HashMap<Arc<str>, Position>) -> CommitOutput {
        let counts = self.head_updates().into_iter();
        let mut offsets: HashMap<Arc<str>, u64> = counts
            .map(|update| {
                let last = heads[&update.collection].offset;
                (update.collection, last - update.count)
            })
            .collect();
        let mut changes = Vec::with_capacity(self.drafts.len());
        for draft in self.drafts {
            let epoch = heads[&draft.key.collection].epoch;
            let offset = offsets
                .get_mut(&draft.key.collection)
                .expect("every collection with a change has a head");
            *offset += 1;
            let position = Position {
                epoch,
                offset: *offset,
                tag: draft.tag,
            };
            let batch = self.planned.as_ref().map(|planned| &planned.batch);
            changes.push(Arc::new(draft.into_change(position, self.now, batch)));
        }
        let batch = self.planned.as_ref().map(|planned| &planned.batch);
        let logged = for_log(&changes, batch, &self.captured);
        let (idempotency_records, results) = match self.planned {
            Some(planned) => planned.finish(&changes, heads),
            None => (Vec::new(), Vec::new()),
        };
        CommitOutput {
            changes,
            logged,
            idempotency_records,
            results,
        }
    }
}

impl Draft {
    fn into_change(self, position: Position, at: Timestamp, batch: Option<&Batch>) -> Change {
        let edit = self.edit.zip(batch).map(|((group, edit), batch)| {
            let group = &batch.groups[group];
            (group.name(), &group.edits[edit].0)
        });
        Change {
            position,
            key: self.key,
            action: self.action,
            after: self.after,
            previous: self.previous,
            at,
            who: edit.and_then(|(who, _)| who).map(str::to_owned),
            idempotency_key: edit.and_then(|(_, edit)| edit.idempotency_key.clone()),
        }
    }
}

/// The changes as they are logged.
fn for_log(
    changes: &[Arc<Change>],
    batch: Option<&Batch>,
    captured: &HashMap<Arc<str>, Arc<Collection>>,
) -> Vec<Arc<Change>> {
    let groups = batch.into_iter().flat_map(|batch| &batch.groups);
    let of_batch = groups.flat_map(|group| &group.edits);
    let of_batch: HashMap<_, _> = of_batch
        .map(|(_, collection, _)| (collection.name(), collection))
        .collect();
    let for_log = |change: &Arc<Change>| {
        let name = &change.key.collection;
        let collection = of_batch.get(name).copied().or_else(|| captured.get(name));
        collection.map_or_else(|| Arc::clone(change), |known| change.for_log(known))
    };
    changes.iter().map(for_log).collect()
}
