//! The authorizer: the app's rule that decides who may do what.

use std::fmt;

use async_trait::async_trait;

use crate::model::access::{Access, Denied};
use crate::model::principal::Principal;
use crate::schema::grant::Grant;
use crate::schema::reads::Reads;

/// Decides who may do what. The engine asks it for every request and every subscription.
///
/// Short rules that need not wait are closures: see [`Collection::authorize_fn`](crate::Collection::authorize_fn).
///
/// ```
/// use fieldsync::{Access, Authorizer, Denied, Grant, Principal, View};
///
/// #[derive(Debug)]
/// struct StaffEdits;
///
/// #[fieldsync::async_trait]
/// impl Authorizer for StaffEdits {
///     async fn authorize(&self, principal: &Principal, access: Access, _collection: &str) -> Result<Grant, Denied> {
///         match (principal.name(), access) {
///             (Some("staff"), _) => Ok(Grant::full()),
///             (_, Access::Read) => Ok(Grant::full().with_view(View::only(["first_name"]))),
///             (_, Access::Create | Access::Update | Access::Delete) => Err(Denied::Forbidden),
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait Authorizer: fmt::Debug + Send + Sync + 'static {
    /// Grants this access to this collection, or denies it.
    ///
    /// The authorizer does not see the record. A rule about records is part of the grant
    /// ([`Grant::with_rows`]), and is applied to the current row inside the transaction. The future may be dropped
    /// before it completes, when the request is cancelled or takes too long.
    async fn authorize(
        &self,
        principal: &Principal,
        access: Access,
        collection: &str,
    ) -> Result<Grant, Denied>;

    /// What the authorizer reads to decide: the engine wants to know when it starts. A change of these collections asks it again for the
    /// subscriptions that are open, which receive nothing until it has answered.
    fn reads(&self) -> Vec<Reads> {
        Vec::new()
    }
}

/// The authorizer of [`Collection::open_to_everyone`](crate::Collection::open_to_everyone).
#[derive(Debug)]
pub(crate) struct OpenToEveryone;

#[async_trait]
impl Authorizer for OpenToEveryone {
    async fn authorize(&self, _: &Principal, _: Access, _: &str) -> Result<Grant, Denied> {
        Ok(Grant::full())
    }
}

/// An authorizer that is a closure.
pub(crate) struct AuthorizeFn<F>(pub(crate) F);

#[async_trait]
impl<F> Authorizer for AuthorizeFn<F>
where
    F: Fn(&Principal, Access) -> Result<Grant, Denied> + Send + Sync + 'static,
{
    async fn authorize(
        &self,
        principal: &Principal,
        access: Access,
        _: &str,
    ) -> Result<Grant, Denied> {
        (self.0)(principal, access)
    }
}

impl<F> fmt::Debug for AuthorizeFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorizeFn")
    }
}
