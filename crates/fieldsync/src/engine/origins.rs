//! The origins of pages that may open sockets (RFC 6454).

use std::fmt;
use std::sync::Arc;

use ::http::uri::Authority;

/// The origin of a page, as a browser sends it. The host is in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

/// What the app allows besides the server's own origin.
#[derive(Clone, Default)]
pub(crate) struct Origins {
    allowed: Vec<Allowed>,
    also: Vec<Arc<AllowsFn>>,
    /// The first text that is no origin.
    pub(crate) fault: Option<String>,
}

type AllowsFn = dyn Fn(&str) -> bool + Send + Sync;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    One(Origin),
    /// `https://*.example.com`: the hosts that end with this one, at any depth.
    Below(Origin),
    /// `null`: pages from files, data URLs and sandboxed frames.
    Null,
}

impl Origin {
    /// Parses `scheme://host[:port]`. A port that is the scheme's own is left out.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|one: char| one.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = host_and_port(authority, &scheme)?;
        Some(Self { scheme, host, port })
    }

    /// Whether this is an origin of the server itself: a web page at this authority, whatever serves it. `scheme`: that of the
    /// request, where it is known.
    pub(crate) fn is_at(&self, authority: &str, scheme: Option<&str>) -> bool {
        matches!(&*self.scheme, "http" | "https")
            && scheme.is_none_or(|scheme| scheme.eq_ignore_ascii_case(&self.scheme))
            && host_and_port(authority, &self.scheme)
                .is_some_and(|(host, port)| host == self.host && port == self.port)
    }
}

/// The host in lower case, and the port unless it is the default of the scheme.
fn host_and_port(authority: &str, scheme: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = authority.parse().ok()?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return None;
    }
    let default = match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    };
    let port = match authority.port() {
        Some(port) => Some(port.as_u16()),
        // `example.com:` and `example.com:99999` are no authorities with a port.
        None if authority.as_str().len() > authority.host().len() => return None,
        None => None,
    };
    Some((
        authority.host().to_ascii_lowercase(),
        port.filter(|port| Some(*port) != default),
    ))
}

impl Origins {
    pub(crate) fn allow(&mut self, text: &str) {
        let below = |(scheme, rest): (&str, &str)| {
            let host = rest.strip_prefix("*.").filter(|host| host.contains('.'))?;
            Origin::parse(&format!("{scheme}://{host}")).map(Allowed::Below)
        };
        let allowed = match text {
            "null" => Some(Allowed::Null),
            text if text.contains('*') => text.split_once("://").and_then(below),
            text => Origin::parse(text).map(Allowed::One),
        };
        match allowed {
            Some(allowed) => self.allowed.push(allowed),
            None => drop(self.fault.get_or_insert_with(|| text.to_owned())),
        }
    }

    pub(crate) fn allow_if(&mut self, allows: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.also.push(Arc::new(allows));
    }

    /// Whether the app allows an origin, as a browser sends it.
    pub(crate) fn allows(&self, text: &str) -> bool {
        let origin = Origin::parse(text);
        let is_allowed = |allowed: &Allowed| match (allowed, &origin) {
            (Allowed::Null, _) => text == "null",
            (Allowed::One(allowed), Some(origin)) => allowed == origin,
            (Allowed::Below(parent), Some(origin)) => {
                let above = origin.host.strip_suffix(&*parent.host);
                above.is_some_and(|above| above.len() > 1 && above.ends_with('.'))
                    && (&parent.scheme, parent.port) == (&origin.scheme, origin.port)
            }
            (_, None) => false,
        };
        self.allowed.iter().any(is_allowed) || self.also.iter().any(|allows| allows(text))
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.allowed).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_allowed_as_people_write_them() {
        for (allowed, yes, no) in [
            (
                "https://app.example",
                &[
                    "https://app.example",
                    "https://app.example:443",
                    "HTTPS://App.Example",
                ][..],
                &[
                    "http://app.example",
                    "https://app.example:8443",
                    "https://www.app.example",
                    "null",
                    "app.example",
                ][..],
            ),
            (
                "http://localhost:3000",
                &["http://localhost:3000"],
                &["http://localhost", "https://localhost:3000"],
            ),
            (
                "http://[::1]:3000",
                &["http://[::1]:3000"],
                &["http://[::2]:3000"],
            ),
            (
                "capacitor://localhost",
                &["capacitor://localhost"],
                &["https://localhost", "capacitor://localhost:1"],
            ),
            (
                "tauri://localhost",
                &["tauri://localhost"],
                &["http://localhost"],
            ),
            (
                "chrome-extension://abcdefgh",
                &["chrome-extension://abcdefgh"],
                &["chrome-extension://abcdefgi"],
            ),
            ("null", &["null"], &["https://null", ""]),
            (
                "https://*.example.com",
                &[
                    "https://a.example.com",
                    "https://a.b.example.com",
                    "https://a.example.com:443",
                ],
                &[
                    "https://example.com",
                    "https://evilexample.com",
                    "https://.example.com",
                    "http://a.example.com",
                    "https://a.example.com.evil",
                    "https://a.example.com:8443",
                ],
            ),
        ] {
            let mut origins = Origins::default();
            origins.allow(allowed);
            assert_eq!(origins.fault, None, "{allowed}");
            for origin in yes {
                assert!(origins.allows(origin), "{allowed}: {origin}");
            }
            for origin in no {
                assert!(!origins.allows(origin), "{allowed}: {origin}");
            }
        }
    }

    #[test]
    fn what_is_no_origin_is_a_fault() {
        for text in [
            "",
            "app.example",
            "https://",
            "https://a b",
            "https://a/b",
            "https://u@a",
            "*",
            "https://*",
            "https://*.com",
            "https://a.*.com",
            "https://a:",
            "://a",
            "1a://b",
        ] {
            let mut origins = Origins::default();
            origins.allow(text);
            assert_eq!(origins.fault.as_deref(), Some(text));
        }
    }

    #[test]
    fn a_default_port_may_be_left_out() {
        for (origin, host, scheme, expected) in [
            ("https://app.example", "app.example:443", None, true),
            ("https://app.example", "APP.example", None, true),
            ("http://app.example", "app.example:80", None, true),
            ("http://app.example:80", "app.example", None, true),
            ("https://app.example", "app.example:80", None, false),
            ("http://app.example", "app.example:8000", None, false),
            ("http://app.example", "app.example", Some("https"), false),
            ("https://app.example", "app.example", Some("https"), true),
            ("capacitor://app.example", "app.example", None, false),
            (
                "https://app.example",
                "app.example@evil.example",
                None,
                false,
            ),
        ] {
            let is_own = Origin::parse(origin).unwrap().is_at(host, scheme);
            assert_eq!(is_own, expected, "{origin} {host}");
        }
    }
}
