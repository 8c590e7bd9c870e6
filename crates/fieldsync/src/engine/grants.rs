//! What a principal is granted: the app's rule is asked for every request and every subscription.

use std::sync::Arc;

use crate::engine::asks::permissions;
use crate::engine::engine::Engine;
use crate::engine::permissions::Permissions;
use crate::error::EngineError;
use crate::live::standing::Asked;
use crate::model::access::Access;
use crate::model::principal::Principal;

impl Engine {
    /// Asks the collection's authorizer what a principal may do, and what it may read.
    pub(crate) async fn permissions(
        &self,
        principal: Option<&Principal>,
        access: Access,
        collection: &str,
    ) -> Result<Permissions, EngineError> {
        let collection = self.known_collection(collection)?;
        let Some(principal) = principal else {
            return Ok(Permissions::full(collection));
        };
        let standings = &self.gauges().hubs.rights.standings;
        let is_read = access == Access::Read;
        let mut asked = is_read
            .then(|| standings.ask(&collection, principal))
            .flatten();
        let ask = || {
            let collection = Arc::clone(&collection);
            permissions(collection, principal, access, self.memberships())
        };
        let mut granted = ask().await;
        if asked.as_ref().is_some_and(Asked::is_stale) {
            // Something that the rule reads has changed meanwhile.
            asked = standings.ask(&collection, principal);
            granted = ask().await;
        }
        let granted = granted?;
        Ok(Permissions {
            asked,
            limited_by: self.usage().of(Some(principal)),
            ..granted
        })
    }
}
