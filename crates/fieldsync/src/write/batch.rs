//! Batches of edits: what a store reads for one, and the result of each group.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use crate::model::changes_since::ChangesSince;
use crate::model::cursor::Position;
use crate::model::edit::Edit;
use crate::model::outcome::{IdempotencyKey, Outcome, Replay};
use crate::model::principal::Principal;
use crate::model::record::{Record, RecordId, RecordKey};
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;
use crate::schema::field::{Ids, IdsGivenBy};
use crate::schema::grant::Grant;
use crate::schema::reference::GuardedReference;
use crate::write::captured::CapturedWrite;
use crate::write::commit_slot::CommitSlot;

/// The maximum number of changes that an edit's base may be behind the end of its collection's log.
pub const MAX_BASE_DISTANCE: u64 = 10_000;

/// How often a store asks [`Batch::referred_to`] for records to look for. A group that refers to still others is committed again, alone.
pub const MAX_REFERENCE_LOOKS: usize = 8;

/// Groups of edits that are committed in one transaction. Each group is applied as a whole or not at all.
///
/// A store reads what the batch asks for into a [`ReadSet`], calls [`Batch::plan`], writes the mutations of the
/// [`Plan`](crate::backend::Plan), takes what was captured meanwhile, calls [`Plan::settle`](crate::backend::Plan::settle), updates
/// the heads, calls [`Settled::finish`](crate::backend::Settled::finish) and writes the log. Every rule about edits is in the
/// plan; a store has none.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(crate) groups: Vec<Arc<Group>>,
    pub(crate) max_record_bytes: usize,
    slot: Arc<CommitSlot>,
}

/// The edits of one caller, which are applied as a whole or not at all.
#[derive(Debug)]
pub(crate) struct Group {
    /// The app itself without it.
    pub(crate) principal: Option<Principal>,
    pub(crate) edits: Vec<(Edit, Arc<Collection>, Grant)>,
    pub(crate) deadline: Instant,
    /// The references to records that may be hidden from the principal. The app itself may refer to every record.
    pub(crate) references: Vec<GuardedReference>,
    /// Why the group may store no idempotency key, if so. An edit that was committed under its key before is still answered.
    pub(crate) without_keys: Option<Refusal>,
}

/// The result of a group: an outcome per edit, or the first edit that was refused.
pub type GroupResult = Result<Vec<Outcome>, RefusedEdit>;

/// The edit of a group that was refused, and the whole group with it.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedEdit {
    /// The index of the edit in its group.
    pub edit: usize,
    /// Why it was refused.
    pub refusal: Refusal,
}

/// What a store has read for a batch, inside its transaction.
#[derive(Debug, Default, Clone)]
pub struct ReadSet {
    /// Of [`Batch::idempotency_keys`], those that were used in the last 24 hours.
    pub replays: HashMap<IdempotencyKey, Replay>,
    /// Of [`Batch::records`], and then of [`Batch::relied_on`], those that exist.
    pub records: HashMap<RecordKey, Record>,
    /// Each record of [`Batch::referred_to`] that was looked for. `None`: it does not exist.
    pub referred: HashMap<RecordKey, Option<Record>>,
    /// Of [`Batch::bases`], the changes of the record since that position.
    pub since: HashMap<(RecordKey, Position), ChangesSince>,
    /// What others wrote to the records of [`Batch::bases`] and is not yet logged.
    pub captured: Vec<CapturedWrite>,
    /// As many new ids as [`Batch::ids_to_reserve`] asks for.
    pub reserved_ids: HashMap<Arc<str>, Vec<RecordId>>,
}

impl Batch {
    pub(crate) fn new(groups: Vec<Arc<Group>>) -> Self {
        Self {
            groups,
            max_record_bytes: usize::MAX,
            slot: Arc::default(),
        }
    }

    /// Refuses edits that make a record larger than this, as JSON.
    pub(crate) fn with_max_record_bytes(self, max_record_bytes: usize) -> Self {
        Self {
            max_record_bytes,
            ..self
        }
    }

    pub(crate) fn with_slot(self, slot: Arc<CommitSlot>) -> Self {
        Self { slot, ..self }
    }

    /// Lets the next batch start before this one is committed. A store that can run several transactions at a time calls
    /// it when everything but COMMIT is written, so that only COMMIT waits for the disk. Without this call batches follow
    /// each other.
    pub fn let_next_begin(&self) {
        self.slot.give_up();
    }

    /// The number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether the batch has no groups.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Splits the batch in two: the groups with these indexes, and the others. A store that finds a batch refused or locked
    /// out tries the parts, until it has found the group that is at fault.
    #[must_use]
    pub fn split_off(&self, indexes: &[usize]) -> (Self, Self) {
        let groups = self.groups.iter().cloned().enumerate();
        let (split_off, others): (Vec<_>, Vec<_>) =
            groups.partition(|(index, _)| indexes.contains(index));
        let of = |groups: Vec<(usize, Arc<Group>)>| Self {
            groups: groups.into_iter().map(|(_, group)| group).collect(),
            max_record_bytes: self.max_record_bytes,
            slot: Arc::clone(&self.slot),
        };
        (of(split_off), of(others))
    }

