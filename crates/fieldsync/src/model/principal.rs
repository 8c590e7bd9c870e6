//! The principal: who makes a request.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Who makes a request. The app puts it into the request's extensions, and the adapters take it from there. A request
/// without one is made by [`Principal::anonymous`].
///
/// Besides a name, a principal carries whatever the app's rules need to know about it: claims of a token, a row of the
/// app's user table. Claims are shared, so a clone is cheap.
///
/// The app makes a principal whenever it has checked a credential. What the principal opens (sockets, event streams,
/// subscriptions) ends when the credential [expires](Self::expires_at), and when the principal or its
/// [session](Self::session) is [revoked](crate::Engine::revoke).
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use fieldsync::Principal;
///
/// struct Claims { admin: bool }
///
/// let ada = Principal::named("ada")
///     .session("ada's telephone")
///     .expires_at(SystemTime::now() + Duration::from_secs(3600))
///     .with(Claims { admin: true });
/// assert_eq!(ada.name(), Some("ada"));
/// assert!(ada.get::<Claims>().is_some_and(|claims| claims.admin));
/// assert!(!ada.is_expired());
/// ```
#[derive(Clone)]
pub struct Principal {
    name: Option<Arc<str>>,
    session: Option<Arc<str>>,
    limit_key: Option<Arc<str>>,
    expires_at: Option<SystemTime>,
    /// When the app began to check the credential.
    checked_at: Instant,
    /// One value per type. Most principals have none or one.
    claims: Option<Arc<[Claim]>>,
}

/// A principal as its limits count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LimitedBy(pub(crate) u64);

type Claim = (TypeId, Arc<dyn Any + Send + Sync>);

impl Principal {
    /// A principal that has not been identified.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            name: None,
            session: None,
            limit_key: None,
            expires_at: None,
            checked_at: Instant::now(),
            claims: None,
        }
    }

    /// The principal with this name. Two principals with the same name are the same to fieldsync: they share
    /// idempotency keys and [limits](crate::Limits).
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: Some(name.into()),
            ..Self::anonymous()
        }
    }

    /// Names the session, a login on one device, so that [`Engine::revoke_session`](crate::Engine::revoke_session) can end what
    /// it has opened. No two sessions may have the same id, also if they are of different principals.
    ///
    /// The id should not be the credential itself.
    #[must_use]
    pub fn session(self, id: impl Into<Arc<str>>) -> Self {
        Self {
            session: Some(id.into()),
            ..self
        }
    }

    /// Says by what the [limits](crate::Limits) of the principal count, in place of its name: for an anonymous one its address, for others
    /// perhaps the organization that they share limits with. The address must be one that the client can't choose: that of the connection, or
    /// what a proxy of the app's own says. Of an IPv6 address take the first 64 bits, since one client has all the rest.
    ///
    /// ```
    /// use fieldsync::Principal;
    ///
    /// let visitor = Principal::anonymous().limit_key("192.0.2.1");
    /// # let _ = visitor;
    /// ```
    #[must_use]
    pub fn limit_key(self, key: impl Into<Arc<str>>) -> Self {
        Self {
            limit_key: Some(key.into()),
            ..self
        }
    }

    /// Sets the time at which the credential expires: a [`SystemTime`], or a [`Timestamp`](crate::Timestamp). From then on the
    /// principal may do nothing: sockets are closed with 4401, event streams and subscriptions end, and requests are answered
    /// with 401.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    ///
    /// use fieldsync::Principal;
    ///
    /// let exp = 1_000_000_000; // the claim of a JSON Web Token
    /// let ada = Principal::named("ada").expires_at(UNIX_EPOCH + Duration::from_secs(exp));
    /// assert!(ada.is_expired());
    /// ```
    #[must_use]
    pub fn expires_at(self, time: impl Into<SystemTime>) -> Self {
        Self {
            expires_at: Some(time.into()),
            ..self
        }
    }

    /// Says when the app began to check the credential. A revocation since then ends what the principal opens. By default that is
    /// when the principal was made, which is too late if a revocation can overtake the check, and too early for a principal
    /// that the app keeps between requests: for a minute after a revocation it could open nothing.
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// use std::time::Instant;
    ///
    /// use fieldsync::Principal;
    ///
    /// fn principal(sessions: &HashMap<String, Principal>, id: &str) -> Option<Principal> {
    ///     let began = Instant::now();
    ///     Some(sessions.get(id)?.clone().checked_at(began))
    /// }
    /// ```
    #[must_use]
    pub fn checked_at(self, began: Instant) -> Self {
        Self {
            checked_at: began,
            ..self
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
            claims: Some(others.chain([added]).collect()),
            ..self
        }
    }

    /// The name, unless the principal is anonymous.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The id of the session, if the app has given one.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Whether the credential has expired by now.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|at| at <= SystemTime::now())
    }

    /// Whether the app has made both alike: a rule can't tell them apart.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let claims = match (&self.claims, &other.claims) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        claims
            && self.name == other.name
            && self.session == other.session
            && self.expires_at == other.expires_at
    }

    /// By what the limits of the principal count: whether it is a name, and the text. `None` if nothing tells it from others.
    pub(crate) fn counted_by(&self) -> Option<(bool, &str)> {
        let key = self.limit_key.as_deref().map(|key| (false, key));
        key.or_else(|| self.name().map(|name| (true, name)))
    }

    pub(crate) fn expiry(&self) -> Option<SystemTime> {
        self.expires_at
    }

    pub(crate) fn was_checked_at(&self) -> Instant {
        self.checked_at
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

impl Default for Principal {
    fn default() -> Self {
        Self::anonymous()
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
