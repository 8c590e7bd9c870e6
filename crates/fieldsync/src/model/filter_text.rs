//! Filters as text: the grammar of query parameters, which is PostgREST's.
//!
//! ```text
//! param  = ["not."] ("and" | "or") "=" group | column "=" ["not."] cond
//! cond   = cmp "." rest | common                     rest: to the end, as it is
//! common = "in.(" [item {"," item}] ")" | "is." ("null" | "true" | "false")
//! cmp    = "eq" | "neq" | "lt" | "lte" | "gt" | "gte"
//! group  = "(" expr {"," expr} ")"
//! expr   = ["not."] ("and" | "or") group | column "." ["not."] (cmp "." item | common)
//! item   = quoted | {any except "," and ")"}
//! quoted = '"' {any except '"' and "\" | "\" any} '"'
//! column = bare | quoted
//! term   = column ["." ("asc" | "desc")] ["." ("nullsfirst" | "nullslast")]
//! ```

use std::fmt;

use serde_json::Value;

use crate::model::filter::{Condition, Filter, Operand, Operator};
use crate::model::order::{Order, asc, desc};

/// The most comparisons of a filter.
const MAX_CONDITIONS: usize = 32;
/// The most values of an `in`.
const MAX_VALUES: usize = 100;
/// The most terms of an order.
const MAX_TERMS: usize = 8;
/// The most groups within each other.
const MAX_DEPTH: usize = 4;

/// What follows the name of a bare column.
const ENDS_BARE: [char; 6] = ['.', ',', ':', '(', ')', '"'];

/// Reads the conditions of a query, each a name and a decoded value. All of them must hold.
pub(crate) fn read_filter<'a>(
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Option<Filter>, (String, String)> {
    let (mut all, mut count) = (Vec::new(), 0);
    for (name, value) in parameters {
        let mut reader = Reader { rest: value, count };
        let condition = reader.parameter(name);
        all.push(condition.map_err(|message| (name.to_owned(), message))?);
        count = reader.count;
    }
    Ok(match all.len() {
        0 => None,
        1 => all.pop().map(Filter),
        _ => Some(Filter(Condition::And(all))),
    })
}

/// Reads the names of fields, separated by commas.
pub(crate) fn read_columns(text: &str) -> Result<Vec<String>, String> {
    let mut reader = Reader {
        rest: text,
        count: 0,
    };
    let mut columns = vec![reader.column()?];
    while reader.take(",") {
        columns.push(reader.column()?);
    }
    reader.end()?;
    Ok(columns)
}

/// Reads the terms of an order, separated by commas.
pub(crate) fn read_order(text: &str) -> Result<Vec<Order>, String> {
    let mut reader = Reader {
        rest: text,
        count: 0,
    };
    let mut order: Vec<Order> = Vec::new();
    loop {
        let term = reader.term()?;
        if order.iter().any(|known| known.field == term.field) {
            return Err(format!("has {:?} twice", term.field));
        }
        order.push(term);
        if order.len() > MAX_TERMS {
            return Err(format!("may have at most {MAX_TERMS} fields"));
        }
        if !reader.take(",") {
            break;
        }
    }
    reader.end()?;
    Ok(order)
}

struct Reader<'a> {
    rest: &'a str,
    /// The number of comparisons so far.
    count: usize,
}

type Read<T> = Result<T, String>;

