//! The app's own code that runs on edits: checks, and what is set on creation.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::model::field_errors::FieldErrors;
use crate::model::principal::Principal;
use crate::model::record::Fields;
use crate::model::refusal::Refusal;
use crate::model::typed::typed;

type Validate = dyn Fn(Option<&Fields>, &Fields) -> Result<(), Refusal> + Send + Sync;
type Check =
    dyn Fn(&Principal, Option<&Fields>, Option<&Fields>) -> Result<(), Refusal> + Send + Sync;
type OnCreate = dyn Fn(&Principal, &mut Fields) + Send + Sync;

/// The app's own code for one collection. It sees the app's own fields, without those that the server sets.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    validate: Option<Arc<Validate>>,
    check: Option<Arc<Check>>,
    on_create: Option<Arc<OnCreate>>,
}

impl Hooks {
    pub(crate) fn set_validate<T: DeserializeOwned>(
        &mut self,
        validate: impl Fn(Option<&T>, &T) -> Result<(), FieldErrors> + Send + Sync + 'static,
    ) {
        self.validate = Some(Arc::new(move |before, after| {
            // A row that others wrote may not fit the type. Then there is no typed `before`, so that it can be repaired.
            let before = before.and_then(|before| read(before).ok());
            let after = read(after).map_err(Refusal::AppFailed)?;
            validate(before.as_ref(), &after).map_err(Refusal::Invalid)
        }));
    }

    pub(crate) fn set_check<T: DeserializeOwned, E: Into<Refusal>>(
        &mut self,
        check: impl Fn(&Principal, Option<&T>, Option<&T>) -> Result<(), E> + Send + Sync + 'static,
    ) {
        self.check = Some(Arc::new(move |principal, before, after| {
            // Without the record before, the check could take an update for a create, and let it pass.
            let read = |fields| read(fields).map_err(Refusal::AppFailed);
            let (before, after) = (before.map(read).transpose()?, after.map(read).transpose()?);
            check(principal, before.as_ref(), after.as_ref()).map_err(Into::into)
        }));
    }

    pub(crate) fn set_on_create(
        &mut self,
        on_create: impl Fn(&Principal, &mut Fields) + Send + Sync + 'static,
    ) {
        self.on_create = Some(Arc::new(on_create));
    }

    /// Runs `validate` on a record's new state.
    pub(crate) fn validate(&self, before: Option<&Fields>, after: &Fields) -> Result<(), Refusal> {
        self.validate
            .as_ref()
            .map_or(Ok(()), |validate| validate(before, after))
    }

    /// Runs `check` on an edit of a principal.
    pub(crate) fn check(
        &self,
        principal: &Principal,
        before: Option<&Fields>,
        after: Option<&Fields>,
    ) -> Result<(), Refusal> {
        self.check
            .as_ref()
            .map_or(Ok(()), |check| check(principal, before, after))
    }

    /// Runs `on_create` on the fields of a principal's new record.
    pub(crate) fn on_create(&self, principal: &Principal, fields: &mut Fields) {
        if let Some(on_create) = &self.on_create {
            on_create(principal, fields);
        }
    }

    /// Whether fields of new records may be set.
    pub(crate) fn has_on_create(&self) -> bool {
        self.on_create.is_some()
    }

    /// Whether there is a `validate` or a `check` to run.
    pub(crate) fn has_checks(&self) -> bool {
        self.validate.is_some() || self.check.is_some()
    }
}

fn read<T: DeserializeOwned>(fields: &Fields) -> Result<T, String> {
    typed(fields.clone()).map_err(|error| format!("the record does not fit the type: {error}"))
}
