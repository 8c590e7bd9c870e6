//! The request headers that a write depends on: preconditions (RFC 9110, section 13.1) and the idempotency key.

use crate::cursor::Cursor;
use crate::edit::Precondition;
use crate::http::{Refused, RequestHead};

/// `If-Match`, by the strong comparison: weak tags match nothing.
pub(crate) fn if_match(head: &RequestHead) -> Result<Option<Precondition>, Refused> {
    Ok(match read(head, "if-match", "If-Match")? {
        None => None,
        Some(Tags::Any) => Some(Precondition::Exists),
        Some(Tags::These(tags)) => {
            let strong = tags.into_iter().filter(|(weak, _)| !weak);
            Some(Precondition::Matches(strong.map(|(_, tag)| tag).collect()))
        }
    })
}

/// `If-None-Match`, by the weak comparison: a weak tag matches the strong one.
pub(crate) fn if_none_match(head: &RequestHead) -> Result<Option<Precondition>, Refused> {
    Ok(match read(head, "if-none-match", "If-None-Match")? {
        None => None,
        Some(Tags::Any) => Some(Precondition::Absent),
        Some(Tags::These(tags)) => Some(Precondition::MatchesNone(
            tags.into_iter().map(|(_, tag)| tag).collect(),
        )),
    })
}

/// `Idempotency-Key`, a string with or without quotes.
pub(crate) fn idempotency_key(head: &RequestHead) -> Result<Option<String>, Refused> {
    let malformed = || {
        let detail = "Idempotency-Key must stand once and have 1 to 255 visible ASCII characters";
        Refused::new(400, "malformed", detail)
    };
    if !head
        .headers
        .iter()
        .any(|(name, _)| name == "idempotency-key")
    {
        return Ok(None);
    }
    let value = head.header("idempotency-key").ok_or_else(malformed)?;
    let text = std::str::from_utf8(value).map_err(|_| malformed())?.trim();
    let text = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    if text.is_empty() || text.len() > 255 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed());
    }
    Ok(Some(text.to_owned()))
}

/// `Fieldsync-Base`, a cursor.
pub(crate) fn base(head: &RequestHead) -> Result<Option<Cursor>, Refused> {
    if !head
        .headers
        .iter()
        .any(|(name, _)| name == "fieldsync-base")
    {
        return Ok(None);
    }
    let cursor = head
        .header("fieldsync-base")
        .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
    cursor.map(Some).ok_or_else(|| {
        Refused::new(
            400,
            "malformed",
            "Fieldsync-Base must be a cursor of this server",
        )
    })
}

enum Tags {
    Any,
    /// Whether each is weak, and the opaque tag with its quotes.
    These(Vec<(bool, String)>),
}

fn read(head: &RequestHead, name: &str, shown: &str) -> Result<Option<Tags>, Refused> {
    let Some(list) = head.list(name) else {
        return Ok(None);
    };
    let malformed = || {
        Refused::new(
            400,
            "malformed",
            format!("{shown} must be * or a list of entity tags"),
        )
    };
    let list = String::from_utf8(list).map_err(|_| malformed())?;
    if list.trim() == "*" {
        return Ok(Some(Tags::Any));
    }
    parse(&list)
        .filter(|tags| !tags.is_empty())
        .map(|tags| Some(Tags::These(tags)))
        .ok_or_else(malformed)
}

/// Reads `#entity-tag`; a tag may hold commas.
fn parse(list: &str) -> Option<Vec<(bool, String)>> {
    let mut tags = Vec::new();
    let mut rest = list.trim_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (weak, tag) = match rest.strip_prefix("W/") {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        let end = tag.strip_prefix('"')?.find('"')? + 2;
        let (tag, after) = tag.split_at(end);
        if !tag.bytes().all(|byte| byte > 0x20 && byte != 0x7f) {
            return None;
        }
        tags.push((weak, tag.to_owned()));
        let after = after.trim_start_matches([' ', '\t']);
        if !after.is_empty() && !after.starts_with(',') {
            return None;
        }
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
    Some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_are_read_to_the_letter() {
        let strong = |tag: &str| (false, tag.to_owned());
        assert_eq!(
            parse(r#""a", W/"b,c" , "d""#),
            Some(vec![
                strong("\"a\""),
                (true, "\"b,c\"".into()),
                strong("\"d\"")
            ])
        );
        assert_eq!(parse(r#", "a","#), Some(vec![strong("\"a\"")]));
        for text in ["a", "\"a", "\"a\" \"b\"", "w/\"a\"", "*, \"a\"", "\"a b\""] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
