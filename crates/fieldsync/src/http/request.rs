//! A request with everything that answering it needs, and its query parameters.

use std::time::Instant;

use ::http::request::Parts;

use crate::engine::caller::Caller;
use crate::engine::engine::Engine;
use crate::http::reply::Rejection;

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
        // As forms and `URLSearchParams` encode it, a plus is a space.
        let decode = |text: &str| percent_decode(&text.replace('+', " "));
        let values = pairs.filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key).as_deref() == Some(name)).then_some(value)
        });
        let malformed = || Rejection::malformed(name, "must be percent-encoded UTF-8");
        values
            .map(|value| decode(value).ok_or_else(malformed))
            .collect()
    }
}

/// Decodes percent-encoding (RFC 3986, section 2.1). `None` if the encoding is invalid or the result is not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(
                u8::from_str_radix(digits, 16)
                    .ok()
                    .filter(|_| !digits.starts_with('+'))?,
            );
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Encodes a text as a segment of a path, or as the value of a query parameter (RFC 3986, sections 2.1 and 2.3). Commas stay.
pub(crate) fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b',' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        assert_eq!(percent_decode("a%2Fb").as_deref(), Some("a/b"));
        assert_eq!(percent_decode("%2531").as_deref(), Some("%31"));
        for text in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(percent_decode(text), None, "{text}");
        }
    }
}
