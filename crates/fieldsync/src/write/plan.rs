//! What to write for a batch of edits: pure code that stores call inside their transaction.
//!
//! A store reads what [`Batch::idempotency_keys`] and [`Batch::records`] name, asks [`Batch::plan`], writes the
//! [`Mutation`]s of the [`Plan`], moves the heads that [`Plan::advances`] names, asks [`Plan::finish`], and writes the
//! log. No rule about edits is in a store.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use crate::authorize::{Grant, Principal};
use crate::change::{Action, Change};
use crate::collection::Collection;
use crate::cursor::Position;
use crate::decide::{Since, decide, former_values, predict};
use crate::edit::{Edit, IdempotencyKey, Outcome, Refusal, Remembered};
use crate::record::{Fields, Record, RecordId, RecordKey};
use crate::store::Backlog;
use crate::time::Timestamp;

/// Groups of edits that are committed together, each group all or nothing.
#[derive(Debug, Clone)]
pub struct Batch {
    groups: Vec<Arc<Group>>,
    turn: Arc<Turn>,
}

/// A batch's turn; the next batch begins when it ends, at the latest when nobody has the batch any more.
#[derive(Debug, Default)]
pub(crate) struct Turn(Mutex<Option<OwnedSemaphorePermit>>);

impl Turn {
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Mutex::new(Some(permit)))
    }

    pub(crate) fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Edits of one caller, all or nothing.
#[derive(Debug)]
pub(crate) struct Group {
    /// The app itself without it.
    pub(crate) who: Option<Principal>,
    pub(crate) edits: Vec<(Edit, Arc<Collection>, Grant)>,
    pub(crate) deadline: Instant,
}

impl Group {
    fn name(&self) -> Option<&str> {
        self.who.as_ref().and_then(Principal::name)
    }
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
    /// Of [`Batch::bases`] the changes of the record since that place, or why they can't be told.
    pub since: HashMap<(RecordKey, Position), Backlog>,
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

/// How many changes of a collection a base may be behind.
pub const BASE_REACH: u64 = 10_000;

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
        Self {
            groups,
            turn: Arc::default(),
        }
    }

    pub(crate) fn with_turn(self, turn: Arc<Turn>) -> Self {
        Self { turn, ..self }
    }

    /// Lets the next batch begin before this one is committed. For a store that commits several at the same time, where only
    /// one waits for the disk: called when all is written but the end. Without it batches follow each other.
    pub fn let_next_begin(&self) {
        self.turn.end();
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
            turn: Arc::clone(&self.turn),
        })
    }

    /// The same groups as two batches, unless there is but one: what a store tries when a constraint or a lock stops the
    /// whole, until it has found the guilty.
    #[must_use]
    pub fn halves(&self) -> Option<(Self, Self)> {
        let (first, second) = self.groups.split_at(self.groups.len() / 2);
        (!first.is_empty()).then(|| {
            let half = |groups: &[Arc<Group>]| Self {
                groups: groups.to_vec(),
                turn: Arc::clone(&self.turn),
            };
            (half(first), half(second))
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

    /// The records whose changes since a place must be known, each with the place. Where the end of the log is more than
    /// [`BASE_REACH`] changes away, or the changes are of more bytes than a page, it counts as lost: they are read while others
    /// wait.
    #[must_use]
    pub fn bases(&self) -> HashSet<(RecordKey, Position)> {
        let edits = self.groups.iter().flat_map(|group| &group.edits);
        edits
            .filter_map(|(edit, ..)| Some((edit.key()?, edit.base?)))
            .collect()
    }

    /// Decides what to write, on the current rows.
    #[must_use]
    pub fn plan(&self, found: Found) -> Plan {
        let Found {
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

fn idempotency_key(group: &Group, edit: &Edit) -> Option<IdempotencyKey> {
    let key = edit.idempotency_key.clone()?;
    Some(IdempotencyKey {
        principal: match (&group.who, group.name()) {
            (None, _) => "app".to_owned(),
            (Some(_), None) => "anonymous".to_owned(),
            (Some(_), Some(name)) => format!("name:{name}"),
        },
        key,
    })
}

struct Planner {
    now: Timestamp,
    remembered: HashMap<IdempotencyKey, Remembered>,
    /// The rows as they will be after the mutations so far.
    rows: HashMap<RecordKey, Record>,
    /// What changed since the bases of edits, as far as it is in the log.
    logged: HashMap<(RecordKey, Position), Backlog>,
    /// What the mutations so far change of each record: the former values, none where they are not known.
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
                        .push(former_values(row, &write));
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
    fn since(&self, edit: &Edit) -> Since<'_> {
        let (Some(key), Some(base)) = (edit.key(), edit.base) else {
            return Since::Any;
        };
        let planned = self
            .planned
            .get(&key)
            .map(Vec::as_slice)
            .unwrap_or_default();
        match self.logged.get(&(key, base)) {
            Some(Backlog::Changes { changes, .. }) => Since::Changes {
                logged: changes,
                planned,
            },
            Some(Backlog::Lost(_)) | None => Since::Lost,
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
        who: group.name().map(str::to_owned),
        idempotency_key: edit.idempotency_key.clone(),
    }
}

fn remember(key: IdempotencyKey, edit: &Edit, outcome: &Outcome) -> Remembered {
    let collection = Arc::clone(&edit.collection);
    Remembered {
        key,
        fingerprint: edit.fingerprint(),
        collection,
        id: outcome.id(),
        position: outcome.position(),
        record: outcome.fields().cloned(),
    }
}
