//! The rows of a page: the conditions on them, and their order.

use std::cmp::Ordering;
use std::marker::PhantomData;

use fieldsync::backend::{Ids, Listing, SortKey, Sorting, StoreError, split_composite};
use fieldsync::{Order, Record, RecordId};
use serde_json::Value;

use crate::dialect::{Dialect, SortColumn};
use crate::layout::TableLayout;
use crate::value::{Row, SqlValue};

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

type Compare<'a> = Box<dyn Fn(&str, &str) -> String + 'a>;

/// A term of an order.
struct Term<'a> {
    /// The expression that rows are ordered by.
    column: String,
    /// The condition that it stands so, by this operator, to this parameter.
    compare: Compare<'a>,
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
            let (format, kind) = (&column.format, &field.schema.kind);
            terms.push(Term {
                column: D::sorted(format, kind, &column.of(qualifier), "").column,
                compare: Box::new(|operator, parameter| {
                    let name = column.of(qualifier);
                    D::compare_sorted(format, kind, &name, operator, parameter)
                }),
                is_descending: term.is_descending(),
                nulls_first: field.schema.nullable.then_some(term.has_nulls_first()),
                after: D::encode_sorted(format, value),
            });
        }
        let parts = after.map(|after| self.id_parts(&after.id));
        for (number, key) in self.key.iter().enumerate() {
            let part = parts.as_ref().and_then(|parts| parts.get(number));
            let value = part.map(|part| D::encode_sorted_key(&key.format, self.ids, part));
            let sorted = |parameter: &str| {
                D::sorted_key(&key.format, self.ids, &key.of(qualifier), parameter)
            };
            terms.push(Term {
                column: sorted("").column,
                compare: Box::new(move |operator, parameter| {
                    let SortColumn { column, parameter } = sorted(parameter);
                    format!("{column} {operator} {parameter}")
                }),
                is_descending: sorting.ids_descend(),
                nulls_first: None,
                after: value.unwrap_or(SqlValue::Null),
            });
        }
        terms
    }

    /// Whether the values that a row is ordered by are stored in the form that their columns have.
    pub(crate) fn is_in_form<R: Row + ?Sized>(
        &self,
        sorting: &Sorting,
        row: &R,
        record: &Record,
    ) -> bool {
        sorting.order().iter().all(|term| {
            let mut columns = self.columns.iter();
            let Some(number) = columns.position(|one| one.field == term.field()) else {
                return true;
            };
            let stored = row.value(self.key.len() + number);
            let value = record.fields.get(term.field()).unwrap_or(&Value::Null);
            stored.is_ok_and(|stored| D::is_in_form(&self.columns[number].format, &stored, value))
        })
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
    let column = &term.column;
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
            SqlValue::Null => format!("{} is null", term.column),
            _ => self.compared(term, "="),
        };
        format!("({later} or ({equal} and {}))", self.follows_after(rest))
    }

    /// The condition that the value of a row is after the place's.
    fn later(&mut self, term: &Term<'_>) -> String {
        let column = &term.column;
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
        (term.compare)(operator, &parameter)
    }
}

/// Refuses a page that is not in its order. The database orders times, UUIDs and decimals as they are stored, and a column may have them in
/// several forms.
///
/// # Errors
/// If a record stands before one that is less.
pub fn check_order(listing: &Listing, records: &[Record]) -> Result<(), StoreError> {
    let Some(sorting) = &listing.sorting else {
        return Ok(());
    };
    let mut before = listing.after.clone();
    for record in records {
        let key = sorting.key(record);
        if before.is_some_and(|before| sorting.compare(&before, &key) != Ordering::Less) {
            return Err(unordered(listing, record));
        }
        before = Some(key);
    }
    Ok(())
}

/// The refusal of an order, because of this record.
pub(crate) fn unordered(listing: &Listing, record: &Record) -> StoreError {
    let order = listing.sorting.iter().flat_map(|sorting| sorting.order());
    let fields: Vec<_> = order.map(Order::field).collect();
    let fields = fields.join(", ");
    tracing::warn!(id = %record.id, %fields, "a record is not where its values belong in the database's order");
    StoreError::Unordered(fields)
}
