//! The request headers that a write depends on: preconditions (RFC 9110, section 13.1), the idempotency key and the base.

use ::http::StatusCode;
use ::http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};

use crate::http::headers::{FIELDSYNC_BASE, IDEMPOTENCY_KEY, joined, only_value};
use crate::http::reply::Rejection;
use crate::http::request::Request;
use crate::model::cursor_seal::CursorError;
use crate::model::edit::Edit;
use crate::model::precondition::Precondition;

/// Puts what the headers say into the edit.
pub(crate) fn with_conditions(mut edit: Edit, request: &Request<'_>) -> Result<Edit, Rejection> {
    let headers = &request.parts.headers;
    let preconditions = [if_match(headers)?, if_none_match(headers)?];
    for precondition in preconditions.into_iter().flatten() {
        // A record that is being created has no entity tag yet.
        let holds_at_creation = edit.key().is_none()
            && matches!(
                precondition,
                Precondition::Absent | Precondition::MatchesNone(_)
            );
        if !holds_at_creation {
            edit = edit.with_precondition(precondition);
        }
    }
    if headers.contains_key(FIELDSYNC_BASE) {
        edit = with_base(edit, request)?;
    }
    Ok(match idempotency_key(headers)? {
        Some(key) => edit.with_idempotency_key(key),
        None => edit,
    })
}

/// `If-Match`. It uses the strong comparison, in which a weak tag matches nothing.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<Precondition>, Rejection> {
    Ok(match entity_tags(headers, IF_MATCH, "If-Match")? {
        None => None,
        Some(EntityTags::Any) => Some(Precondition::Exists),
        Some(EntityTags::List(tags)) => {
            let strong = tags.into_iter().filter(|(weak, _)| !weak);
            Some(Precondition::Matches(strong.map(|(_, tag)| tag).collect()))
        }
    })
}

/// `If-None-Match`. It uses the weak comparison, in which a weak tag matches the strong one.
pub(crate) fn if_none_match(headers: &HeaderMap) -> Result<Option<Precondition>, Rejection> {
    Ok(
        match entity_tags(headers, IF_NONE_MATCH, "If-None-Match")? {
            None => None,
            Some(EntityTags::Any) => Some(Precondition::Absent),
            Some(EntityTags::List(tags)) => Some(Precondition::MatchesNone(
                tags.into_iter().map(|(_, tag)| tag).collect(),
            )),
        },
    )
}

/// `Idempotency-Key`: text with or without quotes.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Rejection> {
    if !headers.contains_key(IDEMPOTENCY_KEY) {
        return Ok(None);
    }
    let text = only_text(headers, IDEMPOTENCY_KEY).map(|text| {
        let quoted = text.strip_prefix('"');
        let unquoted = quoted.and_then(|text| text.strip_suffix('"'));
        unquoted.unwrap_or(text)
    });
    let is_valid = |text: &&str| {
        (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match text.filter(is_valid) {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(malformed(
            "Idempotency-Key must be given once, as 1 to 255 visible ASCII characters",
        )),
    }
}

/// `Fieldsync-Base`: a cursor of the collection. One that can't be opened is a base that the log does not have.
fn with_base(edit: Edit, request: &Request<'_>) -> Result<Edit, Rejection> {
    let text = only_text(&request.parts.headers, FIELDSYNC_BASE).unwrap_or_default();
    match request.engine.open_cursor(edit.collection(), text) {
        Ok(base) => Ok(edit.with_base(base)),
        Err(CursorError::Key) => Ok(edit.with_unknown_base()),
        Err(CursorError::Malformed) => Err(malformed(
            "Fieldsync-Base must be given once, as a cursor from this server",
        )),
    }
}

fn malformed(detail: &str) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, "malformed", detail)
}

/// The value of a header that the request has exactly once, without white space around it.
fn only_text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let value = only_value(headers, name)?;
    Some(std::str::from_utf8(value.as_bytes()).ok()?.trim())
}

enum EntityTags {
    Any,
    /// For each, whether it is weak, and the opaque tag with its quotes.
    List(Vec<(bool, String)>),
}

fn entity_tags(
    headers: &HeaderMap,
    name: HeaderName,
    shown_name: &str,
) -> Result<Option<EntityTags>, Rejection> {
    let Some(list) = joined(headers, name) else {
        return Ok(None);
    };
    let refuse = || malformed(&format!("{shown_name} must be * or a list of entity tags"));
    let list = String::from_utf8(list).map_err(|_| refuse())?;
    if list.trim() == "*" {
        return Ok(Some(EntityTags::Any));
    }
    parse(&list)
        .filter(|tags| !tags.is_empty())
        .map(|tags| Some(EntityTags::List(tags)))
        .ok_or_else(refuse)
}

/// Parses `#entity-tag`. A tag may contain commas.
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
