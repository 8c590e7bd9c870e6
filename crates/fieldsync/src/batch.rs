//! What to write for a batch of edits: pure code that stores call inside their transaction.
//!
//! A store reads what [`Batch::idempotency_keys`] and [`Batch::records`] name, asks [`Batch::plan`], writes the
//! [`Mutation`]s of the [`Plan`], moves the heads that [`Plan::advances`] names, asks [`Plan::finish`], and writes the
//! log. No rule about edits is in a store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::authorize::{Grant, Principal};
use crate::change::{Action, Change};
use crate::collection::{Collection, FieldErrors, Ids};
use crate::cursor::Position;
use crate::edit::{Edit, IdempotencyKey, Outcome, Precondition, Refusal, Remembered, Wish};
use crate::entity_tag::entity_tag;
use crate::record::{CREATED_AT, Fields, Record, RecordId, RecordKey, UPDATED_AT};
use crate::time::Timestamp;

/// Groups of edits that are committed together, each group all or nothing.
#[derive(Debug, Clone)]
pub struct Batch {
    groups: Vec<Arc<Group>>,
}

/// Edits of one caller, all or nothing.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) who: Principal,
    pub(crate) edits: Vec<(Edit, Arc<Collection>, Grant)>,
    pub(crate) deadline: Instant,
}

/// What became of a group: an outcome per edit, or the first edit that was refused.
pub type GroupResult = Result<Vec<Outcome>, RefusedEdit>;

/// The edit of a group that was refused, and with it the group.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedEdit {
    /// Which of the group's edits.
    pub edit: usize,
    /// Why.
    pub refusal: Refusal,
}

/// What a store found for a batch, inside its transaction.
#[derive(Debug, Default)]
pub struct Found {
    /// Of [`Batch::idempotency_keys`] those that were used in the last 24 hours.
    pub remembered: HashMap<IdempotencyKey, Remembered>,
    /// Of [`Batch::records`] those that exist.
    pub records: HashMap<RecordKey, Record>,
}

/// One write to the app's own table.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// The collection.
    pub collection: Arc<Collection>,
    /// What to write.
    pub write: Write,
    group: usize,
    edit: usize,
    tag: u32,
}

/// What to write.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Insert a row, and return it with all fields.
    Insert {
        /// The id; without one the database gives it.
        id: Option<RecordId>,
        /// Every field.
        fields: Fields,
    },
    /// Set these columns and no others, and return the row with all fields.
    Update {
        /// Which row.
        id: RecordId,
        /// The columns that change, with their new values.
        fields: Fields,
    },
    /// Delete the row. Returns nothing.
    Delete {
        /// Which row.
        id: RecordId,
    },
    /// Write nothing. Returns the row as it was found, if there is one.
    Touch {
        /// Which row.
        id: RecordId,
    },
}

/// How far a collection's log moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// The collection.
    pub collection: Arc<str>,
    /// How many changes are added; with 0 only the place is asked for.
    pub count: u64,
    /// The tag of the last of them.
    pub last_tag: u32,
}

/// What to write for a batch.
#[derive(Debug)]
pub struct Plan {
    batch: Batch,
    now: Timestamp,
    /// The rows as they were found: what the first mutation of each was decided on.
    found: HashMap<RecordKey, Record>,
    mutations: Vec<Mutation>,
    results: Vec<Result<Vec<Planned>, RefusedEdit>>,
}

/// What will be the outcome of one edit.
#[derive(Debug, Clone)]
enum Planned {
    /// That of the mutation with this index.
    Mutation(usize),
    /// The record stays as it is; or as the mutation of the same record before it in the batch made it.
    Unchanged(Record),
    /// What was remembered.
    Replay(Remembered),
}

/// What to log, and the answers.
#[derive(Debug)]
pub struct Finished {
    /// The changes to append to the logs.
    pub changes: Vec<Arc<Change>>,
    /// The idempotency keys to remember.
    pub remembered: Vec<Remembered>,
    /// An answer per group.
    pub results: Vec<GroupResult>,
}

impl Batch {
    pub(crate) fn new(groups: Vec<Arc<Group>>) -> Self {
        Self { groups }
    }

