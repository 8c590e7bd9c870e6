//! Who may do what, and which fields one may see. The one projection through which every field leaves.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::collection::Collection;
use crate::cursor::{Shape, hash};
use crate::record::{Fields, Record, RecordId};

/// Who makes a request. The app puts it into the request's extensions; without one it is [`Principal::anonymous`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Principal {
    name: Option<Arc<str>>,
}

impl Principal {
    /// Nobody in particular.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Somebody whom the app knows under this name.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: Some(name.into()),
        }
    }

    /// The name, unless anonymous.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// What somebody wants to do with a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// See records and their changes.
    Read,
    /// Make a record.
    Create,
    /// Change fields of a record.
    Update,
    /// Delete a record.
    Delete,
}

/// Which fields one may see. Plain data: those with equal views share one encoding of each change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct View {
    only: Option<Arc<BTreeSet<String>>>,
}

impl View {
    /// Every field.
    #[must_use]
    pub fn full() -> Self {
        Self::default()
    }

    /// These fields alone. The id is always seen.
    pub fn only<N: Into<String>>(fields: impl IntoIterator<Item = N>) -> Self {
        Self {
            only: Some(Arc::new(fields.into_iter().map(Into::into).collect())),
        }
    }

    /// Whether the field is seen.
    #[must_use]
    pub fn shows(&self, field: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(field))
    }

    /// The record as this view shows it: one flat object, the id among its fields.
    #[must_use]
    pub fn project(&self, id: RecordId, fields: &Fields) -> Fields {
        let mut seen = self.project_fields(fields);
        seen.insert(
            "id".into(),
            serde_json::to_value(id).expect("an id is a number or a string"),
        );
        seen
    }

    /// Those of the fields that this view shows.
    #[must_use]
    pub fn project_fields(&self, fields: &Fields) -> Fields {
        let Some(only) = &self.only else {
            return fields.clone();
        };
        let seen = fields.iter().filter(|(name, _)| only.contains(*name));
        seen.map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// [`View::project`] as a JSON value.
    pub(crate) fn project_record(&self, record: &Record) -> Value {
        Value::Object(self.project(record.id, &record.fields))
    }
}

/// A test on records: those that fail it do not exist for the principal.
#[derive(Clone)]
pub struct Rows {
    name: Arc<str>,
    admits: Arc<dyn Fn(&Record) -> bool + Send + Sync>,
}

/// What was granted to somebody for one kind of access to one collection.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Grant {
    /// The fields that one sees.
    pub view: View,
    /// The fields that one may set.
    pub writable: View,
    /// The records that exist for one; all without it.
    pub rows: Option<Rows>,
    /// Of a grant to write: the records that one may also see.
    pub(crate) readable: Option<Rows>,
}

impl Grant {
    /// Every field of every record, to see and to set.
    #[must_use]
    pub fn full() -> Self {
        Self::default()
    }

    /// Shows only what the view shows.
    #[must_use]
    pub fn with_view(self, view: View) -> Self {
        Self { view, ..self }
    }

    /// Lets only these fields be set.
    #[must_use]
    pub fn with_writable(self, writable: View) -> Self {
        Self { writable, ..self }
    }

    /// Grants only records that pass the test, before an edit and after it; a record that is being created has the id 0
    /// where the database gives the ids. The name tells the test from others, those of other principals included
    /// (`owner=17`): a subscriber whose cursor was made under another name begins again with a snapshot.
    #[must_use]
    pub fn with_rows(
        self,
        name: impl Into<Arc<str>>,
        admits: impl Fn(&Record) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            rows: Some(Rows {
                name: name.into(),
                admits: Arc::new(admits),
            }),
            ..self
        }
    }

    /// As a grant to write of one who may read so.
    pub(crate) fn shown_by(self, reads: Self) -> Self {
        Self {
            view: reads.view,
            readable: reads.rows,
            ..self
        }
    }

    /// Whether what a record was before may be shown: not where there are records that are not for one.
    pub(crate) fn shows_former(&self) -> bool {
        self.rows.is_none() && self.readable.is_none()
    }

    /// Whether one who may write the record may also see it.
    pub(crate) fn is_readable(&self, record: &Record) -> bool {
        self.readable
            .as_ref()
            .is_none_or(|rows| (rows.admits)(record))
    }

    /// Whether the record exists for the one who holds this grant.
    #[must_use]
    pub fn admits(&self, record: &Record) -> bool {
        self.rows.as_ref().is_none_or(|rows| (rows.admits)(record))
    }

    /// What a cursor must have been made for, to be resumed from under this grant.
    pub(crate) fn shape(&self, collection: &Collection) -> Shape {
        let seen = (&self.view.only, self.rows.as_ref().map(|rows| &rows.name));
        Shape {
            schema: collection.schema_hash(),
            view: hash(&format!("{seen:?}")),
        }
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rows").field(&self.name).finish()
    }
}

/// Why nothing was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// Nobody in particular may not; somebody might. 401.
    #[error("a login is needed")]
    Unauthenticated,
    /// This principal may not. 403.
    #[error("not allowed")]
    Forbidden,
    /// For this principal there is no such collection. 404.
    #[error("not found")]
    Hidden,
}

/// Decides who may do what. Every request and every subscription asks it.
///
/// ```
/// use fieldsync::{Access, Authorizer, Denied, Grant, Principal, View};
///
/// #[derive(Debug)]
/// struct StaffEdits;
///
/// #[async_trait::async_trait]
/// impl Authorizer for StaffEdits {
///     async fn authorize(&self, who: &Principal, access: Access, _collection: &str) -> Result<Grant, Denied> {
///         match (who.name(), access) {
///             (Some("staff"), _) => Ok(Grant::full()),
///             (_, Access::Read) => Ok(Grant::full().with_view(View::only(["first_name"]))),
///             (_, Access::Create | Access::Update | Access::Delete) => Err(Denied::Forbidden),
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait Authorizer: fmt::Debug + Send + Sync + 'static {
    /// Grants this access to this collection, or says why not. Knows no row: that is the grant's row predicate,
    /// which is applied to the current row inside the transaction. May be dropped half way.
    async fn authorize(
        &self,
        who: &Principal,
        access: Access,
        collection: &str,
    ) -> Result<Grant, Denied>;
}

/// The rule that `open_to_everyone()` names.
#[derive(Debug)]
pub(crate) struct OpenToEveryone;

#[async_trait]
impl Authorizer for OpenToEveryone {
    async fn authorize(&self, _: &Principal, _: Access, _: &str) -> Result<Grant, Denied> {
        Ok(Grant::full())
    }
}
