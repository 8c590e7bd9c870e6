//! Asks the app's rules, and limits how many questions may be open at a time.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::engine::memberships::Memberships;
use crate::engine::permissions::Permissions;
use crate::metrics::Limit;
use crate::model::access::{Access, Denied};
use crate::model::principal::Principal;
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;

/// How many questions about a collection may be open at a time: far more than a rule that answers has open, while a rule that hangs
/// does not fill the memory with those who wait for it.
const MAX_OPEN: usize = 1000;

/// The open questions about each collection.
#[derive(Debug)]
pub(crate) struct Asks(HashMap<Arc<str>, Semaphore>);

impl Asks {
    pub(crate) fn about<'a>(collections: impl IntoIterator<Item = &'a Arc<str>>) -> Self {
        let open = |name: &Arc<str>| (Arc::clone(name), Semaphore::new(MAX_OPEN));
        Self(collections.into_iter().map(open).collect())
    }

    /// Opens a question until the permit is dropped, or refuses to.
    pub(crate) fn try_open(&self, collection: &str) -> Result<SemaphorePermit<'_>, Refusal> {
        let too_many = |_| {
            Limit::OpenQuestions.reached();
            Denied::unavailable("too many requests wait for the authorizer")
        };
        Ok(self.of(collection)?.try_acquire().map_err(too_many)?)
    }

    /// Opens a question when it can be.
    pub(crate) async fn open(&self, collection: &str) -> Result<SemaphorePermit<'_>, Refusal> {
        let opened = self.of(collection)?.acquire().await;
        Ok(opened.expect("the semaphore is not closed"))
    }

    /// The number of open questions about a collection.
    pub(crate) fn open_about(&self, collection: &str) -> usize {
        let open = self.0.get(collection);
        open.map_or(0, |open| MAX_OPEN - open.available_permits())
    }

    fn of(&self, collection: &str) -> Result<&Semaphore, Refusal> {
        let unknown = || Refusal::NoSuchCollection(collection.into());
        self.0.get(collection).ok_or_else(unknown)
    }
}

/// Asks a collection's authorizer what a principal may do, and what it may read.
pub(crate) async fn permissions(
    collection: Arc<Collection>,
    principal: &Principal,
    access: Access,
    memberships: Memberships<'_>,
) -> Result<Permissions, Refusal> {
    if access == Access::Read {
        let read = readable(&collection, principal, memberships).await?;
        return Ok(Permissions {
            collection,
            access: read.clone(),
            read,
            asked: None,
            limited_by: None,
        });
    }
    let granted = authorize(&collection, principal, access, memberships).await?;
    let read = readable_or_nothing(&collection, principal, memberships).await?;
    Ok(Permissions {
        collection,
        access: granted,
        read,
        asked: None,
        limited_by: None,
    })
}

/// Asks a collection's authorizer what a principal that writes may read, which may be nothing.
pub(crate) async fn readable_or_nothing(
    collection: &Collection,
    principal: &Principal,
    memberships: Memberships<'_>,
) -> Result<Grant, Refusal> {
    match authorize(collection, principal, Access::Read, memberships).await {
        Err(unavailable @ Refusal::Denied(Denied::Unavailable(_))) => Err(unavailable),
        granted => Ok(granted.unwrap_or_else(|_| Grant::invisible())),
    }
}

/// Asks a collection's authorizer what a principal may read.
pub(crate) async fn readable(
    collection: &Collection,
    principal: &Principal,
    memberships: Memberships<'_>,
) -> Result<Grant, Refusal> {
    let granted = authorize(collection, principal, Access::Read, memberships).await?;
    Ok(granted.for_reading())
}

/// Asks a collection's authorizer. An expired principal is granted nothing.
async fn authorize(
    collection: &Collection,
    principal: &Principal,
    access: Access,
    memberships: Memberships<'_>,
) -> Result<Grant, Refusal> {
    let name = collection.name();
    let Some(authorizer) = collection.authorizer() else {
        return Err(Denied::Forbidden.into());
    };
    match authorizer.authorize(principal, access, name).await {
        Err(Denied::Hidden) => Err(Refusal::NoSuchCollection(Arc::clone(name))),
        // Only who may know of the collection learns more than that it does not exist.
        _ if principal.is_expired() => Err(Denied::Expired.into()),
        granted => {
            let grant = memberships.resolve(granted?, collection).await?;
            let grant = grant.checked(collection);
            Ok(grant.map_err(|errors| {
                tracing::error!(collection = %name, %errors, "a rule's filter does not fit its collection: nothing is granted");
                Denied::unavailable(errors)
            })?)
        }
    }
}
