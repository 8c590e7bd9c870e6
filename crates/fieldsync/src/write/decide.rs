//! Decides one edit on the current row: what to write, nothing, or why it is refused. Pure code.

use std::sync::Arc;

use serde_json::Value;

use crate::model::access::Denied;
use crate::model::edit::{Edit, EditFields, EditKind, UpdateError};
use crate::model::entity_tag::entity_tag;
use crate::model::field_errors::FieldErrors;
use crate::model::merge_patch::MergePatch;
use crate::model::precondition::Precondition;
use crate::model::principal::Principal;
use crate::model::record::{Fields, Record, RecordId, RecordKey, json_size};
use crate::model::refusal::Refusal;
use crate::model::timestamp::Timestamp;
use crate::schema::collection::Collection;
use crate::schema::field::{Ids, IdsGivenBy, SetBy};
use crate::schema::grant::Grant;
use crate::schema::view::View;
use crate::write::base::{EditedFields, SinceBase, check_base};
use crate::write::catch_panic::catch_panic;
use crate::write::mutation::Write;

/// An edit, and everything that its decision depends on.
#[derive(Debug)]
pub(crate) struct Decision<'a> {
    pub(crate) edit: &'a Edit,
    pub(crate) collection: &'a Collection,
    pub(crate) grant: &'a Grant,
    /// The app itself without it.
    pub(crate) principal: Option<&'a Principal>,
    /// The current row of the record, whether or not the grant admits it.
    pub(crate) row: Option<&'a Record>,
    pub(crate) since: SinceBase<'a>,
    /// The ids of the records of the edits before this one in its transaction.
    pub(crate) ids: &'a [RecordId],
    /// The id that the database has reserved for the record that this edit creates.
    pub(crate) reserved_id: Option<RecordId>,
    pub(crate) now: Timestamp,
    /// The maximum size of a record after an edit, as JSON.
    pub(crate) max_record_bytes: usize,
}

