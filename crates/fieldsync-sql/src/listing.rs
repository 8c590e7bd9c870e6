//! The rows of a page: the conditions on them, and their order.

use std::marker::PhantomData;

use fieldsync::RecordId;
use fieldsync::backend::{Ids, Listing, SortKey, Sorting, split_composite};
use serde_json::Value;

use crate::dialect::{Dialect, SortColumn};
use crate::layout::TableLayout;
use crate::value::SqlValue;

/// The rows of a page as SQL.
#[derive(Debug)]
pub struct PageRows {
    /// Nothing, or `where` with the conditions on the rows.
    pub filter: String,
    /// What follows `order by`.
    pub order: String,
    /// The values of the parameters, in their order.
    pub parameters: Vec<SqlValue<'static>>,
}

/// A term of an order.
struct Term<'a> {
    /// The column, and this parameter as it compares with that.
    sorted: Box<dyn Fn(&str) -> SortColumn + 'a>,
    is_descending: bool,
    /// Where null is, if there is null.
    nulls_first: Option<bool>,
    /// The value after which the page begins. Null if there is none.
    after: SqlValue<'static>,
}

impl<D: Dialect> TableLayout<D> {
    /// The rows of a page. `qualifier` is the table's SQL name, and `first` the number of the first parameter.
    #[must_use]
    pub fn page_rows(&self, listing: &Listing, qualifier: &str, first: usize) -> PageRows {
        let (mut conditions, mut parameters) = (Vec::new(), Vec::new());
        let order = match (&listing.sorting, &listing.after) {
            (None, None) => self.key_order(qualifier),
            (None, Some(after)) => {
                parameters.extend(self.key_values(&after.id));
                conditions.push(self.key_follows(qualifier, first));
                self.key_order(qualifier)
            }
            (Some(sorting), after) => {
                let terms = self.terms(sorting, after.as_ref(), qualifier);
                if after.is_some() {
                    let mut place = Place::<D>::new(first);
                    conditions.push(place.follows(&terms));
                    parameters.extend(place.parameters);
                }
                let terms: Vec<_> = terms.iter().map(order_of::<D>).collect();
                terms.join(", ")
            }
        };
        let first = first + parameters.len();
        let narrowing = listing.narrowing.as_ref();
        let condition = narrowing.and_then(|one| self.condition(one, qualifier, first));
        if let Some(condition) = condition {
            parameters.extend(condition.parameters);
            conditions.push(condition.sql);
        }
        let filter = match conditions.len() {
            0 => String::new(),
            _ => format!("where {}", conditions.join(" and ")),
        };
        PageRows {
            filter,
            order,
            parameters,
        }
    }

    /// The terms of an order, the key last.
    fn terms<'a>(
        &'a self,
        sorting: &Sorting,
        after: Option<&SortKey>,
        qualifier: &'a str,
    ) -> Vec<Term<'a>> {
        let mut terms = Vec::new();
        for (number, term) in sorting.order().iter().enumerate() {
            let column = self.columns.iter().find(|one| one.field == term.field());
            let mut fields = self.definition.fields().iter();
            let field = fields.find(|field| field.name == term.field());
            // The core has checked the order against the collection.
            let (Some(column), Some(field)) = (column, field) else {
                continue;
            };
            let value = after.and_then(|after| after.values.get(number));
            let value = value.unwrap_or(&Value::Null);
            terms.push(Term {
                sorted: Box::new(|parameter| {
                    let name = column.of(qualifier);
                    D::sorted(&column.format, &field.schema.kind, &name, parameter)
                }),
                is_descending: term.is_descending(),
                nulls_first: field.schema.nullable.then_some(term.has_nulls_first()),
                after: D::encode(&column.format, value).into_owned(),
            });
        }
        let parts = after.map(|after| self.id_parts(&after.id));
        for (number, key) in self.key.iter().enumerate() {
            let part = parts.as_ref().and_then(|parts| parts.get(number));
            let value = part.map(|part| D::encode_sorted_key(&key.format, self.ids, part));
            terms.push(Term {
                sorted: Box::new(|parameter| {
                    D::sorted_key(&key.format, self.ids, &key.of(qualifier), parameter)
                }),
                is_descending: sorting.ids_descend(),
                nulls_first: None,
                after: value.unwrap_or(SqlValue::Null),
            });
        }
        terms
    }

    /// The values of an id, one for each key column.
    fn id_parts(&self, id: &RecordId) -> Vec<RecordId> {
        if self.key.len() == 1 || self.ids != Ids::Text {
            return vec![id.clone()];
        }
        let parts = id.as_text().and_then(split_composite).unwrap_or_default();
        let parts = parts.into_iter().map(|part| RecordId::Text(part.into()));
        parts.collect()
    }
}

fn order_of<D: Dialect>(term: &Term<'_>) -> String {
    let column = (term.sorted)("").column;
    let direction = if term.is_descending { " desc" } else { "" };
    // Where null is unless the order says otherwise.
    let is_usual = D::NULL_IS_LARGEST == term.is_descending;
    let nulls = match term.nulls_first {
        Some(true) if !is_usual => " nulls first",
        Some(false) if is_usual => " nulls last",
        _ => "",
    };
    format!("{column}{direction}{nulls}")
}

/// The condition that a row follows a place, and its parameters. Each occurs once, in ascending order.
struct Place<D> {
    first: usize,
    parameters: Vec<SqlValue<'static>>,
    dialect: PhantomData<D>,
}

impl<D: Dialect> Place<D> {
    fn new(first: usize) -> Self {
        Self {
            first,
            parameters: Vec::new(),
            dialect: PhantomData,
        }
    }

    fn follows(&mut self, terms: &[Term<'_>]) -> String {
        // An index finds by this where the page begins.
        let hint = match terms.first() {
            Some(term) if term.after != SqlValue::Null && term.nulls_first != Some(false) => {
                let operator = if term.is_descending { "<=" } else { ">=" };
                format!("{} and ", self.compared(term, operator))
            }
            _ => String::new(),
        };
        hint + &self.follows_after(terms)
    }

    fn follows_after(&mut self, terms: &[Term<'_>]) -> String {
        let Some((term, rest)) = terms.split_first() else {
            return "1 = 0".to_owned();
        };
        let later = self.later(term);
        if rest.is_empty() {
            return later;
        }
        let equal = match term.after {
            SqlValue::Null => format!("{} is null", (term.sorted)("").column),
            _ => self.compared(term, "="),
        };
        format!("({later} or ({equal} and {}))", self.follows_after(rest))
    }

    /// The condition that the value of a row is after the place's.
    fn later(&mut self, term: &Term<'_>) -> String {
        let column = (term.sorted)("").column;
        let is_null = term.after == SqlValue::Null;
        if is_null {
            return match term.nulls_first {
                Some(true) => format!("{column} is not null"),
                _ => "1 = 0".to_owned(),
            };
        }
        let later = self.compared(term, if term.is_descending { "<" } else { ">" });
        match term.nulls_first {
            Some(false) => format!("({later} or {column} is null)"),
            _ => later,
        }
    }

    fn compared(&mut self, term: &Term<'_>, operator: &str) -> String {
        let parameter = D::parameter(self.first + self.parameters.len());
        self.parameters.push(term.after.clone());
        let SortColumn { column, parameter } = (term.sorted)(&parameter);
        format!("{column} {operator} {parameter}")
    }
}
