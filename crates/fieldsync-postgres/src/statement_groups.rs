//! Groups the mutations of a plan into statements: updates of the same fields share one.

use std::collections::HashMap;
use std::sync::Arc;

use fieldsync::backend::{Mutation, Plan, Write};
use fieldsync::{Record, RecordId, RecordKey};
use fieldsync_sql::Dialect as _;

use crate::dialect::{Postgres, Table, id_arrays, key_of_text};
use crate::value::Parameter;

/// The mutations of each statement, by their indexes.
///
/// Updates may share a statement. If the database refuses it, the next transaction runs them one by one, which shows which it
/// refuses.
pub(crate) fn statement_groups(plan: &Plan, may_share: bool) -> Vec<Vec<usize>> {
    let mut counts: HashMap<(&Arc<str>, &RecordId), usize> = HashMap::new();
    for mutation in plan.mutations() {
        if let Some(id) = id_of(mutation) {
            *counts.entry((mutation.collection.name(), id)).or_default() += 1;
        }
    }
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut shared: HashMap<(&Arc<str>, Vec<&String>), usize> = HashMap::new();
    for (at, mutation) in plan.mutations().iter().enumerate() {
        let name = mutation.collection.name();
        if let Write::Update { id, fields } = &mutation.write
            && may_share
            && counts[&(name, id)] == 1
        {
            let group = *shared
                .entry((name, fields.keys().collect()))
                .or_insert(groups.len());
            if let Some(group) = groups.get_mut(group) {
                group.push(at);
                continue;
            }
        }
        groups.push(vec![at]);
    }
    groups
}

/// The record that a mutation writes. `None` if the database gives its id.
pub(crate) fn key_of(mutation: &Mutation) -> Option<RecordKey> {
    let id = id_of(mutation)?;
    Some(RecordKey::new(Arc::clone(mutation.collection.name()), id))
}

fn id_of(mutation: &Mutation) -> Option<&RecordId> {
    match &mutation.write {
        Write::Insert { id, .. } => id.as_ref(),
        Write::Update { id, .. } | Write::Delete { id } | Write::Refresh { id } => Some(id),
    }
}

/// The statement that updates the same fields of several records, and returns the rows in any order.
pub(crate) fn update_together<'a>(
    table: &Table,
    plan: &'a Plan,
    group: &[usize],
) -> (String, Vec<Parameter<'a>>) {
    let mutations = group.iter().map(|at| &plan.mutations()[*at].write);
    let updates: Vec<_> = mutations
        .filter_map(|write| match write {
            Write::Update { id, fields } => Some((id, fields)),
            Write::Insert { .. } | Write::Delete { .. } | Write::Refresh { .. } => None,
        })
        .collect();
    let mut parameters = id_arrays(table, updates.iter().map(|(id, _)| *id));
    let mut sets = Vec::new();
    let is_set = |name: &str| updates.iter().all(|(_, fields)| fields.contains_key(name));
    for column in table.columns.iter().filter(|column| is_set(&column.field)) {
        let value = column.format.of_text(&format!("v.c{}", parameters.len()));
        sets.push(format!("{} = {value}", Postgres::quote(&column.name)));
        let values = updates
            .iter()
            .map(|(_, fields)| Postgres::encode(&column.format, &fields[&column.field]));
        parameters.push(Parameter::column(values));
    }
    let arrays: Vec<_> = (1..=parameters.len())
        .map(|number| format!("${number}::text[]"))
        .collect();
    let names: Vec<_> = (0..parameters.len()).map(|n| format!("c{n}")).collect();
    let sql = format!(
        "update {} as t set {} from unnest({}) as v({}) where {} returning {}",
        table.sql_name,
        sets.join(", "),
        arrays.join(", "),
        names.join(", "),
        key_of_text(table, "t", |number| format!("v.c{number}")),
        table.select_list("t").join(", ")
    );
    (sql, parameters)
}

/// Assigns the rows of a group's statement, which come in any order, to its mutations.
pub(crate) fn assign(
    plan: &Plan,
    group: &[usize],
    mut found: Vec<Record>,
    rows: &mut [Option<Record>],
) {
    if let ([at], [_]) = (group, &found[..]) {
        rows[*at] = found.pop();
        return;
    }
    let mut by_id: HashMap<RecordId, Record> =
        found.into_iter().map(|row| (row.id.clone(), row)).collect();
    for at in group {
        rows[*at] = id_of(&plan.mutations()[*at]).and_then(|id| by_id.remove(id));
    }
}
