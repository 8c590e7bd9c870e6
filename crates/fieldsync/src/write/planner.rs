//! Decides the edits of a batch one after the other, each on the state that the edits before it leave.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::model::change::{Action, Change};
use crate::model::changes_since::{ChangesSince, History};
use crate::model::cursor::Position;
use crate::model::edit::Edit;
use crate::model::field_errors::FieldErrors;
use crate::model::outcome::{IdempotencyKey, Outcome, Replay};
use crate::model::record::{Fields, Record, RecordId, RecordKey};
use crate::model::refusal::Refusal;
use crate::model::timestamp::Timestamp;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::write::base::SinceBase;
use crate::write::batch::{Batch, Group, ReadSet, RefusedEdit};
use crate::write::captured::{by_record, fold};
use crate::write::catch_panic::catch_panic;
use crate::write::decide::Decision;
use crate::write::mutation::{Mutation, Write};
use crate::write::plan::{Plan, Planned};
use crate::write::references::{ReferenceRows, SetReference};

impl Batch {
    /// Decides what to write, on the rows that the store has read.
    #[must_use]
    pub fn plan(&self, read: ReadSet) -> Plan {
        let (records, mut planner) = (read.records.clone(), self.planner(read));
        let groups = self.groups.iter().enumerate();
        let results = groups.map(|(at, group)| planner.group(at, group)).collect();
        Plan {
            batch: self.clone(),
            now: planner.now,
            records,
            mutations: planner.mutations,
            results,
        }
    }

    /// The records to which the edits refer and that were not looked for. Here the edits may refer to them.
    pub(crate) fn unknown_references(&self, read: ReadSet) -> BTreeSet<RecordKey> {
        let mut planner = self.planner(read);
        planner.unknown = Some(BTreeSet::new());
        for (at, group) in self.groups.iter().enumerate() {
            // A group that is refused refers to nothing.
            let _ = planner.group(at, group);
        }
        planner.unknown.unwrap_or_default()
    }

    fn planner(&self, read: ReadSet) -> Planner {
        let ReadSet {
            replays,
            records,
            mut referred,
            since,
            captured,
            reserved_ids,
        } = read;
        let reserved_ids = reserved_ids.into_iter();
        let reserved_ids = reserved_ids.map(|(name, ids)| (name, ids.into()));
        // What others did since the end of the log counts as done since any base.
        let unlogged = by_record(&captured).into_iter().map(|(key, writes)| {
            let row = records.get(key);
            let previous = fold(&writes, row).into_iter().map(|folded| {
                let is_known = folded.action != Action::Create && !folded.previous.is_empty();
                let mut previous = folded.previous;
                // A value that came back is no conflict.
                let is_back = |name: &str, value: &Value| {
                    row.is_some_and(|row| row.fields.get(name) == Some(value))
                };
                previous.retain(|name, value| !is_back(name, value));
                is_known.then_some(previous)
            });
            (key.clone(), previous.collect())
        });
        // The rows that edits change are those that are locked.
        for (key, record) in &mut referred {
            record.take_if(|_| records.contains_key(key));
        }
        Planner {
            now: Timestamp::now(),
            max_record_bytes: self.max_record_bytes,
            replays,
            logged: since,
            planned: unlogged.collect(),
            used_keys: HashMap::new(),
            reserved_ids: reserved_ids.collect(),
            mutations: Vec::new(),
            locked_out: match self.len() {
                1 => Refusal::Busy,
                _ => Refusal::Locked,
            },
            unknown: None,
            referred,
            rows: records,
        }
    }
}

struct Planner {
    now: Timestamp,
    max_record_bytes: usize,
    replays: HashMap<IdempotencyKey, Replay>,
    /// The rows as they will be after the mutations so far.
    rows: HashMap<RecordKey, Record>,
    /// What changed since the bases of edits, according to the log.
    logged: HashMap<(RecordKey, Position), ChangesSince>,
    /// The previous values of each record that are replaced by the writes of others after the log's end, and by the mutations so
    /// far. `None` where they are unknown.
    planned: HashMap<RecordKey, Vec<Option<Fields>>>,
    /// The keys used in this batch, with the edit's fingerprint and what is planned for it.
    used_keys: HashMap<IdempotencyKey, (String, Planned)>,
    reserved_ids: HashMap<Arc<str>, VecDeque<RecordId>>,
    mutations: Vec<Mutation>,
    /// The other records that were looked for since edits refer to them.
    referred: HashMap<RecordKey, Option<Record>>,
    /// The refusal of a group that refers to a record that was not looked for.
    locked_out: Refusal,
    /// Where those that were not looked for are collected.
    unknown: Option<BTreeSet<RecordKey>>,
}

/// What a group has done to the plan, so that it can be undone.
#[derive(Default)]
struct Undo {
    rows: Vec<(RecordKey, Option<Record>)>,
    keys: Vec<IdempotencyKey>,
}

