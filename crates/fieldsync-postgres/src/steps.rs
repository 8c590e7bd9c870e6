//! Which mutations share a statement.

use std::collections::HashMap;
use std::sync::Arc;

use fieldsync::{Fields, Mutation, Plan, Record, RecordId, Write};
use tokio_postgres::types::ToSql;

use crate::error::Failure;
use crate::table::Tables;

/// A parameter of a statement: of one record, or the same of all that it is about.
pub(crate) enum Texts {
    OfOne(Option<String>),
    OfAll(Vec<Option<String>>),
}

impl Texts {
    pub(crate) fn parameter(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::OfOne(text) => text,
            Self::OfAll(texts) => texts,
        }
    }
}

/// The mutations of each statement, by their numbers. Updates of the same fields share one, where several groups share the
/// transaction: one that a constraint refuses is found by halves. Where there is one group, it is found at once.
pub(crate) fn steps(plan: &Plan, tables: &Tables, alone: bool) -> Result<Vec<Vec<usize>>, Failure> {
    let mut counts: HashMap<(&Arc<str>, RecordId), usize> = HashMap::new();
    for mutation in plan.mutations() {
        if let Some(id) = id_of(mutation) {
            *counts.entry((mutation.collection.name(), id)).or_default() += 1;
        }
    }
    let mut steps: Vec<Vec<usize>> = Vec::new();
    let mut shared: HashMap<(&Arc<str>, Vec<&String>), usize> = HashMap::new();
    for (at, mutation) in plan.mutations().iter().enumerate() {
        let name = mutation.collection.name();
        if let Write::Update { id, fields } = &mutation.write
            && !alone
            && counts[&(name, *id)] == 1
            && tables.of(name)?.again.is_none()
        {
            let step = *shared
                .entry((name, fields.keys().collect()))
                .or_insert(steps.len());
            if let Some(places) = steps.get_mut(step) {
                places.push(at);
                continue;
            }
        }
        steps.push(vec![at]);
    }
    Ok(steps)
}

fn id_of(mutation: &Mutation) -> Option<RecordId> {
    match &mutation.write {
        Write::Insert { id, .. } => *id,
        Write::Update { id, .. } | Write::Delete { id } | Write::Touch { id } => Some(*id),
    }
}

pub(crate) fn updates<'a>(plan: &'a Plan, places: &[usize]) -> Vec<(RecordId, &'a Fields)> {
    let mutations = places.iter().map(|at| &plan.mutations()[*at].write);
    mutations
        .filter_map(|write| match write {
            Write::Update { id, fields } => Some((*id, fields)),
            Write::Insert { .. } | Write::Delete { .. } | Write::Touch { .. } => None,
        })
        .collect()
}

/// Puts rows, which come in any order, to their mutations.
pub(crate) fn put(
    plan: &Plan,
    places: &[usize],
    mut found: Vec<Record>,
    rows: &mut [Option<Record>],
) {
    if let ([at], [_]) = (places, &found[..]) {
        rows[*at] = found.pop();
        return;
    }
    let mut by_id: HashMap<RecordId, Record> = found.into_iter().map(|row| (row.id, row)).collect();
    for at in places {
        rows[*at] = id_of(&plan.mutations()[*at]).and_then(|id| by_id.remove(&id));
    }
}
