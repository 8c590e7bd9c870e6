//! Conflicts between an edit and what has changed since its base.

use std::collections::BTreeMap;

use crate::model::change::{Action, Change};
use crate::model::record::{Fields, Record};
use crate::model::refusal::{FieldConflict, Refusal};
use crate::schema::grant::Grant;
use crate::write::catch_panic::catch_panic;

/// What changed in an edit's record since its base.
#[derive(Debug)]
pub(crate) enum SinceBase<'a> {
    /// The edit has no base.
    NoBase,
    /// The log does not contain the base.
    Unknown,
    /// The changes in the log, of which some were read before the transaction, and after them the changes of earlier edits in the batch. Of
    /// the latter these are the previous values, `None` where they are unknown.
    Changes {
        read_ahead: &'a [Change],
        logged: &'a [Change],
        planned: &'a [Option<Fields>],
    },
}

/// The fields that an edit sets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum EditedFields<'a> {
    /// None: the edit can't conflict.
    None,
    /// These fields, with the values that the edit sets.
    Patch(&'a Fields),
    /// Every field: a delete, or a closure whose changes are known only after it ran.
    All,
}

/// Refuses an edit that sets a field which has changed since the edit's base.
pub(crate) fn check_base(
    edited: EditedFields<'_>,
    row: &Record,
    grant: &Grant,
    since: &SinceBase<'_>,
) -> Result<(), Refusal> {
    if let SinceBase::NoBase = since {
        return Ok(());
    }
    let is_readable = catch_panic(|| grant.is_readable(row))?;
    let SinceBase::Changes {
        read_ahead,
        logged,
        planned,
    } = since
    else {
        let hidden = Fields::new();
        let fields = if is_readable { &row.fields } else { &hidden };
        let current = grant.view.project(row.id.clone(), fields);
        return Err(Refusal::BaseUnknown { current });
    };
    let (names, patch): (Vec<&String>, _) = match edited {
        EditedFields::None => return Ok(()),
        EditedFields::Patch(fields) => (fields.keys().collect(), Some(fields)),
        EditedFields::All => (row.fields.keys().collect(), None),
    };
    let mut conflicts = BTreeMap::new();
    // A conflict in a hidden field would reveal that the field has changed.
    for name in names.into_iter().filter(|name| grant.view.shows(name)) {
        let Some(base) = value_at_base(name, read_ahead.iter().chain(*logged), planned) else {
            continue;
        };
        let theirs = row.fields.get(name).filter(|_| is_readable);
        let conflict = FieldConflict {
            base: base.filter(|_| !grant.hides_records()).cloned(),
            mine: patch.and_then(|patch| patch.get(name)).cloned(),
            theirs: theirs.cloned(),
        };
        conflicts.insert(name.clone(), conflict);
    }
    if conflicts.is_empty() {
        Ok(())
    } else {
        Err(Refusal::ChangedSinceBase(conflicts))
    }
}

/// The value of a field at the base, `Some(None)` where it is unknown. `None` when the field has not changed since.
#[expect(
    clippy::option_option,
    reason = "unchanged and unknown are different answers"
)]
fn value_at_base<'a>(
    name: &str,
    mut logged: impl Iterator<Item = &'a Change>,
    planned: &'a [Option<Fields>],
) -> Option<Option<&'a serde_json::Value>> {
    if let Some(change) = logged.find(|change| change.affects(name)) {
        let existed = change.action != Action::Create;
        return Some(change.previous.get(name).filter(|_| existed));
    }
    let sets = |previous: &&Option<Fields>| {
        previous
            .as_ref()
            .is_none_or(|previous| previous.contains_key(name))
    };
    let previous = planned.iter().find(sets)?;
    Some(previous.as_ref().and_then(|previous| previous.get(name)))
}
