//! The query of a list or of a topic: which records of a collection are asked for, which of their fields, and in which order.

use std::fmt;

use crate::model::field_errors::FieldErrors;
use crate::model::filter::{Condition, Filter};
use crate::model::filter_text::{Column, read_columns, read_filter, read_order};
use crate::model::order::Order;
use crate::model::percent::{decode_parameter, percent_encode};

/// The largest query, in bytes.
const MAX_QUERY_BYTES: usize = 4096;

/// The most records of a window.
pub(crate) const MAX_WINDOW: usize = 1000;

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

/// Which records are asked for, which of their fields, and in which order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Query {
    /// All records without it.
    pub(crate) filter: Option<Filter>,
    /// All fields without it.
    pub(crate) select: Option<Vec<String>>,
    /// The order of the records. By their ids where it says nothing more.
    pub(crate) order: Vec<Order>,
    /// Only the first records, this many. All of them without it.
    pub(crate) window: Option<usize>,
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
                "order" if !query.order.is_empty() => {
                    return Err(bad(&name, "must be given only once"));
                }
                "order" => {
                    query.order = read_order(&value).map_err(|message| bad(&name, &message))?;
                }
                "limit" if query.window.is_some() => {
                    return Err(bad(&name, "must be given only once"));
                }
                "limit" => {
                    let window = read_window(&value);
                    query.window = Some(window.map_err(|message| bad(&name, &message))?);
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

    /// Refuses what can't be asked of one record.
    pub(crate) fn check_of_record(&self) -> Result<(), FieldErrors> {
        let name = match self.window {
            Some(_) => "limit",
            None if self.order.is_empty() => return Ok(()),
            None => "order",
        };
        Err(FieldErrors::one(name, "is for several records"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads the number of records of a window, or of a page.
pub(crate) fn read_window(text: &str) -> Result<usize, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number);
    let window = number.filter(|window| (1..=MAX_WINDOW).contains(window));
    window.ok_or_else(|| format!("must be an integer from 1 to {MAX_WINDOW}"))
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
            separator = "&";
        }
        if !self.order.is_empty() {
            let terms: Vec<_> = self.order.iter().map(Order::to_string).collect();
            write!(f, "{separator}order={}", percent_encode(&terms.join(",")))?;
            separator = "&";
        }
        if let Some(window) = self.window {
            write!(f, "{separator}limit={window}")?;
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
        let again = Query::read(&written, &["limit"]).unwrap();
        assert_eq!(again.select, query.select);
        assert_eq!((&again.order, again.window), (&query.order, query.window));
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
        check("order=a.asc,b.desc", "order=a,b.desc");
        check(
            "order=a.nullsfirst,b.desc.nullslast,\"a.b\".desc.nullsfirst",
            "order=a.nullsfirst,b.desc.nullslast,\"a.b\".desc",
        );
    }

    #[test]
    fn bad_parameters_are_named() {
        check_bad("since=x", "since", "is not a parameter here");
        check_bad("order=", "order", "the name of a field is missing");
        check_bad("order=title.up", "order", "\".up\" after its end");
        check_bad("order=a,a.desc", "order", "has \"a\" twice");
        check_bad("order=a&order=b", "order", "only once");
        check_bad("title=eq.%ff", "title", "percent-encoded");
        check_bad("%zz=eq.1", "%zz", "percent-encoded");
        check_bad("title", "title", "must be an operator");
        check_bad("select=a&select=b", "select", "only once");
        check_bad("select=", "select", "the name of a field is missing");
        check_bad("select=a,", "select", "the name of a field is missing");
        check_bad("select=a.b", "select", "\".b\"");
        check_bad(&format!("title=eq.{}", "x".repeat(5000)), "", "4096 bytes");
    }

    #[test]
    fn a_window_is_a_number() {
        let window = |text| Query::read(text, &[]).map(|query| query.window);
        assert_eq!(window("limit=50").unwrap(), Some(50));
        for text in [
            "limit=",
            "limit=0",
            "limit=1001",
            "limit=+5",
            "limit=5&limit=5",
        ] {
            assert!(window(text).is_err(), "{text}");
        }
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
