//! A request with everything that answering it needs, and its query parameters.

use std::time::Instant;

use ::http::request::Parts;

use crate::engine::caller::Caller;
use crate::engine::engine::Engine;
use crate::http::reply::Rejection;
use crate::model::percent::decode_parameter;
use crate::model::query::Query;

/// The path under which the app mounted the REST routes: `/api`, or nothing. It is not decoded.
///
/// A router removes it from the request's URI, but `Location` and `Link` start with it, so an adapter puts it into the
/// request's extensions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountPath(String);

impl MountPath {
    /// This path.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// What a router removed from the front of `original` to get `path`; nothing if `original` does not end with `path`.
    ///
    /// ```
    /// use fieldsync::adapter::MountPath;
    ///
    /// assert_eq!(MountPath::removed_from("/api/users/", "/users/"), MountPath::new("/api"));
    /// ```
    #[must_use]
    pub fn removed_from(original: &str, path: &str) -> Self {
        Self::new(original.strip_suffix(path).unwrap_or_default())
    }

    /// This path after one that was removed before, unless it begins with that.
    #[must_use]
    pub fn below(self, outer: &Self) -> Self {
        if self.0.starts_with(&outer.0) {
            self
        } else {
            Self(format!("{}{}", outer.0, self.0))
        }
    }
}

/// How an app may receive a token from a page's `EventSource`, which sends no headers (RFC 6750, section 2.3).
const ACCESS_TOKEN: &str = "access_token";

/// A request that is being answered.
pub(crate) struct Request<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) caller: &'a Caller<'a>,
    pub(crate) parts: &'a Parts,
    pub(crate) arrived: Instant,
}

impl Request<'_> {
    /// The path that `Location` and `Link` start with.
    pub(crate) fn mount_path(&self) -> &str {
        let mount_path = self.parts.extensions.get::<MountPath>();
        mount_path.map_or("", |MountPath(path)| path)
    }

    /// The query, but for the parameters with these names, and the app's own.
    pub(crate) fn query(&self, others: &[&str]) -> Result<Query, Rejection> {
        let text = self.parts.uri.query().unwrap_or_default();
        let others = [others, &[ACCESS_TOKEN]].concat();
        Query::read(text, &others).map_err(Rejection::bad_query)
    }

    /// The decoded value of a query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Result<Option<String>, Rejection> {
        let mut values = self.parameters(name)?;
        if values.len() > 1 {
            return Err(Rejection::malformed(name, "must be given only once"));
        }
        Ok(values.pop())
    }

    /// The decoded values of a query parameter that may be repeated.
    pub(crate) fn parameters(&self, name: &str) -> Result<Vec<String>, Rejection> {
        let pairs = self.parts.uri.query().into_iter();
        let pairs = pairs.flat_map(|query| query.split('&'));
        let values = pairs.filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_parameter(key).as_deref() == Some(name)).then_some(value)
        });
        let malformed = || Rejection::malformed(name, "must be percent-encoded UTF-8");
        values
            .map(|value| decode_parameter(value).ok_or_else(malformed))
            .collect()
    }
}