impl Reader<'_> {
    fn parameter(&mut self, name: &str) -> Read<Condition> {
        let (is_negated, group) = match name.strip_prefix("not.") {
            Some(group) => (true, group),
            None => (false, name),
        };
        if matches!(group, "and" | "or") {
            let group = self.group(group == "and", 1)?;
            self.end()?;
            return Ok(negated(is_negated, group));
        }
        let mut column = Reader {
            rest: name,
            count: 0,
        };
        let field = column.column()?;
        if !column.rest.is_empty() {
            return Err("the name of a field with . , : ( ) or \" in it must be quoted".into());
        }
        let is_negated = self.take("not.");
        let condition = match self.operator() {
            Some(operator) => {
                self.counted()?;
                let rest = std::mem::take(&mut self.rest);
                Condition::Compare(field, operator, Operand::Text(rest.to_owned()))
            }
            None => self.common(field)?,
        };
        self.end()?;
        Ok(negated(is_negated, condition))
    }

    /// The expressions in parentheses.
    fn group(&mut self, is_and: bool, depth: usize) -> Read<Condition> {
        if depth > MAX_DEPTH {
            return Err(format!("has groups more than {MAX_DEPTH} deep"));
        }
        self.expect("(")?;
        let mut parts = vec![self.expression(depth)?];
        while self.take(",") {
            parts.push(self.expression(depth)?);
        }
        self.expect(")")?;
        Ok(if is_and {
            Condition::And(parts)
        } else {
            Condition::Or(parts)
        })
    }

    fn expression(&mut self, depth: usize) -> Read<Condition> {
        let is_negated = self.take("not.");
        for (word, is_and) in [("and(", true), ("or(", false)] {
            if self.rest.starts_with(word) {
                self.rest = &self.rest[word.len() - 1..];
                let group = self.group(is_and, depth + 1)?;
                return Ok(negated(is_negated, group));
            }
        }
        if is_negated {
            return Err("not. stands before and(…), or(…), or an operator".into());
        }
        let field = self.column()?;
        self.expect(".")?;
        let is_negated = self.take("not.");
        let condition = match self.operator() {
            Some(operator) => {
                self.counted()?;
                Condition::Compare(field, operator, Operand::Text(self.item()?))
            }
            None => self.common(field)?,
        };
        Ok(negated(is_negated, condition))
    }

    fn operator(&mut self) -> Option<Operator> {
        let found = OPERATORS.iter().find(|(name, _)| {
            let rest = self.rest.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('.'))
        })?;
        self.rest = &self.rest[found.0.len() + 1..];
        Some(found.1)
    }

    fn common(&mut self, field: String) -> Read<Condition> {
        self.counted()?;
        if self.take("is.") {
            for (word, condition) in [
                ("null", Condition::IsNull(field.clone())),
                ("true", Condition::Is(field.clone(), true)),
                ("false", Condition::Is(field, false)),
            ] {
                if self.take(word) {
                    return Ok(condition);
                }
            }
            return Err("is. must be followed by null, true or false".into());
        }
        if !self.take("in.(") {
            return Err(
                "must be an operator and a value, such as eq.5, in.(1,2) or is.null".into(),
            );
        }
        let mut values = Vec::new();
        if self.take(")") {
            return Ok(Condition::In(field, values));
        }
        loop {
            values.push(Operand::Text(self.item()?));
            if values.len() > MAX_VALUES {
                return Err(format!("in.(…) may have at most {MAX_VALUES} values"));
            }
            if !self.take(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(Condition::In(field, values))
    }

    fn column(&mut self) -> Read<String> {
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let end = self.rest.find(ENDS_BARE).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() {
            return Err("the name of a field is missing".into());
        }
        self.rest = rest;
        Ok(name.to_owned())
    }

    fn term(&mut self) -> Read<Order> {
        let field = self.column()?;
        let term = if self.take(".desc") {
            desc(field)
        } else {
            self.take(".asc");
            asc(field)
        };
        Ok(if self.take(".nullsfirst") {
            term.nulls_first()
        } else if self.take(".nullslast") {
            term.nulls_last()
        } else {
            term
        })
    }

    fn item(&mut self) -> Read<String> {
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let end = self.rest.find([',', ')']).unwrap_or(self.rest.len());
        let (item, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(item.to_owned())
    }

    fn quoted(&mut self) -> Read<String> {
        let (mut text, mut letters) = (String::new(), self.rest.char_indices().skip(1));
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => text.extend(letters.next().map(|(_, letter)| letter)),
                letter => text.push(letter),
            }
        }
        Err("has a quotation mark without its end".into())
    }

    fn counted(&mut self) -> Read<()> {
        self.count += 1;
        if self.count > MAX_CONDITIONS {
            return Err(format!(
                "the query has more than {MAX_CONDITIONS} conditions"
            ));
        }
        Ok(())
    }

    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Read<()> {
        if self.take(token) {
            return Ok(());
        }
        Err(match self.rest.chars().next() {
            Some(found) => format!("has {found:?} where {token:?} must be"),
            None => format!("ends where {token:?} must be"),
        })
    }

    fn end(&self) -> Read<()> {
        match self.rest {
            "" => Ok(()),
            rest => Err(format!("has {rest:?} after its end")),
        }
    }
}

impl Operator {
    /// Its name in the grammar.
    pub(crate) fn name(self) -> &'static str {
        let known = OPERATORS.iter().find(|(_, known)| *known == self);
        known.expect("every operator has a name").0
    }
}

const OPERATORS: [(&str, Operator); 6] = [
    ("eq", Operator::Eq),
    ("neq", Operator::Neq),
    ("lte", Operator::Lte),
    ("lt", Operator::Lt),
    ("gte", Operator::Gte),
    ("gt", Operator::Gt),
];

