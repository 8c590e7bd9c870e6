//! Batches of edits: what a store reads for one, and the result of each group.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::OwnedSemaphorePermit;

use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::model::edit::Edit;
use crate::model::outcome::{IdempotencyKey, IdempotencyRecord, Outcome};
use crate::model::principal::Principal;
use crate::model::record::{Record, RecordKey};
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;

/// Groups of edits that are committed together, each group all or nothing.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(crate) groups: Vec<Arc<Group>>,
    slot: Arc<CommitSlot>,
}

/// A batch's slot; the next batch begins when it ends, at the latest when nobody has the batch any more.
#[derive(Debug, Default)]
pub(crate) struct CommitSlot(Mutex<Option<OwnedSemaphorePermit>>);

impl CommitSlot {
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
    pub(crate) fn name(&self) -> Option<&str> {
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
pub struct ReadSet {
    /// Of [`Batch::idempotency_keys`] those that were used in the last 24 hours.
    pub remembered: HashMap<IdempotencyKey, IdempotencyRecord>,
    /// Of [`Batch::records`] those that exist.
    pub records: HashMap<RecordKey, Record>,
    /// Of [`Batch::bases`] the changes of the record since that place, or why they can't be told.
    pub since: HashMap<(RecordKey, Position), ChangesSince>,
}

/// How many changes of a collection a base may be behind.
pub const MAX_BASE_DISTANCE: u64 = 10_000;

impl Batch {
    pub(crate) fn new(groups: Vec<Arc<Group>>) -> Self {
        Self {
            groups,
            slot: Arc::default(),
        }
    }

    pub(crate) fn with_slot(self, slot: Arc<CommitSlot>) -> Self {
        Self { slot, ..self }
    }

    /// Lets the next batch begin before this one is committed. For a store that commits several at the same time, where only
    /// one waits for the disk: called when all is written but the end. Without it batches follow each other.
    pub fn let_next_begin(&self) {
        self.slot.end();
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
    pub fn split_into_groups(&self) -> impl Iterator<Item = Self> + '_ {
        self.groups.iter().map(|group| Self {
            groups: vec![Arc::clone(group)],
            slot: Arc::clone(&self.slot),
        })
    }

    /// The same groups as two batches, unless there is but one: what a store tries when a constraint or a lock stops the
    /// whole, until it has found the guilty.
    #[must_use]
    pub fn split_in_half(&self) -> Option<(Self, Self)> {
        let (first, second) = self.groups.split_at(self.groups.len() / 2);
        (!first.is_empty()).then(|| {
            let half = |groups: &[Arc<Group>]| Self {
                groups: groups.to_vec(),
                slot: Arc::clone(&self.slot),
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
    /// [`MAX_BASE_DISTANCE`] changes away, or the changes are of more bytes than a page, it counts as lost: they are read while others
    /// wait.
    #[must_use]
    pub fn bases(&self) -> HashSet<(RecordKey, Position)> {
        let edits = self.groups.iter().flat_map(|group| &group.edits);
        edits
            .filter_map(|(edit, ..)| Some((edit.key()?, edit.base?)))
            .collect()
    }
}

pub(crate) fn idempotency_key(group: &Group, edit: &Edit) -> Option<IdempotencyKey> {
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
