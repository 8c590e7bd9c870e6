//! The plan for a batch: the rows to write. `settle` has what follows: the changes to log and the answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::outcome::Outcome;
use crate::model::record::{Record, RecordKey};
use crate::model::timestamp::Timestamp;
use crate::write::batch::{Batch, RefusedEdit};
use crate::write::mutation::Mutation;

/// What to write for a batch of edits.
///
/// The store executes [`Plan::mutations`] in order, locks the heads of [`Plan::collections`] and of what it captured meanwhile,
/// and passes the rows and what it captured to [`Plan::settle`].
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

impl Plan {
    /// The writes to the app's tables, in the order in which to execute them.
    #[must_use]
    pub fn mutations(&self) -> &[Mutation] {
        &self.mutations
    }

    /// The collections of the edits, in the order in which to lock the heads of their logs, and whether a mutation writes to
    /// them.
    #[must_use]
    pub fn collections(&self) -> BTreeMap<Arc<str>, bool> {
        let edits = self.batch.groups.iter().flat_map(|group| &group.edits);
        let mut collections: BTreeMap<_, _> = edits
            .map(|(_, collection, _)| (Arc::clone(collection.name()), false))
            .collect();
        for mutation in &self.mutations {
            collections.insert(Arc::clone(mutation.collection.name()), true);
        }
        collections
    }
}