fn negated(is_negated: bool, condition: Condition) -> Condition {
    if is_negated {
        Condition::Not(Box::new(condition))
    } else {
        condition
    }
}

/// As a term of the grammar.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Column(&self.field))?;
        if self.is_descending {
            f.write_str(".desc")?;
        }
        match (self.nulls_first, self.is_descending) {
            (true, false) => f.write_str(".nullsfirst"),
            (false, true) => f.write_str(".nullslast"),
            _ => Ok(()),
        }
    }
}

/// The text of a filter as an expression of the grammar.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_condition(f, &self.0, "")
    }
}

/// Writes a condition. `not` is empty, or `not.` where the condition is negated.
fn write_condition(f: &mut fmt::Formatter<'_>, condition: &Condition, not: &str) -> fmt::Result {
    match condition {
        Condition::Compare(field, operator, operand) => {
            write!(
                f,
                "{}.{not}{}.{}",
                Quoted(field, Part::Column),
                operator.name(),
                Quoted(&text_of(operand), Part::Value)
            )
        }
        Condition::In(field, values) => {
            write!(f, "{}.{not}in.(", Quoted(field, Part::Column))?;
            for (number, value) in values.iter().enumerate() {
                let comma = if number == 0 { "" } else { "," };
                write!(f, "{comma}{}", Quoted(&text_of(value), Part::OfList))?;
            }
            f.write_str(")")
        }
        Condition::IsNull(field) => write!(f, "{}.{not}is.null", Quoted(field, Part::Column)),
        Condition::Is(field, value) => write!(f, "{}.{not}is.{value}", Quoted(field, Part::Column)),
        Condition::And(parts) => write_group(f, &format!("{not}and"), parts),
        Condition::Or(parts) => write_group(f, &format!("{not}or"), parts),
        // Two negations are none, in three-valued logic as well.
        Condition::Not(inner) => {
            write_condition(f, inner, if not.is_empty() { "not." } else { "" })
        }
    }
}

fn write_group(f: &mut fmt::Formatter<'_>, name: &str, parts: &[Condition]) -> fmt::Result {
    write!(f, "{name}(")?;
    for (number, part) in parts.iter().enumerate() {
        f.write_str(if number == 0 { "" } else { "," })?;
        write_condition(f, part, "")?;
    }
    f.write_str(")")
}

/// The text of a value, as it stands in a URL.
pub(crate) fn text_of(operand: &Operand) -> String {
    match operand {
        Operand::Text(text) | Operand::Json(Value::String(text)) => text.clone(),
        Operand::Json(value) => value.to_string(),
    }
}

/// A text, quoted where it must be.
struct Quoted<'a>(&'a str, Part);

/// The name of a field in a query, quoted where it must be.
pub(crate) struct Column<'a>(pub(crate) &'a str);

impl fmt::Display for Column<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Quoted(self.0, Part::Column).fmt(f)
    }
}

