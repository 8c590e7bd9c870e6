//! The results of a batch whose changes have their positions.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::change::Change;
use crate::model::cursor::Position;
use crate::model::edit::Edit;
use crate::model::outcome::{IdempotencyKey, IdempotencyRecord, Outcome};
use crate::model::record::{Record, RecordId};
use crate::write::batch::{Batch, GroupResult, RefusedEdit};
use crate::write::plan::Planned;

/// A plan whose mutations were performed.
#[derive(Debug)]
pub(crate) struct SettledPlan {
    pub(crate) batch: Batch,
    pub(crate) results: Vec<Result<Vec<Planned>, RefusedEdit>>,
    /// What became of each mutation.
    pub(crate) mutations: Vec<Mutated>,
}

/// What became of a mutation: the index of its draft, or the record that it left as it was.
#[derive(Debug)]
pub(crate) enum Mutated {
    Changed(usize),
    Unchanged(RecordId, Option<Record>),
}

impl SettledPlan {
    /// The idempotency keys to store, and the result of each group.
    pub(crate) fn finish(
        self,
        changes: &[Arc<Change>],
        heads: &HashMap<Arc<str>, Position>,
    ) -> (Vec<IdempotencyRecord>, Vec<GroupResult>) {
        let mut idempotency_records = Vec::new();
        let mut results = Vec::with_capacity(self.results.len());
        for (group, planned) in self.batch.groups.iter().zip(self.results) {
            let outcomes = planned.map(|planned| {
                let edits = planned.into_iter().zip(&group.edits);
                edits
                    .map(|(planned, (edit, collection, _))| {
                        let unchanged = |id, record| Outcome::Unchanged {
                            id,
                            record,
                            position: heads[collection.name()],
                        };
                        let outcome = match planned {
                            Planned::Mutation(at) => match &self.mutations[at] {
                                Mutated::Changed(draft) => {
                                    Outcome::Committed(Arc::clone(&changes[*draft]))
                                }
                                Mutated::Unchanged(id, record) => {
                                    unchanged(id.clone(), record.clone())
                                }
                            },
                            Planned::Unchanged(record) => {
                                unchanged(record.id.clone(), Some(record))
                            }
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
        (idempotency_records, results)
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