impl Undo {
    /// The rows that the group has changed, as they were before.
    fn rows_before(&self) -> HashMap<&RecordKey, Option<&Record>> {
        // The first change of a row counts.
        let rows = self.rows.iter().rev();
        rows.map(|(key, row)| (key, row.as_ref())).collect()
    }
}

impl Planner {
    /// Plans a group. When one of its edits is refused, the plan is as if the group did not exist.
    fn group(&mut self, at: usize, group: &Group) -> Result<Vec<Planned>, RefusedEdit> {
        if group.deadline < Instant::now() {
            return Err(RefusedEdit {
                edit: 0,
                refusal: Refusal::Busy,
            });
        }
        let mutations_before = self.mutations.len();
        let mut undo = Undo::default();
        let planned = self.edits(at, group, &mut undo);
        if planned.is_err() {
            self.mutations.truncate(mutations_before);
            self.undo(undo);
        }
        planned
    }

    fn edits(
        &mut self,
        at: usize,
        group: &Group,
        undo: &mut Undo,
    ) -> Result<Vec<Planned>, RefusedEdit> {
        let first_mutation = self.mutations.len();
        let mut planned = Vec::with_capacity(group.edits.len());
        let mut ids = Vec::with_capacity(group.edits.len());
        let mut references = Vec::new();
        for edit in 0..group.edits.len() {
            let one = self.edit((at, edit), group, &ids, undo, &mut references);
            let one = one.map_err(|refusal| RefusedEdit { edit, refusal })?;
            ids.push(self.id_of(&one));
            planned.push(one);
        }
        // At the end, since a later edit may create what an earlier one refers to: the database decides whether it may come later.
        let mutations = &self.mutations[first_mutation..];
        let rows = ReferenceRows {
            rows: &self.rows,
            before: undo.rows_before(),
            referred: &self.referred,
        };
        let unknown = group.check_references(&references, mutations, &rows)?;
        match &mut self.unknown {
            Some(all) => all.extend(unknown),
            None if unknown.is_empty() => {}
            // In a batch of its own the records are found.
            None => {
                return Err(RefusedEdit {
                    edit: 0,
                    refusal: self.locked_out.clone(),
                });
            }
        }
        Ok(planned)
    }

    fn edit(
        &mut self,
        (group_at, edit_at): (usize, usize),
        group: &Group,
        ids: &[RecordId],
        undo: &mut Undo,
        references: &mut Vec<SetReference>,
    ) -> Result<Planned, Refusal> {
        let (edit, collection, grant) = &group.edits[edit_at];
        // What was true when the rule was asked may have changed, also by an earlier edit of the batch.
        let grant = &grant.as_of(|key| self.rows.get(key));
        // The key is looked up before any precondition: a repetition gets the outcome of the first edit.
        let key = group.idempotency_key(edit);
        if let Some(key) = &key
            && let Some(replay) = self.replay(key, edit, collection, grant)?
        {
            return Ok(replay);
        }
        if key.is_some()
            && let Some(refusal) = &group.without_keys
        {
            return Err(refusal.clone());
        }
        let reserved_id = self.reserved_id(edit, collection)?;
        let record_key = edit.key();
        let row = record_key.as_ref().and_then(|key| self.rows.get(key));
        let decision = Decision {
            edit,
            collection,
            grant,
            principal: group.principal.as_ref(),
            row,
            since: self.since(edit),
            ids,
            reserved_id,
            now: self.now,
            max_record_bytes: self.max_record_bytes,
        };
        let write = decision.decide()?;
        references.extend(group.set_references(edit_at, &decision, write.as_ref())?);
        let planned = match write {
            None => {
                let row = row.expect("only a row that exists can be unchanged");
                Planned::Unchanged(row.clone())
            }
            Some(write) => {
                let mutation = Mutation {
                    collection: Arc::clone(collection),
                    write,
                    group: group_at,
                    edit: edit_at,
                };
                self.apply(&mutation, undo);
                self.mutations.push(mutation);
                Planned::Mutation(self.mutations.len() - 1)
            }
        };
        if let Some(key) = key {
            undo.keys.push(key.clone());
            self.used_keys
                .insert(key, (edit.fingerprint(), planned.clone()));
        }
        Ok(planned)
    }

    /// The next reserved id for a record that the edit creates.
    fn reserved_id(
        &mut self,
        edit: &Edit,
        collection: &Collection,
    ) -> Result<Option<RecordId>, Refusal> {
        let reserved = self.reserved_ids.get_mut(collection.name());
        let Some(reserved) = reserved.filter(|_| edit.needs_new_id()) else {
            return Ok(None);
        };
        let message = "the database can't assign the id before the insert";
        let missing = || Refusal::Invalid(FieldErrors::one("id", message));
        reserved.pop_front().map(Some).ok_or_else(missing)
    }