/// What a text is part of a condition as.
#[derive(PartialEq)]
enum Part {
    Column,
    Value,
    /// A value of `in`, where no text at all would be no value.
    OfList,
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text, part) = self;
        let is_plain = match part {
            Part::Column => {
                !text.is_empty()
                    && !text.contains(ENDS_BARE)
                    && !matches!(*text, "and" | "or" | "not")
            }
            Part::Value | Part::OfList => {
                let is_missing = text.is_empty() && *part == Part::OfList;
                !is_missing && !text.starts_with('"') && !text.contains([',', ')'])
            }
        };
        if is_plain {
            return f.write_str(text);
        }
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        write!(f, "\"{escaped}\"")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(query: &[(&str, &str)]) -> Result<String, String> {
        match read_filter(query.iter().copied()) {
            Ok(filter) => Ok(filter.map_or_else(String::new, |filter| filter.to_string())),
            Err((name, message)) => Err(format!("{name}: {message}")),
        }
    }

    #[track_caller]
    fn check(name: &str, value: &str, expected: &str) {
        assert_eq!(
            read(&[(name, value)]).as_deref(),
            Ok(expected),
            "{name}={value}"
        );
    }

    #[test]
    fn conditions_are_read() {
        check("project_id", "eq.5", "project_id.eq.5");
        check("title", "eq.a,b)\"c", "title.eq.\"a,b)\\\"c\"");
        check("title", "eq.", "title.eq.");
        check("title", "not.neq.not.eq.x", "title.not.neq.not.eq.x");
        check("status", "in.(open,late)", "status.in.(open,late)");
        check("status", "in.()", "status.in.()");
        check("status", "in.(,)", "status.in.(\"\",\"\")");
        check("status", "in.(\"\")", "status.in.(\"\")");
        check(
            "status",
            r#"in.("a,b","c\"d",e f)"#,
            r#"status.in.("a,b",c"d,e f)"#,
        );
        check("due", "is.null", "due.is.null");
        check("due", "not.is.null", "due.not.is.null");
        check("done", "is.true", "done.is.true");
        check("\"order\"", "gt.1", "order.gt.1");
        check("\"a.b\"", "gt.1", "\"a.b\".gt.1");
        check("or", "(a.eq.1,b.not.is.null)", "or(a.eq.1,b.not.is.null)");
        check(
            "not.and",
            "(a.lt.1,or(b.gte.2,not.and(c.in.(1,2),d.eq.x)))",
            "not.and(a.lt.1,or(b.gte.2,not.and(c.in.(1,2),d.eq.x)))",
        );
        check(
            "and",
            "(\"and\".eq.1,\"x y\".eq.\")\")",
            "and(\"and\".eq.1,x y.eq.\")\")",
        );
        assert_eq!(
            read(&[("a", "eq.1"), ("a", "neq.2")]).as_deref(),
            Ok("and(a.eq.1,a.neq.2)")
        );
        assert_eq!(read(&[]).as_deref(), Ok(""));
    }

    #[test]
    fn other_text_is_refused_with_the_parameter_and_the_reason() {
        for (name, value, reason) in [
            ("a", "5", "a: must be an operator"),
            ("a", "EQ.5", "a: must be an operator"),
            ("a", "eq5", "a: must be an operator"),
            ("a", "like.x*", "a: must be an operator"),
            ("a", "is.NULL", "a: is. must be followed"),
            ("a", "is.nullx", "a: has \"x\" after its end"),
            ("a", "in.(1,2", "a: ends where \")\" must be"),
            ("a", "in.(1)x", "a: has \"x\" after its end"),
            ("a", "in.(\"1)", "a: has a quotation mark"),
            ("a.b", "eq.1", "a.b: the name of a field with"),
            ("", "eq.1", ": the name of a field is missing"),
            ("and", "a.eq.1", "and: has 'a' where \"(\" must be"),
            ("and", "()", "and: the name of a field is missing"),
            ("and", "(a.eq.1", "and: ends where"),
            ("and", "(a.eq.1))", "and: has \")\" after its end"),
            ("and", "(not.a.eq.1)", "and: not. stands before"),
            (
                "or",
                "(or(or(or(or(a.eq.1)))))",
                "or: has groups more than 4 deep",
            ),
        ] {
            let refused = read(&[(name, value)]).unwrap_err();
            assert!(refused.starts_with(reason), "{name}={value}: {refused}");
        }
        let many: Vec<(&str, &str)> = std::iter::repeat_n(("a", "eq.1"), 33).collect();
        assert!(read(&many).unwrap_err().contains("more than 32 conditions"));
        let values = format!("in.({})", vec!["1"; 101].join(","));
        assert!(
            read(&[("a", &values)])
                .unwrap_err()
                .contains("at most 100 values")
        );
    }

    fn condition() -> impl Strategy<Value = Condition> {
        let field = "[a-z]{1,3}|[a-z.,()\"\\\\]{1,4}|and|or|not";
        let value = || "\\PC{0,6}".prop_map(Operand::Text);
        let operator = proptest::sample::select(OPERATORS.map(|(_, operator)| operator).to_vec());
        let leaf = prop_oneof![
            (field, operator, value())
                .prop_map(|(field, operator, value)| Condition::Compare(field, operator, value)),
            (field, proptest::collection::vec(value(), 0..4))
                .prop_map(|(field, values)| Condition::In(field, values)),
            field.prop_map(Condition::IsNull),
            (field, any::<bool>()).prop_map(|(field, value)| Condition::Is(field, value)),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let parts = || proptest::collection::vec(inner.clone(), 1..4);
            prop_oneof![
                parts().prop_map(Condition::And),
                parts().prop_map(Condition::Or),
                inner
                    .clone()
                    .prop_map(|part| Condition::Not(Box::new(part))),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_text_of_a_filter_is_read_as_the_same_filter(condition in condition()) {
            let text = Filter(Condition::And(vec![condition])).to_string();
            let group = text.strip_prefix("and").unwrap();
            let filter = read_filter([("and", group)]).unwrap().unwrap();
            prop_assert_eq!(filter.to_string(), text);
        }

        #[test]
        fn no_text_makes_the_reader_panic(name in "\\PC{0,12}", value in "\\PC{0,40}|[a-z.,()\"\\\\]{0,40}") {
            let _ = read_filter([(name.as_str(), value.as_str())]);
        }
    }
}