    /// The latest deadline of the groups.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.groups.iter().map(|group| group.deadline).max()
    }

    /// The idempotency keys to look up, in the order in which to lock them.
    #[must_use]
    pub fn idempotency_keys(&self) -> BTreeSet<IdempotencyKey> {
        let groups = self.groups.iter();
        let keys = groups.flat_map(|group| {
            let edits = group.edits.iter();
            edits.filter_map(|(edit, ..)| group.idempotency_key(edit))
        });
        keys.collect()
    }

    /// The records to read and lock, in the order in which to lock them, with their collections.
    #[must_use]
    pub fn records(&self) -> BTreeMap<RecordKey, Arc<Collection>> {
        self.edits()
            .filter_map(|(edit, collection, _)| Some((edit.key()?, Arc::clone(collection))))
            .collect()
    }

    /// The records and positions for which the store reads the changes since the position.
    ///
    /// Where the position is more than [`MAX_BASE_DISTANCE`] changes behind, or the changes take more bytes than a page
    /// of the log, the store returns [`ChangesSince::OutOfRange`], since other edits wait while the log is read. The engine reads
    /// ahead of the transaction what is far back.
    #[must_use]
    pub fn bases(&self) -> HashSet<(RecordKey, Position)> {
        self.edits()
            .filter_map(|(edit, ..)| Some((edit.key()?, edit.base_to_read()?)))
            .collect()
    }

    /// How many ids the database must reserve in each collection, before it inserts the rows.
    ///
    /// Ids are reserved where a later edit of a transaction uses the id of a record that an earlier one creates. Then every
    /// new record of the collection gets a reserved id, so that the database does not give one twice.
    #[must_use]
    pub fn ids_to_reserve(&self) -> BTreeMap<Arc<str>, usize> {
        let mut wanted: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for group in &self.groups {
            for name in group.collections_with_needed_ids() {
                wanted.insert(Arc::clone(name), 0);
            }
        }
        if !wanted.is_empty() {
            for (_, collection, _) in self.edits().filter(|(edit, ..)| edit.needs_new_id()) {
                if let Some(count) = wanted.get_mut(collection.name()) {
                    *count += 1;
                }
            }
        }
        wanted
    }

    pub(crate) fn edits(&self) -> impl Iterator<Item = &(Edit, Arc<Collection>, Grant)> {
        self.groups.iter().flat_map(|group| &group.edits)
    }
}

impl ReadSet {
    pub(crate) fn has_looked_for(&self, key: &RecordKey) -> bool {
        self.records.contains_key(key) || self.referred.contains_key(key)
    }
}

impl Group {
    /// The name of the principal, if it has one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.principal.as_ref().and_then(Principal::name)
    }

    /// A refusal as the group's principal may see it: a field that it does not know of is not named.
    pub(crate) fn shown(&self, RefusedEdit { edit, refusal }: RefusedEdit) -> Refusal {
        let (_, _, grant) = &self.edits[edit];
        match refusal {
            Refusal::Conflict(errors) => {
                let errors = errors.iter().flat_map(|(field, messages)| {
                    let is_known = field.is_empty() || field == "id" || grant.knows(field);
                    let field = if is_known { field } else { "" };
                    messages.iter().map(move |message| (field, message.clone()))
                });
                Refusal::Conflict(errors.collect())
            }
            Refusal::DatabaseRefused {
                message,
                field,
                is_shown,
            } => Refusal::DatabaseRefused {
                field: field.filter(|field| grant.knows(field)),
                message,
                is_shown,
            },
            refusal => refusal,
        }
    }

    /// The idempotency key of one of the group's edits, which belongs to the group's principal.
    pub(crate) fn idempotency_key(&self, edit: &Edit) -> Option<IdempotencyKey> {
        let key = edit.idempotency_key.clone()?;
        Some(IdempotencyKey {
            principal: match (&self.principal, self.name()) {
                (None, _) => "app".to_owned(),
                (Some(_), None) => "anonymous".to_owned(),
                (Some(_), Some(name)) => format!("name:{name}"),
            },
            key,
        })
    }

    /// The collections in which the group creates a record whose id a later edit of the group uses, and is given by the
    /// database.
    fn collections_with_needed_ids(&self) -> impl Iterator<Item = &Arc<str>> {
        let last = self.edits.iter().rposition(|(edit, ..)| edit.needs_ids());
        let before = self.edits[..last.unwrap_or(0)].iter();
        before
            .filter(|(edit, collection, _)| {
                edit.needs_new_id()
                    && collection.ids_given_by() == IdsGivenBy::Database
                    && collection.ids() == Ids::Integer
                    && collection.is_creatable()
            })
            .map(|(_, collection, _)| collection.name())
    }
}
