//! The principal: who makes a request.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

/// Who makes a request. The app puts it into the request's extensions, and the adapters take it from there. A request
/// without one is made by [`Principal::anonymous`].
///
/// Besides a name, a principal carries whatever the app's rules need to know about it: claims of a token, a row of the
/// app's user table. Claims are shared, so a clone is cheap.
///
/// ```
/// use fieldsync::Principal;
///
/// struct Claims { admin: bool }
///
/// let ada = Principal::named("ada").with(Claims { admin: true });
/// assert_eq!(ada.name(), Some("ada"));
/// assert!(ada.get::<Claims>().is_some_and(|claims| claims.admin));
/// ```
#[derive(Clone, Default)]
pub struct Principal {
    name: Option<Arc<str>>,
    /// One value per type. Most principals have none or one.
    claims: Option<Arc<[Claim]>>,
}

type Claim = (TypeId, Arc<dyn Any + Send + Sync>);

impl Principal {
    /// A principal that has not been identified.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// The principal with this name. Two principals with the same name are the same to fieldsync: they share
    /// idempotency keys.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: Some(name.into()),
            claims: None,
        }
    }

    /// Adds claims of the app's own type. Claims of the same type that were added before are replaced.
    ///
    /// Claims do not identify a principal: principals without a name share their idempotency keys, whatever they claim.
    #[must_use]
    pub fn with<T: Send + Sync + 'static>(self, claims: T) -> Self {
        let kind = TypeId::of::<T>();
        let others = self.claims.iter().flat_map(|claims| claims.iter());
        let others = others.filter(|(other, _)| *other != kind).cloned();
        let added: Claim = (kind, Arc::new(claims));
        Self {
            name: self.name,
            claims: Some(others.chain([added]).collect()),
        }
    }

    /// The name, unless the principal is anonymous.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The claims of this type, if the app added any.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        let kind = TypeId::of::<T>();
        let claims = self.claims.as_ref()?.iter();
        let (_, claims) = claims.into_iter().find(|(other, _)| *other == kind)?;
        claims.downcast_ref()
    }
}

/// Shows the name alone: claims may be secret.
impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Principal").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_one_type_replace_each_other_and_leave_others_alone() {
        let principal = Principal::named("ada").with(1_u8).with("text").with(2_u8);
        assert_eq!(principal.get::<u8>(), Some(&2));
        assert_eq!(principal.get::<&str>(), Some(&"text"));
        assert_eq!(principal.get::<u16>(), None);
    }
}
