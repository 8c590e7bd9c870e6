//! What a JSON Schema demands of a value beside its type: lengths, patterns, formats.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use regex_lite::Regex;
use serde_json::{Map, Value, json};

use crate::model::canonical::CanonicalHasher;

/// A demand on a value of the right type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Check {
    /// The least number of Unicode code points of a text.
    MinLength(usize),
    Pattern(Pattern),
    Format(TextFormat),
    /// A number must be more than this.
    Above(f64),
    /// A number must be less than this.
    Below(f64),
    /// A number must be one of these.
    OneOf(Vec<Value>),
    /// The least number of items of an array.
    MinItems(usize),
    /// The greatest number of items of an array.
    MaxItems(usize),
    UniqueItems,
}

/// A format of text that is no type of its own in a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextFormat {
    Email,
    Uri,
    Ip,
    Ipv4,
    Ipv6,
}

/// A regular expression, as in `pattern` of JSON Schema: it may match anywhere in a text.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// Reads the keywords of a schema. `format` is read where the type is.
pub(crate) fn read(schema: &Map<String, Value>, keywords: &[&str]) -> Result<Vec<Check>, String> {
    let mut checks = Vec::new();
    for keyword in keywords {
        let Some(value) = schema.get(*keyword) else {
            continue;
        };
        let count = || {
            let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
            count.ok_or_else(|| format!("{keyword} is not a whole number"))
        };
        let number = || {
            value
                .as_f64()
                .ok_or_else(|| format!("{keyword} is not a number"))
        };
        checks.push(match *keyword {
            "minLength" => Check::MinLength(count()?),
            "minItems" => Check::MinItems(count()?),
            "maxItems" => Check::MaxItems(count()?),
            "exclusiveMinimum" => Check::Above(number()?),
            "exclusiveMaximum" => Check::Below(number()?),
            "uniqueItems" if *value == json!(true) => Check::UniqueItems,
            "pattern" => {
                let text = value.as_str().ok_or("pattern is not a string")?;
                let regex =
                    Regex::new(text).map_err(|error| format!("pattern {text:?}: {error}"))?;
                Check::Pattern(Pattern(regex))
            }
            "enum" => {
                let values = value.as_array().ok_or("enum is not an array")?;
                let values = values.iter().filter(|value| !value.is_null());
                Check::OneOf(values.cloned().collect())
            }
            _ => continue,
        });
    }
    Ok(checks)
}

impl TextFormat {
    /// The format with a name of JSON Schema, or one that schemars gives.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "email" | "idn-email" => Self::Email,
            "uri" | "iri" => Self::Uri,
            "ip" => Self::Ip,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Uri => "uri",
            Self::Ip => "ip",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }

    fn check(self, text: &str) -> Result<(), &'static str> {
        let (fits, message) = match self {
            Self::Email => (is_email(text), "must be an e-mail address"),
            Self::Uri => (is_uri(text), "must be a URI such as https://example.com/"),
            Self::Ip => (text.parse::<IpAddr>().is_ok(), "must be an IP address"),
            Self::Ipv4 => (text.parse::<Ipv4Addr>().is_ok(), "must be an IPv4 address"),
            Self::Ipv6 => (text.parse::<Ipv6Addr>().is_ok(), "must be an IPv6 address"),
        };
        if fits { Ok(()) } else { Err(message) }
    }
}

