//! The references to records of other collections that a principal's edits may set, and what of those collections it may read.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::asks::readable_or_nothing;
use crate::engine::engine::Engine;
use crate::engine::permissions::Permissions;
use crate::error::EngineError;
use crate::model::edit::Edit;
use crate::model::principal::Principal;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::reference::GuardedReference;

impl Engine {
    /// The references that these edits may set to records of which some are hidden from the principal. Each collection's rule is asked once,
    /// and not at all if it was asked for an edit, which `permissions` has.
    pub(crate) async fn guarded_references(
        &self,
        principal: Option<&Principal>,
        edits: impl Iterator<Item = &Edit>,
        permissions: &[Permissions],
    ) -> Result<Vec<GuardedReference>, EngineError> {
        let mut guarded: Vec<GuardedReference> = Vec::new();
        let Some(principal) = principal else {
            return Ok(guarded);
        };
        let mut asked: HashMap<Arc<str>, Arc<Grant>> = HashMap::new();
        for reference in edits.flat_map(|edit| self.known_references().set_by(edit)) {
            let is_known = |one: &GuardedReference| Arc::ptr_eq(&one.reference, reference);
            if guarded.iter().any(is_known) {
                continue;
            }
            let target = &reference.target;
            let readable = match asked.get(target.name()) {
                Some(readable) => Arc::clone(readable),
                None => {
                    let readable = self.readable(principal, target, permissions).await?;
                    let readable = Arc::new(readable);
                    asked.insert(Arc::clone(target.name()), Arc::clone(&readable));
                    readable
                }
            };
            if !readable.is_for_all() {
                guarded.push(GuardedReference {
                    reference: Arc::clone(reference),
                    readable,
                });
            }
        }
        Ok(guarded)
    }

    async fn readable(
        &self,
        principal: &Principal,
        target: &Arc<Collection>,
        permissions: &[Permissions],
    ) -> Result<Grant, EngineError> {
        let mut known = permissions.iter();
        if let Some(known) = known.find(|one| one.collection.name() == target.name()) {
            return Ok(known.read.clone());
        }
        let _open = self.asks().try_open(target.name())?;
        Ok(readable_or_nothing(target, principal, self.memberships()).await?)
    }
}