    /// How many groups there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The same groups, each as a batch of its own: what a store tries when a constraint or a lock stops the whole.
    pub fn singles(&self) -> impl Iterator<Item = Self> + '_ {
        self.groups.iter().map(|group| Self {
            groups: vec![Arc::clone(group)],
        })
    }

    /// When the last group of the batch is no longer waited for.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.groups.iter().map(|group| group.deadline).max()
    }

    /// The idempotency keys to look up, in the order in which to lock them.
    #[must_use]
    pub fn idempotency_keys(&self) -> BTreeSet<IdempotencyKey> {
        let edits = self
            .groups
            .iter()
            .flat_map(|group| group.edits.iter().map(move |(edit, ..)| (group, edit)));
        edits
            .filter_map(|(group, edit)| idempotency_key(group, edit))
            .collect()
    }

    /// The records to read, in the order in which to lock them, with their collections.
    #[must_use]
    pub fn records(&self) -> BTreeMap<RecordKey, Arc<Collection>> {
        let edits = self.groups.iter().flat_map(|group| &group.edits);
        edits
            .filter_map(|(edit, collection, _)| Some((edit.key()?, Arc::clone(collection))))
            .collect()
    }

    /// Decides what to write, on the current rows.
    #[must_use]
    pub fn plan(&self, found: Found) -> Plan {
        let Found {
            remembered,
            records,
        } = found;
        let mut planner = Planner {
            now: Timestamp::now(),
            remembered,
            rows: records.clone(),
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

fn idempotency_key(group: &Group, edit: &Edit) -> Option<IdempotencyKey> {
    let key = edit.idempotency_key.clone()?;
    Some(IdempotencyKey {
        principal: group.who.name().unwrap_or_default().to_owned(),
        key,
    })
}

struct Planner {
    now: Timestamp,
    remembered: HashMap<IdempotencyKey, Remembered>,
    /// The rows as they will be after the mutations so far.
    rows: HashMap<RecordKey, Record>,
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
        let planned = match decide(edit, collection, grant, row, self.now)? {
            None => Planned::Unchanged(
                row.expect("only a row that exists can be unchanged")
                    .clone(),
            ),
            Some(write) => {
                if let Some(record_key) = record_key {
                    let after = predict(row, &write);
                    undo.rows.push((record_key.clone(), row.cloned()));
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

/// Decides one edit on its current row: what to write, nothing, or why not.
fn decide(
    edit: &Edit,
    collection: &Collection,
    grant: &Grant,
    row: Option<&Record>,
    now: Timestamp,
) -> Result<Option<Write>, Refusal> {
    let row = row.filter(|row| grant.admits(row));
    let existing = |id: RecordId| {
        row.ok_or_else(|| {
            Refusal::NotFound(RecordKey {
                collection: Arc::clone(collection.name()),
                id,
            })
        })
    };
    if let (Some(key), Wish::Patch(..) | Wish::Change(..) | Wish::Delete(_)) =
        (edit.key(), &edit.wish)
    {
        existing(key.id)?;
    }
    for precondition in &edit.preconditions {
        check_precondition(precondition, row, grant)?;
    }
    match &edit.wish {
        Wish::Malformed(message) => Err(Refusal::Malformed(message.clone())),
        Wish::Create(fields) => create(collection, grant, fields, now).map(Some),
        Wish::Patch(id, patch) => {
            let row = existing(*id)?;
            let wished = patch.0.keys().map(|name| {
                let current = row.fields.get(name).unwrap_or(&Value::Null);
                (
                    name.clone(),
                    patch
                        .value_of(name, current)
                        .expect("the patch has this field"),
                )
            });
            update(collection, grant, row, wished.collect(), now)
        }
        Wish::Change(id, rewrite) => {
            let row = existing(*id)?;
            let own = collection.own_fields(&row.fields);
            let unreadable = |error: serde_json::Error| {
                Refusal::Malformed(format!("the record does not fit the type: {error}"))
            };
            let mut wished = guarded(|| rewrite(&own))?.map_err(unreadable)?;
            wished.retain(|name, value| own.get(name) != Some(value));
            update(collection, grant, row, wished, now)
        }
        Wish::Delete(id) => existing(*id).map(|row| Some(Write::Delete { id: row.id })),
        Wish::Touch(id) => Ok(Some(Write::Touch { id: *id })),
    }
}

fn check_precondition(
    precondition: &Precondition,
    row: Option<&Record>,
    grant: &Grant,
) -> Result<(), Refusal> {
    let tag = row.map(|row| entity_tag(&grant.view.project_record(row)));
    let holds = precondition.holds(tag.as_deref());
    if holds {
        Ok(())
    } else {
        Err(Refusal::PreconditionFailed)
    }
}

fn create(
    collection: &Collection,
    grant: &Grant,
    given: &Fields,
    now: Timestamp,
) -> Result<Write, Refusal> {
    if !collection.is_creatable() {
        return Err(Refusal::NotCreatable(Arc::clone(collection.name())));
    }
    let mut errors = FieldErrors::new();
    for name in given.keys().filter(|name| collection.field(name).is_none()) {
        blame(
            &mut errors,
            name,
            if name == "id" {
                "is given by the server"
            } else {
                "is not a known field"
            },
        );
    }
    let mut fields = Fields::new();
    for field in collection.fields() {
        let name = &field.name;
        let value = match given.get(name) {
            Some(_) if field.set_by_server => Err("is set by the server".to_owned()),
            Some(_) if !grant.writable.shows(name) => Err("must not be set by you".to_owned()),
            Some(value) => field.schema.check(value),
            None if name == CREATED_AT || name == UPDATED_AT => Ok(now.to_string().into()),
            None => field.default.clone().ok_or("is required".to_owned()),
        };
        match value {
            Ok(value) => {
                fields.insert(name.clone(), value);
            }
            Err(message) => blame(&mut errors, name, &message),
        }
    }
    refuse_any(errors)?;
    guarded(|| collection.run_validator(None, &fields))?.map_err(Refusal::Invalid)?;
    let id = match collection.ids() {
        Ids::Integer => None,
        Ids::UuidV7 => Some(RecordId::Uuid(uuid::Uuid::now_v7())),
    };
    Ok(Write::Insert { id, fields })
}

fn update(
    collection: &Collection,
    grant: &Grant,
    row: &Record,
    wished: Fields,
    now: Timestamp,
) -> Result<Option<Write>, Refusal> {
    let mut errors = FieldErrors::new();
    let mut changed = Fields::new();
    for (name, value) in wished {
        let current = row.fields.get(&name);
        // What one may not see is not compared: the answer would tell its value.
        let same = |value: &Value| current == Some(value) && grant.view.shows(&name);
        let Some(field) = collection.field(&name) else {
            let is_same_id =
                name == "id" && serde_json::to_value(row.id).is_ok_and(|id| id == value);
            if !is_same_id {
                blame(
                    &mut errors,
                    &name,
                    if name == "id" {
                        "can't be changed"
                    } else {
                        "is not a known field"
                    },
                );
            }
            continue;
        };
        match field.schema.check(&value) {
            Ok(value) if same(&value) => {}
            _ if field.set_by_server => blame(&mut errors, &name, "is set by the server"),
            _ if !grant.writable.shows(&name) => {
                blame(&mut errors, &name, "must not be changed by you");
            }
            Ok(value) if current == Some(&value) => {}
            Ok(value) => {
                changed.insert(name, value);
            }
            Err(message) => blame(&mut errors, &name, &message),
        }
    }
    refuse_any(errors)?;
    if changed.is_empty() {
        return Ok(None);
    }
    let mut after = row.fields.clone();
    after.extend(changed.clone());
    guarded(|| collection.run_validator(Some(&row.fields), &after))?.map_err(Refusal::Invalid)?;
    if collection
        .field(UPDATED_AT)
        .is_some_and(|field| field.set_by_server)
    {
        changed.insert(UPDATED_AT.into(), now.to_string().into());
    }
    Ok(Some(Write::Update {
        id: row.id,
        fields: changed,
    }))
}

/// Runs the app's code; its panic is its edit's failure, not the end of the thread that commits.
fn guarded<T>(code: impl FnOnce() -> T) -> Result<T, Refusal> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(code))
        .map_err(|_| Refusal::Malformed("the app's own code panicked on this edit".into()))
}

fn blame(errors: &mut FieldErrors, field: &str, message: &str) {
    errors
        .entry(field.to_owned())
        .or_default()
        .push(message.to_owned());
}

fn refuse_any(errors: FieldErrors) -> Result<(), Refusal> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Invalid(errors))
    }
}

/// The row as it will be; the database has the last word.
fn predict(row: Option<&Record>, write: &Write) -> Option<Record> {
    match write {
        Write::Update { fields, .. } => {
            let mut after = row?.clone();
            after.fields.extend(fields.clone());
            Some(after)
        }
        Write::Touch { .. } => row.cloned(),
        Write::Insert { .. } | Write::Delete { .. } => None,
    }
}

impl Plan {
    /// What to write to the app's tables, in this order.
    #[must_use]
    pub fn mutations(&self) -> &[Mutation] {
        &self.mutations
    }

    /// How far the logs move, in the order in which to lock their heads.
    #[must_use]
    pub fn advances(&self) -> Vec<Advance> {
        let mut advances: BTreeMap<&Arc<str>, (u64, u32)> = BTreeMap::new();
        for (_, collection, _) in self.batch.groups.iter().flat_map(|group| &group.edits) {
            advances.entry(collection.name()).or_default();
        }
        for mutation in &self.mutations {
            let (count, last_tag) = advances.entry(mutation.collection.name()).or_default();
            *count += 1;
            *last_tag = mutation.tag;
        }
        let advance = |(collection, (count, last_tag)): (&Arc<str>, _)| Advance {
            collection: Arc::clone(collection),
            count,
            last_tag,
        };
        advances.into_iter().map(advance).collect()
    }

    /// The answer when the database refused the mutation with this index, for a batch of one group.
    pub fn refused_by_database(&self, mutation: usize, refusal: Refusal) -> GroupResult {
        Err(RefusedEdit {
            edit: self
                .mutations
                .get(mutation)
                .map_or(0, |mutation| mutation.edit),
            refusal,
        })
    }

    /// Makes the changes and the answers, from the rows that the mutations returned and the new ends of the logs that
    /// [`Plan::advances`] names.
    ///
    /// # Panics
    /// When there is not a row per mutation, or a head is missing: a bug in the store.
    #[must_use]
    pub fn finish(
        self,
        rows: Vec<Option<Record>>,
        heads: &HashMap<Arc<str>, Position>,
    ) -> Finished {
        assert_eq!(rows.len(), self.mutations.len(), "a row per mutation");
        let advances: HashMap<_, _> = self
            .advances()
            .into_iter()
            .map(|one| (Arc::clone(&one.collection), one.count))
            .collect();
        let mut next: HashMap<Arc<str>, u64> = HashMap::new();
        let mut latest = self.found;
        let mut changes = Vec::with_capacity(self.mutations.len());
        for (mutation, row) in self.mutations.iter().zip(rows) {
            let name = mutation.collection.name();
            let head = heads[name];
            let offset = next
                .entry(Arc::clone(name))
                .or_insert(head.offset - advances[name]);
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
        let mut remembered = Vec::new();
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
                            Planned::Replay(remembered) => return Outcome::Replayed(remembered),
                        };
                        if let Some(key) = idempotency_key(group, edit) {
                            remembered.push(remember(key, edit, &outcome));
                        }
                        outcome
                    })
                    .collect()
            });
            results.push(outcomes);
        }
        // The same key twice in one batch is remembered once.
        remembered.sort_by(|a: &Remembered, b| a.key.cmp(&b.key));
        remembered.dedup_by(|a, b| a.key == b.key);
        Finished {
            changes,
            remembered,
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
        (Write::Update { id, .. } | Write::Delete { id } | Write::Touch { id }, _) => *id,
        (Write::Insert { .. }, Some(row)) => row.id,
        (Write::Insert { .. }, None) => unreachable!("an insert returns its row"),
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
    let (action, former) = match &mutation.write {
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
        Write::Touch { .. } if after.is_some() => (Action::Update, Fields::new()),
        Write::Delete { .. } | Write::Touch { .. } => (Action::Delete, before.unwrap_or_default()),
    };
    Change {
        position,
        key,
        action,
        after: after.unwrap_or_default(),
        former,
        at,
        who: group.who.name().map(str::to_owned),
        idempotency_key: edit.idempotency_key.clone(),
    }
}

fn remember(key: IdempotencyKey, edit: &Edit, outcome: &Outcome) -> Remembered {
    let id = match outcome {
        Outcome::Committed(change) => change.key.id,
        Outcome::Unchanged { record, .. } => record.id,
        Outcome::Replayed(remembered) => remembered.id,
    };
    let collection = Arc::clone(&edit.collection);
    let record = outcome.record().map(|record| record.fields);
    Remembered {
        key,
        fingerprint: edit.fingerprint(),
        collection,
        id,
        position: outcome.position(),
        record,
    }
}