    /// Predicts the row that later edits of the batch will find.
    fn apply(&mut self, mutation: &Mutation, undo: &mut Undo) {
        let Some(key) = mutation.key() else {
            // Nobody knows its id yet.
            return;
        };
        let before = self.rows.remove(&key);
        let previous = mutation.write.previous_values(before.as_ref());
        self.planned.entry(key.clone()).or_default().push(previous);
        if let Some(mut after) = mutation.write.predict(before.as_ref()) {
            for field in mutation.collection.fields() {
                after.fields.entry(&field.name).or_insert(Value::Null);
            }
            self.rows.insert(key.clone(), after);
        }
        undo.rows.push((key, before));
    }

    fn undo(&mut self, undo: Undo) {
        for (key, row) in undo.rows.into_iter().rev() {
            self.planned.entry(key.clone()).or_default().pop();
            match row {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
        for key in undo.keys {
            self.used_keys.remove(&key);
        }
    }

    /// The id of the record that an edit is about. Where the database gives the id, and no later edit needs it, it is 0.
    fn id_of(&self, planned: &Planned) -> RecordId {
        match planned {
            Planned::Mutation(at) => match &self.mutations[*at].write {
                Write::Insert { id, .. } => id.clone().unwrap_or(RecordId::Integer(0)),
                Write::Update { id, .. } | Write::Delete { id } | Write::Refresh { id } => {
                    id.clone()
                }
            },
            Planned::Unchanged(record) => record.id.clone(),
            Planned::Replay(outcome) => outcome.id(),
        }
    }

    /// What has changed in an edit's record since its base.
    fn since<'a>(&'a self, edit: &'a Edit) -> SinceBase<'a> {
        let (Some(key), Some(_)) = (edit.key(), edit.base) else {
            return SinceBase::NoBase;
        };
        let Some(base) = edit.base_to_read() else {
            return SinceBase::Unknown;
        };
        let read_ahead = match &edit.history {
            Some(History::UpTo(_, changes)) => changes.as_slice(),
            _ => &[],
        };
        let planned = self.planned.get(&key);
        let planned = planned.map(Vec::as_slice).unwrap_or_default();
        match self.logged.get(&(key, base)) {
            Some(ChangesSince::Changes { changes, .. }) => SinceBase::Changes {
                read_ahead,
                logged: changes,
                planned,
            },
            Some(ChangesSince::OutOfRange(_)) | None => SinceBase::Unknown,
        }
    }

    fn replay(
        &self,
        key: &IdempotencyKey,
        edit: &Edit,
        collection: &Collection,
        grant: &Grant,
    ) -> Result<Option<Planned>, Refusal> {
        let (fingerprint, planned) = if let Some((fingerprint, planned)) = self.used_keys.get(key) {
            (fingerprint, planned.clone())
        } else if let Some(replay) = self.replays.get(key) {
            // Another app's collection may have the same name, and its table another log.
            if replay.edit.collection != *edit.collection() {
                return Err(Refusal::KeyReused);
            }
            let outcome = outcome_of(replay, collection, grant)?;
            (&replay.edit.fingerprint, Planned::Replay(outcome))
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

/// The outcome of an edit that was committed under its key before: the record as of the edit's change, if the log contains
/// the change, otherwise as it is now. Values that the log leaves out of the change are as they are now, or missing if the record was
/// deleted since, or hidden from the principal.
fn outcome_of(replay: &Replay, collection: &Collection, grant: &Grant) -> Result<Outcome, Refusal> {
    let Replay { edit, change, row } = replay;
    let is_of_edit =
        |change: &&Change| change.position == edit.position && change.key.id == edit.id;
    let change = change.as_ref().filter(is_of_edit).cloned();
    let change = change.map(|mut change| {
        change.adapt_to(collection);
        change
    });
    let now = row.as_ref().map(|row| row.fields.clone());
    let record = match change {
        Some(change) if change.action == Action::Delete => None,
        Some(change) if change.is_partial(collection) => {
            let is_hidden = match row {
                Some(row) => !catch_panic(|| grant.is_readable(row))?,
                None => false,
            };
            let readable = grant.readable.as_ref();
            let is_undecided = readable.is_some_and(|rows| rows.lacks(&change.after));
            if is_undecided && (is_hidden || row.is_none()) {
                // Nothing but the id is shown.
                Some(now.unwrap_or_default())
            } else {
                let mut record = now.filter(|_| !is_hidden).unwrap_or_default();
                record.extend(change.after);
                Some(record)
            }
        }
        Some(change) => Some(change.after),
        None => now,
    };
    Ok(Outcome::Replayed {
        id: edit.id.clone(),
        position: edit.position,
        record,
    })
}