impl Check {
    /// Checks a value that has passed the check of its type. The error is a message for the field.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        let text = value.as_str().unwrap_or_default();
        let number = value.as_f64().unwrap_or_default();
        let items = value.as_array().map_or(&[][..], Vec::as_slice);
        let (fits, message) = match self {
            Self::MinLength(1) => (!text.is_empty(), "must not be empty".to_owned()),
            Self::MinLength(min) => (
                text.chars().count() >= *min,
                format!("must have at least {min} characters"),
            ),
            Self::Pattern(Pattern(regex)) => (
                regex.is_match(text),
                format!("must match the pattern {}", regex.as_str()),
            ),
            Self::Format(format) => return Ok(format.check(text)?),
            Self::Above(limit) => (number > *limit, format!("must be more than {limit}")),
            Self::Below(limit) => (number < *limit, format!("must be less than {limit}")),
            Self::OneOf(values) => {
                let is_allowed = values.iter().any(|one| one.as_f64() == Some(number));
                let values: Vec<_> = values.iter().map(Value::to_string).collect();
                (is_allowed, format!("must be one of {}", values.join(", ")))
            }
            Self::MinItems(1) => (!items.is_empty(), "must not be empty".to_owned()),
            Self::MinItems(min) => (
                items.len() >= *min,
                format!("must have at least {min} items"),
            ),
            Self::MaxItems(max) => (
                items.len() <= *max,
                format!("must have at most {max} items"),
            ),
            Self::UniqueItems => {
                let is_repeated = |at: usize| items[..at].contains(&items[at]);
                let repeated = (0..items.len()).any(is_repeated);
                (!repeated, "must not contain an item twice".to_owned())
            }
        };
        if fits { Ok(()) } else { Err(message) }
    }

    /// Adds the keyword to a JSON Schema.
    pub(crate) fn describe(&self, schema: &mut Value) {
        let (keyword, value) = match self {
            Self::MinLength(min) => ("minLength", json!(min)),
            Self::Pattern(Pattern(regex)) => ("pattern", json!(regex.as_str())),
            Self::Format(format) => ("format", json!(format.name())),
            Self::Above(limit) => ("exclusiveMinimum", json!(limit)),
            Self::Below(limit) => ("exclusiveMaximum", json!(limit)),
            Self::OneOf(values) => ("enum", json!(values)),
            Self::MinItems(min) => ("minItems", json!(min)),
            Self::MaxItems(max) => ("maxItems", json!(max)),
            Self::UniqueItems => ("uniqueItems", json!(true)),
        };
        schema[keyword] = value;
    }

    /// Writes the check into the identity of its schema.
    pub(crate) fn identify(&self, hasher: &mut CanonicalHasher) {
        let mut keyword = json!({});
        self.describe(&mut keyword);
        hasher.json(&keyword);
    }
}

/// Something on both sides of the last `@`, without spaces, and a domain whose parts are not empty. More only a mail shows.
fn is_email(text: &str) -> bool {
    let is_plain = |text: &str| {
        !text
            .chars()
            .any(|one| one.is_whitespace() || one.is_control())
    };
    let is_label = |label: &str| {
        let fits = |one: char| one.is_alphanumeric() || one == '-' || !one.is_ascii();
        !label.is_empty()
            && label.chars().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.rsplit_once('@').is_some_and(|(local, domain)| {
        (1..=64).contains(&local.len())
            && is_plain(text)
            && !local.contains('@')
            && !local.starts_with('.')
            && !local.ends_with('.')
            && domain.len() <= 255
            && domain.split('.').all(is_label)
    })
}

/// A scheme, a colon, and characters that a URI may have (RFC 3986; RFC 3987 for others than ASCII).
fn is_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        let in_scheme = |one: char| one.is_ascii_alphanumeric() || "+-.".contains(one);
        let in_rest =
            |one: char| !one.is_whitespace() && !one.is_control() && !"<>\"{}|\\^`".contains(one);
        scheme.starts_with(|one: char| one.is_ascii_alphabetic())
            && scheme.chars().all(in_scheme)
            && !rest.is_empty()
            && rest.chars().all(in_rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_accept_what_people_write_and_nothing_else() {
        for (format, good, bad) in [
            (
                TextFormat::Email,
                &[
                    "ada@example.com",
                    "a.b+c@x.co.uk",
                    "ü@müller.de",
                    "o'hara@localhost",
                ][..],
                &[
                    "", "ada", "@x", "ada@", "a b@x.y", "a@b@c", "a@-x.y", "a@x..y", ".a@x.y",
                ][..],
            ),
            (
                TextFormat::Uri,
                &[
                    "https://example.com/?a=1#b",
                    "mailto:ada@example.com",
                    "urn:isbn:0",
                    "https://ü.de/",
                ],
                &["", "example.com", "//x", "1a:b", "https://a b", "x:"],
            ),
            (
                TextFormat::Ip,
                &["127.0.0.1", "::1"],
                &["", "127.0.0.256", "1.2.3", "::1/64"],
            ),
            (TextFormat::Ipv4, &["10.0.0.1"], &["::1"]),
            (TextFormat::Ipv6, &["fe80::1"], &["10.0.0.1"]),
        ] {
            for text in good {
                assert_eq!(format.check(text), Ok(()), "{text}");
            }
            for text in bad {
                assert!(format.check(text).is_err(), "{text}");
            }
        }
    }
}
