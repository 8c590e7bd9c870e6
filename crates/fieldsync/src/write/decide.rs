//! One edit on its current row: what to write, nothing, or why not. Pure code.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::model::access::Denied;
use crate::model::change::{Action, Change};
use crate::model::edit::{Edit, EditKind, Precondition};
use crate::model::entity_tag::entity_tag;
use crate::model::field_errors::FieldErrors;
use crate::model::record::{CREATED_AT, Fields, Record, RecordId, RecordKey, UPDATED_AT};
use crate::model::refusal::{FieldConflict, Refusal};
use crate::model::timestamp::Timestamp;
use crate::schema::collection::Collection;
use crate::schema::field::Ids;
use crate::schema::grant::Grant;
use crate::write::mutation::Write;

/// What changed of an edit's record since its base.
#[derive(Debug)]
pub(crate) enum SinceBase<'a> {
    /// The edit has no base.
    Any,
    /// The log can't tell.
    Lost,
    /// These changes in the log, and after them these in the same batch: their previous values, none where not known.
    Changes {
        logged: &'a [Change],
        planned: &'a [Option<Fields>],
    },
}

/// Decides one edit on its current row: what to write, nothing, or why not.
pub(crate) fn decide(
    edit: &Edit,
    collection: &Collection,
    grant: &Grant,
    row: Option<&Record>,
    since: &SinceBase<'_>,
    now: Timestamp,
) -> Result<Option<Write>, Refusal> {
    let row = match row {
        Some(row) if catch_panic(|| grant.admits(row))? => Some(row),
        _ => None,
    };
    let existing = |id: RecordId| {
        row.ok_or_else(|| {
            Refusal::NotFound(RecordKey {
                collection: Arc::clone(collection.name()),
                id,
            })
        })
    };
    if let (Some(key), EditKind::Patch(..) | EditKind::Update(..) | EditKind::Delete(_)) =
        (edit.key(), &edit.kind)
    {
        existing(key.id)?;
    }
    for precondition in &edit.preconditions {
        check_precondition(precondition, row, grant)?;
    }
    if let Some(row) = row {
        check_base(edit, row, grant, since)?;
    }
    match &edit.kind {
        EditKind::Malformed(message) => Err(Refusal::Malformed(message.clone())),
        EditKind::Create(fields) => create(collection, grant, fields, now).map(Some),
        EditKind::Patch(id, patch) => {
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
        EditKind::Update(id, rewrite) => {
            let row = existing(*id)?;
            let own = collection.own_fields(&row.fields);
            let unreadable = |error: serde_json::Error| {
                Refusal::Malformed(format!("the record does not fit the type: {error}"))
            };
            let wished = catch_panic(|| rewrite(&own))?.map_err(unreadable)?;
            update(collection, grant, row, wished, now)
        }
        EditKind::Delete(id) => existing(*id).map(|row| Some(Write::Delete { id: row.id })),
        EditKind::Refresh(id) => Ok(Some(Write::Refresh { id: *id })),
    }
}

/// Refuses an edit that touches a field which has changed since the edit's base.
fn check_base(
    edit: &Edit,
    row: &Record,
    grant: &Grant,
    since: &SinceBase<'_>,
) -> Result<(), Refusal> {
    let is_readable = || catch_panic(|| grant.is_readable(row));
    let (logged, planned) = match since {
        SinceBase::Any => return Ok(()),
        SinceBase::Lost => {
            let nothing = Fields::new();
            let fields = if is_readable()? {
                &row.fields
            } else {
                &nothing
            };
            let current = grant.view.project(row.id, fields);
            return Err(Refusal::BaseUnknown { current });
        }
        SinceBase::Changes { logged, planned } => (logged, planned),
    };
    let touched: Vec<&String> = match &edit.kind {
        EditKind::Patch(_, patch) => patch.0.keys().collect(),
        // What a closure will change is known only after it ran: all of it counts.
        EditKind::Delete(_) | EditKind::Update(..) => row.fields.keys().collect(),
        EditKind::Create(_) | EditKind::Refresh(_) | EditKind::Malformed(_) => return Ok(()),
    };
    let mut conflicts = BTreeMap::new();
    let is_readable = is_readable()?;
    // What one may not see is no conflict to tell of.
    for name in touched.into_iter().filter(|name| grant.view.shows(name)) {
        let first_logged = logged.iter().find(|change| change.touches(name));
        let first_planned = planned.iter().find(|previous| {
            previous
                .as_ref()
                .is_none_or(|previous| previous.contains_key(name))
        });
        let base = match (first_logged, first_planned) {
            (None, None) => continue,
            (Some(change), _) if change.action == Action::Create => None,
            (Some(change), _) => change.previous.get(name),
            (None, Some(previous)) => previous.as_ref().and_then(|previous| previous.get(name)),
        };
        let mine = match &edit.kind {
            EditKind::Patch(_, patch) => patch.0.get(name).cloned(),
            _ => None,
        };
        let theirs = row.fields.get(name).filter(|_| is_readable);
        conflicts.insert(
            name.clone(),
            FieldConflict {
                base: base.filter(|_| grant.shows_previous()).cloned(),
                mine,
                theirs: theirs.cloned(),
            },
        );
    }
    if conflicts.is_empty() {
        Ok(())
    } else {
        Err(Refusal::ChangedSinceBase(conflicts))
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
    catch_panic(|| collection.run_validator(None, &fields))?.map_err(Refusal::Invalid)?;
    let id = match collection.ids() {
        Ids::Integer => None,
        Ids::UuidV7 => Some(RecordId::Uuid(uuid::Uuid::now_v7())),
    };
    // The database gives the integer only then; a row predicate sees 0.
    stays_among_rows(
        grant,
        &Record {
            id: id.unwrap_or(RecordId::Integer(0)),
            fields: fields.clone(),
        },
    )?;
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
            // Also where others stored what the field may not hold: it stays.
            _ if same(&value) => {}
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
    catch_panic(|| collection.run_validator(Some(&row.fields), &after))?
        .map_err(Refusal::Invalid)?;
    stays_among_rows(
        grant,
        &Record {
            id: row.id,
            fields: after,
        },
    )?;
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

/// Nobody makes a record that is not for them, or gives one away.
fn stays_among_rows(grant: &Grant, after: &Record) -> Result<(), Refusal> {
    if catch_panic(|| grant.admits(after))? {
        Ok(())
    } else {
        Err(Denied::Forbidden.into())
    }
}

/// Runs the app's code; its panic is its edit's failure, not the end of the thread that commits.
fn catch_panic<T>(code: impl FnOnce() -> T) -> Result<T, Refusal> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(code)).map_err(|_| Refusal::AppPanicked)
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
pub(crate) fn predict(row: Option<&Record>, write: &Write) -> Option<Record> {
    match write {
        Write::Update { fields, .. } => {
            let mut after = row?.clone();
            after.fields.extend(fields.clone());
            Some(after)
        }
        Write::Refresh { .. } => row.cloned(),
        Write::Insert { .. } | Write::Delete { .. } => None,
    }
}

/// The values that a write takes from a record; `None` when they are not known.
pub(crate) fn previous_values(row: Option<&Record>, write: &Write) -> Option<Fields> {
    let row = row?;
    match write {
        Write::Update { fields, .. } => {
            let previous = row
                .fields
                .iter()
                .filter(|(name, _)| fields.contains_key(*name));
            Some(
                previous
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect(),
            )
        }
        Write::Delete { .. } => Some(row.fields.clone()),
        Write::Insert { .. } | Write::Refresh { .. } => None,
    }
}
