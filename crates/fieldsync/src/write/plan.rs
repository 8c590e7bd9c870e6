//! The plan for a batch: the rows to write, then the changes to log and the answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use crate::model::change::{Action, Change};
use crate::model::cursor::Position;
use crate::model::edit::Edit;
use crate::model::outcome::{IdempotencyKey, IdempotencyRecord, Outcome};
use crate::model::record::{Fields, Record, RecordKey};
use crate::model::refusal::Refusal;
use crate::model::timestamp::Timestamp;
use crate::write::batch::{Batch, Group, GroupResult, RefusedEdit};
use crate::write::mutation::{HeadUpdate, Mutation, Write};

/// What to write for a batch of edits.
///
/// The store executes [`Plan::mutations`] in order, updates the heads that [`Plan::head_updates`] names, and passes the
/// rows and heads to [`Plan::finish`].
#[derive(Debug)]
pub struct Plan {
    pub(crate) batch: Batch,
    pub(crate) now: Timestamp,
    /// The rows as they were read. The first mutation of each row was decided on it.
    pub(crate) records: HashMap<RecordKey, Record>,
    pub(crate) mutations: Vec<Mutation>,
    pub(crate) results: Vec<Result<Vec<Planned>, RefusedEdit>>,
}

/// The planned outcome of one edit.
#[derive(Debug, Clone)]
pub(crate) enum Planned {
    /// The outcome of the mutation with this index.
    Mutation(usize),
    /// The record stays as it is, or as an earlier mutation of the batch leaves it.
    Unchanged(Record),
    /// The outcome of an earlier edit with the same idempotency key, from another batch.
    Replay(Outcome),
}

/// What a store writes to the logs, and what it returns.
#[derive(Debug)]
#[non_exhaustive]
pub struct CommitOutput {
    /// The changes to append to the logs, some without large values that did not change.
    pub changes: Vec<Arc<Change>>,
    /// The idempotency keys to store.
    pub idempotency_records: Vec<IdempotencyRecord>,
    /// The result of each group.
    pub results: Vec<GroupResult>,
}

impl Plan {
    /// The writes to the app's tables, in the order in which to execute them.
    #[must_use]
    pub fn mutations(&self) -> &[Mutation] {
        &self.mutations
    }

    /// The logs that grow, in the order in which to lock their heads.
    #[must_use]
    pub fn head_updates(&self) -> Vec<HeadUpdate> {
        let mut counts: BTreeMap<&Arc<str>, (u64, u32)> = BTreeMap::new();
        for (_, collection, _) in self.batch.groups.iter().flat_map(|group| &group.edits) {
            counts.entry(collection.name()).or_default();
        }
        for mutation in &self.mutations {
            let (count, last_tag) = counts.entry(mutation.collection.name()).or_default();
            *count += 1;
            *last_tag = mutation.tag;
        }
        let update = |(collection, (count, last_tag)): (&Arc<str>, _)| HeadUpdate {
            collection: Arc::clone(collection),
            count,
            last_tag,
        };
        counts.into_iter().map(update).collect()
    }

    /// The result of a batch of one group when the database has refused the mutation with this index.
    pub fn refused_by_database(&self, mutation: usize, refusal: Refusal) -> GroupResult {
        Err(RefusedEdit {
            edit: self
                .mutations
                .get(mutation)
                .map_or(0, |mutation| mutation.edit),
            refusal,
        })
    }

