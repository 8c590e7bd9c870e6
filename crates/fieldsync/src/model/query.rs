//! The query of a list or of a topic: which records of a collection are asked for, and which of their fields.

use std::fmt;

use crate::model::field_errors::FieldErrors;
use crate::model::filter::{Condition, Filter};
use crate::model::filter_text::{Column, read_columns, read_filter};
use crate::model::percent::{decode_parameter, percent_encode};

/// The largest query, in bytes.
const MAX_QUERY_BYTES: usize = 4096;

/// Names that are not those of fields. A field with such a name is quoted.
const RESERVED: [&str; 10] = [
    "select",
    "order",
    "limit",
    "after",
    "since",
    "resume",
    "topic",
    "offset",
    "columns",
    "on_conflict",
];

/// Which records are asked for, and which of their fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Query {
    /// All records without it.
    pub(crate) filter: Option<Filter>,
    /// All fields without it.
    pub(crate) select: Option<Vec<String>>,
}

impl Query {
    /// Reads the query of a URL. The parameters with these names are left to the caller. The errors name the parameters at fault.
    pub(crate) fn read(text: &str, others: &[&str]) -> Result<Self, FieldErrors> {
        let bad = |name: &str, message: &str| FieldErrors::one(name, message);
        if text.len() > MAX_QUERY_BYTES {
            let message = format!("the query has more than {MAX_QUERY_BYTES} bytes");
            return Err(bad("", &message));
        }
        let not_encoded = "must be percent-encoded UTF-8";
        let (mut query, mut filters) = (Self::default(), Vec::new());
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode_parameter(name).ok_or_else(|| bad(name, not_encoded))?;
            if others.contains(&&*name) {
                continue;
            }
            let value = decode_parameter(value).ok_or_else(|| bad(&name, not_encoded))?;
            match &*name {
                "select" if query.select.is_some() => {
                    return Err(bad(&name, "must be given only once"));
                }
                "select" => {
                    let columns = read_columns(&value);
                    query.select = Some(columns.map_err(|message| bad(&name, &message))?);
                }
                reserved if RESERVED.contains(&reserved) => {
                    let message = "is not a parameter here; if it is a field, quote it: \"…\"";
                    return Err(bad(&name, message));
                }
                _ => filters.push((name, value)),
            }
        }
        let filters = filters.iter().map(|(name, value)| (&**name, &**value));
        query.filter = read_filter(filters).map_err(|(name, message)| bad(&name, &message))?;
        Ok(query)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filter.is_none() && self.select.is_none()
    }
}

/// The text of the query, as it stands in a URL.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let all = match &self.filter {
            None => &[][..],
            // An `and` of the whole is what several parameters are.
            Some(Filter(Condition::And(all))) => all,
            Some(Filter(one)) => std::slice::from_ref(one),
        };
        // A group is a parameter of its own, so that it is not one level deeper than it was read.
        for part in all {
            let text = Filter(part.clone()).to_string();
            let (name, value) = match text.split_once('(') {
                Some((name @ ("and" | "or" | "not.and" | "not.or"), _)) => {
                    (name, &text[name.len()..])
                }
                _ => ("and", &*format!("({text})")),
            };
            write!(f, "{separator}{name}={}", percent_encode(value))?;
            separator = "&";
        }
        if let Some(select) = &self.select {
            let columns: Vec<_> = select.iter().map(|name| Column(name).to_string()).collect();
            write!(
                f,
                "{separator}select={}",
                percent_encode(&columns.join(","))
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let query = Query::read(text, &["limit"]).unwrap();
        let written = query.to_string();
        assert_eq!(decode_parameter(&written).as_deref(), Some(expected));
        let filter = |query: &Query| query.filter.as_ref().map(Filter::to_string);
        let again = Query::read(&written, &[]).unwrap();
        assert_eq!(again.select, query.select);
        assert_eq!(filter(&again).is_some(), filter(&query).is_some());
    }

    #[track_caller]
    fn check_bad(text: &str, name: &str, message: &str) {
        let errors = Query::read(text, &["limit"]).unwrap_err();
        let messages = errors.get(name);
        assert!(
            messages.iter().any(|one| one.contains(message)),
            "{text}: {errors}"
        );
    }

    #[test]
    fn queries_are_read_and_written() {
        check("", "");
        check("&&limit=7&", "");
        check("project_id=eq.5", "and=(project_id.eq.5)");
        check(
            "project_id=eq.5&status=in.(open,late)",
            "and=(project_id.eq.5)&and=(status.in.(open,late))",
        );
        check("title=eq.a%26b+c", "and=(title.eq.a&b c)");
        check("or=(a.eq.1,b.eq.2)", "or=(a.eq.1,b.eq.2)");
        check("not.and=(a.eq.1,b.eq.2)", "not.and=(a.eq.1,b.eq.2)");
        check("select=title,\"a,b\"", "select=title,\"a,b\"");
        check("%22select%22=eq.1", "and=(select.eq.1)");
    }

    #[test]
    fn bad_parameters_are_named() {
        check_bad("since=x", "since", "is not a parameter here");
        check_bad("order=title", "order", "is not a parameter here");
        check_bad("title=eq.%ff", "title", "percent-encoded");
        check_bad("%zz=eq.1", "%zz", "percent-encoded");
        check_bad("title", "title", "must be an operator");
        check_bad("select=a&select=b", "select", "only once");
        check_bad("select=", "select", "the name of a field is missing");
        check_bad("select=a,", "select", "the name of a field is missing");
        check_bad("select=a.b", "select", "\".b\"");
        check_bad(&format!("title=eq.{}", "x".repeat(5000)), "", "4096 bytes");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z=&().,%\"\\\\ ]{0,40}|\\PC{0,40}") {
            if let Ok(query) = Query::read(&text, &[]) {
                let again = Query::read(&query.to_string(), &[]).unwrap();
                prop_assert_eq!(again.to_string(), query.to_string());
            }
        }
    }
}
