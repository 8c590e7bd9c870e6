//! The authorizer: the app's rule that decides who may do what.

use async_trait::async_trait;
use std::fmt;

use crate::model::access::{Access, Denied};
use crate::model::principal::Principal;
use crate::schema::grant::Grant;

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
