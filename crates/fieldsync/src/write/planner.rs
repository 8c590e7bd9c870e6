//! Decides the edits of a batch one after the other, each on the state that the edits before it leave.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::model::edit::Edit;
use crate::model::outcome::{IdempotencyKey, IdempotencyRecord};
use crate::model::record::{Fields, Record, RecordKey};
use crate::model::refusal::Refusal;
use crate::model::timestamp::Timestamp;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::write::batch::{Batch, Group, ReadSet, RefusedEdit, idempotency_key};
use crate::write::decide::{SinceBase, decide, predict, previous_values};
use crate::write::mutation::Mutation;
use crate::write::plan::{Plan, Planned};

impl Batch {
    /// Decides what to write, on the current rows.
    #[must_use]
    pub fn plan(&self, found: ReadSet) -> Plan {
        let ReadSet {
            remembered,
            records,
            since,
        } = found;
        let mut planner = Planner {
            now: Timestamp::now(),
            remembered,
            rows: records.clone(),
            logged: since,
            planned: HashMap::new(),
            used: HashMap::new(),
            mutations: Vec::new(),
        };
        let results = self
            .groups
            .iter()
            .enumerate()
            .map(|(at, group)| planner.group(at, group))
            .collect();
        Plan {
            batch: self.clone(),
            now: planner.now,
            found: records,
            mutations: planner.mutations,
            results,
        }
    }
}

struct Planner {
    now: Timestamp,
    remembered: HashMap<IdempotencyKey, IdempotencyRecord>,
    /// The rows as they will be after the mutations so far.
    rows: HashMap<RecordKey, Record>,
    /// What changed since the bases of edits, as far as it is in the log.
    logged: HashMap<(RecordKey, Position), ChangesSince>,
    /// What the mutations so far change of each record: the previous values, none where they are not known.
    planned: HashMap<RecordKey, Vec<Option<Fields>>>,
    /// The keys used in this batch, with the edit's fingerprint and what is planned for it.
    used: HashMap<IdempotencyKey, (String, Planned)>,
    mutations: Vec<Mutation>,
}

impl Planner {
    /// Plans a group; when one of its edits is refused, the plan is as if the group had never been.
    fn group(&mut self, at: usize, group: &Group) -> Result<Vec<Planned>, RefusedEdit> {
        if group.deadline < Instant::now() {
            return Err(RefusedEdit {
                edit: 0,
                refusal: Refusal::Busy,
            });
        }
        let mutations = self.mutations.len();
        let mut undo = Undo::default();
        let mut planned = Vec::with_capacity(group.edits.len());
        for (edit_at, (edit, collection, grant)) in group.edits.iter().enumerate() {
            match self.edit((at, edit_at), group, edit, collection, grant, &mut undo) {
                Ok(outcome) => planned.push(outcome),
                Err(refusal) => {
                    self.mutations.truncate(mutations);
                    for (key, row) in undo.rows.into_iter().rev() {
                        self.planned.entry(key.clone()).or_default().pop();
                        match row {
                            Some(row) => self.rows.insert(key, row),
                            None => self.rows.remove(&key),
                        };
                    }
                    for key in undo.used {
                        self.used.remove(&key);
                    }
                    return Err(RefusedEdit {
                        edit: edit_at,
                        refusal,
                    });
                }
            }
        }
        Ok(planned)
    }

    fn edit(
        &mut self,
        (group_at, edit_at): (usize, usize),
        group: &Group,
        edit: &Edit,
        collection: &Arc<Collection>,
        grant: &Grant,
        undo: &mut Undo,
    ) -> Result<Planned, Refusal> {
        // A key is looked up before anything else: a repetition is answered as the first was.
        let key = idempotency_key(group, edit);
        if let Some(key) = &key
            && let Some(replay) = self.replay(key, edit)?
        {
            return Ok(replay);
        }
        let record_key = edit.key();
        let row = record_key.as_ref().and_then(|key| self.rows.get(key));
        let since = self.since(edit);
        let planned = match decide(edit, collection, grant, row, &since, self.now)? {
            None => Planned::Unchanged(
                row.expect("only a row that exists can be unchanged")
                    .clone(),
            ),
            Some(write) => {
                if let Some(record_key) = record_key {
                    let after = predict(row, &write);
                    undo.rows.push((record_key.clone(), row.cloned()));
                    self.planned
                        .entry(record_key.clone())
                        .or_default()
                        .push(previous_values(row, &write));
                    match after {
                        Some(after) => self.rows.insert(record_key, after),
                        None => self.rows.remove(&record_key),
                    };
                }
                let tag = fastrand::u32(1..);
                self.mutations.push(Mutation {
                    collection: Arc::clone(collection),
                    write,
                    group: group_at,
                    edit: edit_at,
                    tag,
                });
                Planned::Mutation(self.mutations.len() - 1)
            }
        };
        if let Some(key) = key {
            undo.used.push(key.clone());
            self.used.insert(key, (edit.fingerprint(), planned.clone()));
        }
        Ok(planned)
    }

    /// What changed of an edit's record since its base; empty without one.
    fn since(&self, edit: &Edit) -> SinceBase<'_> {
        let (Some(key), Some(base)) = (edit.key(), edit.base) else {
            return SinceBase::Any;
        };
        let planned = self
            .planned
            .get(&key)
            .map(Vec::as_slice)
            .unwrap_or_default();
        match self.logged.get(&(key, base)) {
            Some(ChangesSince::Changes { changes, .. }) => SinceBase::Changes {
                logged: changes,
                planned,
            },
            Some(ChangesSince::OutOfRange(_)) | None => SinceBase::Lost,
        }
    }

    fn replay(&self, key: &IdempotencyKey, edit: &Edit) -> Result<Option<Planned>, Refusal> {
        let (fingerprint, planned) = if let Some((fingerprint, planned)) = self.used.get(key) {
            (fingerprint, planned.clone())
        } else if let Some(remembered) = self.remembered.get(key) {
            (&remembered.fingerprint, Planned::Replay(remembered.clone()))
        } else {
            return Ok(None);
        };
        if *fingerprint == edit.fingerprint() {
            Ok(Some(planned))
        } else {
            Err(Refusal::KeyReused)
        }
    }
}

/// What a group did to the plan, to take it back.
#[derive(Default)]
struct Undo {
    rows: Vec<(RecordKey, Option<Record>)>,
    used: Vec<IdempotencyKey>,
}