    /// Builds the changes to log and the results, from the rows that the mutations returned and the updated heads.
    ///
    /// # Panics
    /// When the number of rows differs from the number of mutations, or a head is missing. Both are bugs of the store.
    #[must_use]
    pub fn finish(
        self,
        rows: Vec<Option<Record>>,
        heads: &HashMap<Arc<str>, Position>,
    ) -> CommitOutput {
        assert_eq!(rows.len(), self.mutations.len(), "a row per mutation");
        let counts = self.head_updates().into_iter();
        let counts: HashMap<_, _> = counts.map(|one| (one.collection, one.count)).collect();
        let mut next: HashMap<Arc<str>, u64> = HashMap::new();
        let mut latest = self.records;
        let mut changes = Vec::with_capacity(self.mutations.len());
        for (mutation, row) in self.mutations.iter().zip(rows) {
            let name = mutation.collection.name();
            let head = heads[name];
            let offset = next
                .entry(Arc::clone(name))
                .or_insert(head.offset - counts[name]);
            *offset += 1;
            let position = Position {
                epoch: head.epoch,
                offset: *offset,
                tag: mutation.tag,
            };
            let group = &self.batch.groups[mutation.group];
            let (edit, ..) = &group.edits[mutation.edit];
            let change = change(mutation, row, &mut latest, position, group, edit, self.now);
            changes.push(Arc::new(change));
        }
        let mut idempotency_records = Vec::new();
        let mut results = Vec::with_capacity(self.results.len());
        for (group, planned) in self.batch.groups.iter().zip(self.results) {
            let outcomes = planned.map(|planned| {
                let edits = planned.into_iter().zip(&group.edits);
                edits
                    .map(|(planned, (edit, collection, _))| {
                        let outcome = match planned {
                            Planned::Mutation(at) => Outcome::Committed(Arc::clone(&changes[at])),
                            Planned::Unchanged(record) => Outcome::Unchanged {
                                record,
                                position: heads[collection.name()],
                            },
                            Planned::Replay(outcome) => return outcome,
                        };
                        if let Some(key) = group.idempotency_key(edit) {
                            idempotency_records.push(idempotency_record(key, edit, &outcome));
                        }
                        outcome
                    })
                    .collect()
            });
            results.push(outcomes);
        }
        // A key that is used twice in one batch is stored once.
        idempotency_records.sort_by(|a: &IdempotencyRecord, b| a.key.cmp(&b.key));
        idempotency_records.dedup_by(|a, b| a.key == b.key);
        let logged = changes.iter().zip(&self.mutations);
        let changes = logged.map(|(change, mutation)| change.for_log(&mutation.collection));
        CommitOutput {
            changes: changes.collect(),
            idempotency_records,
            results,
        }
    }
}

fn change(
    mutation: &Mutation,
    row: Option<Record>,
    latest: &mut HashMap<RecordKey, Record>,
    position: Position,
    group: &Group,
    edit: &Edit,
    at: Timestamp,
) -> Change {
    let id = match (&mutation.write, &row) {
        (Write::Update { id, .. } | Write::Delete { id } | Write::Refresh { id }, _) => *id,
        (Write::Insert { .. }, Some(row)) => row.id,
        (Write::Insert { .. }, None) => unreachable!("a store returns the row of an insert"),
    };
    let key = RecordKey {
        collection: Arc::clone(mutation.collection.name()),
        id,
    };
    let before = latest.remove(&key).map(|record| record.fields);
    let after = row.as_ref().map(|record| record.fields.clone());
    if let Some(row) = row {
        latest.insert(key.clone(), row);
    }
    let (action, previous) = match &mutation.write {
        Write::Insert { .. } => (Action::Create, Fields::new()),
        Write::Update { .. } => {
            let changed = |(name, value): &(String, Value)| {
                after.as_ref().and_then(|after| after.get(name)) != Some(value)
            };
            (
                Action::Update,
                before.into_iter().flatten().filter(changed).collect(),
            )
        }
        Write::Refresh { .. } if after.is_some() => (Action::Update, Fields::new()),
        Write::Delete { .. } | Write::Refresh { .. } => {
            (Action::Delete, before.unwrap_or_default())
        }
    };
    Change {
        position,
        key,
        action,
        after: after.unwrap_or_default(),
        previous,
        at,
        who: group.name().map(str::to_owned),
        idempotency_key: edit.idempotency_key.clone(),
    }
}

fn idempotency_record(key: IdempotencyKey, edit: &Edit, outcome: &Outcome) -> IdempotencyRecord {
    let collection = Arc::clone(&edit.collection);
    IdempotencyRecord {
        key,
        fingerprint: edit.fingerprint(),
        collection,
        id: outcome.id(),
        position: outcome.position(),
    }
}