impl Decision<'_> {
    /// Decides what to write. `None` when the record already is as the edit asks for.
    pub(crate) fn decide(&self) -> Result<Option<Write>, Refusal> {
        let is_announcement = matches!(self.edit.kind, EditKind::Refresh(_));
        if !self.collection.is_writable() && !is_announcement {
            return Err(Refusal::ReadOnly(Arc::clone(self.collection.name())));
        }
        let row = match &self.edit.kind {
            EditKind::Patch(id, _) | EditKind::Update(id, _) | EditKind::Delete(id) => {
                Some(self.existing(id.clone())?)
            }
            // A row that no longer exists may be refreshed, unless some records are hidden from the principal: it must not
            // learn which ids exist.
            EditKind::Refresh(id) if self.grant.hides_records() => Some(self.existing(id.clone())?),
            _ => self.admitted_row()?,
        };
        for precondition in &self.edit.preconditions {
            self.check_precondition(precondition, row)?;
        }
        let patch = match &self.edit.kind {
            EditKind::Patch(_, patch) => Some(MergePatch(self.resolve(patch)?)),
            _ => None,
        };
        if let Some(row) = row {
            let edited = match (&patch, &self.edit.kind) {
                (Some(patch), _) => EditedFields::Patch(&patch.0),
                (None, EditKind::Update(..) | EditKind::Delete(_)) => EditedFields::All,
                (None, _) => EditedFields::None,
            };
            check_base(edited, row, self.grant, &self.since)?;
        }
        match (&self.edit.kind, row) {
            (EditKind::Malformed(message), _) => Err(Refusal::Malformed(message.clone())),
            (EditKind::Create(id, fields), row) => self.create(id.clone(), fields, row).map(Some),
            (EditKind::Patch(..), Some(row)) => self.patch(&patch.unwrap_or_default(), row),
            (EditKind::Update(_, update), Some(row)) => {
                let own = self.collection.own_fields(&row.fields);
                let changed = catch_panic(|| update(&own))?.map_err(|error| match error {
                    UpdateError::Refused(errors) => Refusal::Invalid(errors),
                    UpdateError::Unreadable(error) => {
                        Refusal::AppFailed(format!("the record does not fit the type: {error}"))
                    }
                })?;
                self.update(changed, row)
            }
            (EditKind::Delete(_), Some(row)) => self.delete(row).map(Some),
            (EditKind::Refresh(id), _) => Ok(Some(Write::Refresh { id: id.clone() })),
            (EditKind::Patch(id, _) | EditKind::Update(id, _) | EditKind::Delete(id), None) => {
                Err(self.not_found(id.clone()))
            }
        }
    }

    fn admitted_row(&self) -> Result<Option<&Record>, Refusal> {
        match self.row {
            Some(row) if catch_panic(|| self.grant.admits(row))? => Ok(Some(row)),
            _ => Ok(None),
        }
    }

    /// The row, if the principal may write it. A row that it may only read is forbidden, and one that it may not even
    /// read does not exist.
    fn existing(&self, id: RecordId) -> Result<&Record, Refusal> {
        if let Some(row) = self.admitted_row()? {
            return Ok(row);
        }
        match self.row {
            Some(row) if catch_panic(|| self.grant.is_readable(row))? => {
                Err(Denied::Forbidden.into())
            }
            _ => Err(self.not_found(id)),
        }
    }

    /// What the principal sees of the row: its id alone if it may write but not read it.
    pub(crate) fn visible(&self, row: &Record) -> Result<View, Refusal> {
        Ok(if catch_panic(|| self.grant.is_readable(row))? {
            self.grant.view.clone()
        } else {
            View::only::<String>([])
        })
    }

    /// Whether the principal knows of a field: it can see it or set it.
    fn is_known(&self, name: &str) -> bool {
        self.grant.knows(name)
    }

    fn not_found(&self, id: RecordId) -> Refusal {
        Refusal::NotFound(RecordKey {
            collection: Arc::clone(self.collection.name()),
            id,
        })
    }

    fn check_precondition(
        &self,
        precondition: &Precondition,
        row: Option<&Record>,
    ) -> Result<(), Refusal> {
        let view = |row| self.visible(row).map(|view| view.project_record(row));
        let tag = row.map(view).transpose()?.map(|seen| entity_tag(&seen));
        if precondition.holds(tag.as_deref()) {
            Ok(())
        } else {
            Err(Refusal::PreconditionFailed)
        }
    }

    fn create(
        &self,
        id: Option<RecordId>,
        fields: &EditFields,
        existing: Option<&Record>,
    ) -> Result<Write, Refusal> {
        let collection = self.collection;
        if !collection.is_creatable() {
            return Err(Refusal::NotCreatable(Arc::clone(collection.name())));
        }
        let id = self.new_id(id)?;
        if existing.is_some() || (id.is_some() && self.row.is_some()) {
            let errors = FieldErrors::one("id", "is the id of another record");
            return Err(Refusal::Conflict(errors));
        }
        let (fields, left_out) = self.new_fields(self.resolve(fields)?)?;
        self.check_size(&fields, &Fields::new(), &fields)?;
        self.run_hooks(None, Some(&fields))?;
        // The database gives the integer only when it inserts the row. A row filter sees 0.
        let created = Record {
            id: id.clone().unwrap_or(RecordId::Integer(0)),
            fields,
        };
        self.check_admitted(&created)?;
        let mut fields = created.fields;
        fields.retain(|name, _| !left_out.contains(name));
        Ok(Write::Insert { id, fields })
    }

    /// The id of the new record. `None` when the database gives it.
    fn new_id(&self, given: Option<RecordId>) -> Result<Option<RecordId>, Refusal> {
        let collection = self.collection;
        let refuse = |message: &str| Err(Refusal::Invalid(FieldErrors::one("id", message)));
        match (collection.ids(), collection.ids_given_by(), given) {
            (Ids::Integer, IdsGivenBy::Database, None) => Ok(self.reserved_id.clone()),
            (Ids::Integer, IdsGivenBy::Database, Some(_)) => refuse("is assigned by the database"),
            (Ids::UuidV7, _, None) => Ok(Some(RecordId::Uuid(uuid::Uuid::now_v7()))),
            (Ids::Text, IdsGivenBy::Database, None) => Ok(None),
            // The fields of the key that are missing are named below.
            (_, _, None) if collection.key_columns().len() > 1 => Ok(None),
            (_, _, None) => refuse("is required"),
            // Its kind was checked.
            (_, _, Some(id)) => Ok(Some(id)),
        }
    }

    pub(crate) fn resolve(&self, fields: &EditFields) -> Result<Fields, Refusal> {
        catch_panic(|| fields.resolve(self.ids))?.map_err(Refusal::Malformed)
    }

    /// All fields of a new record: those that were given, those that the app sets, and defaults. And the names of those that
    /// are left to the database, which are null here.
    fn new_fields(&self, given: Fields) -> Result<(Fields, Vec<String>), Refusal> {
        let collection = self.collection;
        let (mut errors, mut denied) = (FieldErrors::new(), FieldErrors::new());
        for name in given.keys() {
            match collection.field(name) {
                None if name == "id" => errors.add(name, "is assigned by the server"),
                None => errors.add(name, "is not a known field"),
                Some(_) if !self.is_known(name) => errors.add(name, "is not a known field"),
                Some(field) if !field.is_settable() => errors.add(name, "is set by the server"),
                Some(_) if !self.grant.writable.shows(name) => {
                    denied.add(name, "may not be set by you");
                }
                Some(_) => {}
            }
        }
        check_denied(denied)?;
        let mut given = given;
        if let Some(principal) = self.principal {
            given.extend(self.grant.set.iter().cloned());
            let sent = given.clone();
            catch_panic(|| collection.hooks().on_create(principal, &mut given))?;
            let is_unknown = |name: &&String| collection.field(name).is_none();
            let mut set = given.keys().filter(|name| !sent.contains_key(*name));
            if let Some(unknown) = set.find(is_unknown) {
                let message = format!("on_create set {unknown:?}, which is not a field");
                return Err(Refusal::AppFailed(message));
            }
        }
        let (mut fields, mut left_out) = (Fields::new(), Vec::new());
        for field in collection.fields() {
            let name = &field.name;
            if !errors.get(name).is_empty() {
                continue;
            }
            let value = match given.get(name) {
                Some(value) => field.schema.check(value),
                None if field.is_timestamp() => Ok(self.now.to_string().into()),
                None if field.is_left_to_the_database() => {
                    left_out.push(name.clone());
                    Ok(Value::Null)
                }
                // What the principal does not know of can't be asked for.
                None if field.default.is_none() && !self.is_known(name) => {
                    return Err(Denied::Forbidden.into());
                }
                None => field.default.clone().ok_or("is required".to_owned()),
            };
            match value {
                Ok(value) => {
                    fields.insert(name.clone(), value);
                }
                Err(message) => errors.add(name, message),
            }
        }
        errors.into_result()?;
        Ok((fields, left_out))
    }

    fn patch(&self, patch: &MergePatch, row: &Record) -> Result<Option<Write>, Refusal> {
        let patched = patch.0.keys().map(|name| {
            let current = row.fields.get(name).unwrap_or(&Value::Null);
            let field = self.collection.field(name);
            let wanted = &patch.0[name];
            if field.is_some_and(|field| field.schema.is_whole(wanted)) {
                return (name.clone(), wanted.clone());
            }
            let value = patch.value_of(name, current);
            (name.clone(), value.expect("the patch has this field"))
        });
        self.update(patched.collect(), row)
    }

    fn update(&self, wanted: Fields, row: &Record) -> Result<Option<Write>, Refusal> {
        let visible = self.visible(row)?;
        // Whether a hidden field has this value already must not show in what is checked.
        let names_hidden = wanted
            .keys()
            .any(|name| name != "id" && !visible.shows(name));
        let mut changed = self.changed_fields(wanted, row, &visible)?;
        if changed.is_empty() && !names_hidden {
            return Ok(None);
        }
        let mut after = row.clone();
        after.fields.extend(changed.clone());
        self.check_size(&changed, &row.fields, &after.fields)?;
        self.run_hooks(Some(&row.fields), Some(&after.fields))?;
        self.check_admitted(&after)?;
        if changed.is_empty() {
            return Ok(None);
        }
        if let Some(field) = self.collection.field_set_by(SetBy::UpdatedAt) {
            changed.insert(field.name.clone(), self.now.to_string().into());
        }
        Ok(Some(Write::Update {
            id: row.id.clone(),
            fields: changed,
        }))
    }

    /// The fields that differ from the row, in the form in which they are stored.
    fn changed_fields(
        &self,
        wanted: Fields,
        row: &Record,
        visible: &View,
    ) -> Result<Fields, Refusal> {
        let (mut errors, mut denied) = (FieldErrors::new(), FieldErrors::new());
        let mut changed = Fields::new();
        for (name, value) in wanted {
            let current = row.fields.get(&name);
            // A hidden value is not compared: the reply would reveal whether the guess was right.
            let is_same = |value: &Value| current == Some(value) && visible.shows(&name);
            let Some(field) = self.collection.field(&name) else {
                let is_same_id = name == "id"
                    && serde_json::to_value(row.id.clone()).is_ok_and(|id| id == value);
                match name.as_str() {
                    _ if is_same_id => {}
                    "id" => errors.add(name, "can't be changed"),
                    _ => errors.add(name, "is not a known field"),
                }
                continue;
            };
            if !self.is_known(&name) {
                errors.add(name, "is not a known field");
                continue;
            }
            match field.schema.check(&value) {
                // A value that others stored stays, even where the field does not allow it.
                _ if is_same(&value) => {}
                Ok(value) if is_same(&value) => {}
                _ if field.set_by == SetBy::Creator => errors.add(name, "can't be changed"),
                _ if !field.is_settable() => errors.add(name, "is set by the server"),
                _ if !self.grant.writable.shows(&name) => {
                    denied.add(name, "may not be changed by you");
                }
                Ok(value) if current == Some(&value) => {}
                Ok(value) => {
                    changed.insert(name, value);
                }
                Err(message) => errors.add(name, message),
            }
        }
        check_denied(denied)?;
        errors.into_result()?;
        Ok(changed)
    }

    fn delete(&self, row: &Record) -> Result<Write, Refusal> {
        self.run_hooks(Some(&row.fields), None)?;
        Ok(Write::Delete { id: row.id.clone() })
    }

    /// Refuses an edit that makes the record too large. A record that others made too large may still shrink.
    fn check_size(&self, changed: &Fields, before: &Fields, after: &Fields) -> Result<(), Refusal> {
        let limit = self.max_record_bytes;
        let size = json_size(after);
        if size <= limit || size <= json_size(before) {
            return Ok(());
        }
        let largest = changed.iter().max_by_key(|(_, value)| json_size(value));
        let name = largest.map_or("id", |(name, _)| name);
        let message = format!("makes the record larger than {limit} bytes");
        Err(Refusal::RecordTooLarge(FieldErrors::one(name, message)))
    }

    /// Runs the app's own checks on the record before and after the edit.
    fn run_hooks(&self, before: Option<&Fields>, after: Option<&Fields>) -> Result<(), Refusal> {
        let hooks = self.collection.hooks();
        if !hooks.has_checks() {
            return Ok(());
        }
        let own = |fields| self.collection.own_fields(fields);
        let (before, after) = (before.map(own), after.map(own));
        if let Some(after) = &after {
            catch_panic(|| hooks.validate(before.as_ref(), after))??;
        }
        match self.principal {
            Some(principal) => {
                catch_panic(|| hooks.check(principal, before.as_ref(), after.as_ref()))?
            }
            None => Ok(()),
        }
    }

    /// No principal may create a record outside its grant, or move one out of it.
    fn check_admitted(&self, after: &Record) -> Result<(), Refusal> {
        if catch_panic(|| self.grant.admits(after))? {
            Ok(())
        } else {
            Err(Denied::Forbidden.into())
        }
    }
}

/// Whether the principal may set the fields is decided before whether their values are valid.
fn check_denied(denied: FieldErrors) -> Result<(), Refusal> {
    if denied.is_empty() {
        Ok(())
    } else {
        Err(Refusal::FieldsDenied(denied))
    }
}
