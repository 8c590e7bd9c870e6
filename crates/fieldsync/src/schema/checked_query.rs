//! Filters and queries, checked against a collection: their fields are known, and their values have their types.

use std::sync::Arc;

use serde_json::Value;

use crate::model::field_errors::FieldErrors;
use crate::model::filter::{Condition, Filter, Operand, Operator};
use crate::model::filter_text::text_of;
use crate::model::order::Order;
use crate::model::query::Query;
use crate::schema::collection::Collection;
use crate::schema::comparison::Comparison;
use crate::schema::field::Ids;
use crate::schema::field_type::{FieldType, Schema};
use crate::schema::grant::Grant;
use crate::schema::predicate::{Node, Predicate};
use crate::schema::row_filter::RowFilter;
use crate::schema::sorting::Sorting;
use crate::schema::view::View;

impl Grant {
    /// This grant, for this collection. The errors name the fields of its filter at fault.
    pub(crate) fn checked(self, collection: &Collection) -> Result<Self, FieldErrors> {
        let rows = self.rows.map(|rows| rows.checked(collection)).transpose()?;
        let set = self.set.into_iter().map(|(field, value)| {
            let typed = values_of_field(collection, &field, vec![value.clone()]);
            // A value that the field can't have refuses the edit.
            let typed = typed.unwrap_or_default().pop();
            (field, typed.unwrap_or(value))
        });
        let set = set.collect();
        Ok(Self { rows, set, ..self })
    }

    /// This grant to read, for what a query asks for. A field that the grant does not show is refused like one that does not exist.
    pub(crate) fn narrowed(
        &self,
        query: &Query,
        collection: &Collection,
    ) -> Result<Self, FieldErrors> {
        let shows = |name: &str| self.view.shows(name);
        let asked = query.filter.as_ref().map(|filter| {
            let predicate = Predicate::asked(filter, collection, shows)?;
            Ok(Arc::new(predicate))
        });
        let select = query.select.iter().flatten();
        for name in select.clone() {
            if name != "id" && !(collection.field(name).is_some() && shows(name)) {
                return Err(FieldErrors::one(name, "is not a known field"));
            }
        }
        let view = match &query.select {
            None => self.view.clone(),
            Some(_) => self.view.and(&View::only(select)),
        };
        let asked = asked.transpose()?;
        let sorting = match (&*query.order, query.window) {
            ([], None) => None,
            (order, _) => Some(Arc::new(Sorting::of(order, collection, shows)?)),
        };
        let is_left_out = |name: &str| query.window.is_some() && !view.shows(name);
        if let Some(term) = (sorting.iter().flat_map(|sorting| &sorting.order))
            .find(|term| is_left_out(&term.field))
        {
            let message = format!(
                "{:?} must be selected: who has a window sorts by it",
                term.field
            );
            return Err(FieldErrors::one("select", message));
        }
        Ok(Self {
            view,
            asked,
            sorting,
            window: query.window,
            ..self.clone()
        })
    }
}

impl RowFilter {
    /// The condition on the records of this collection.
    pub(crate) fn checked(self, collection: &Collection) -> Result<Self, FieldErrors> {
        Ok(match self {
            Self::Unchecked(filter) => {
                let predicate = Predicate::of(&filter, collection, |_| true)?;
                let is_other = |field: &str| field != "id" && !collection.decides_rows(field);
                if let Some(field) = predicate.field_where(&is_other) {
                    let message = "is not one of the fields that decide who reads a record";
                    return Err(FieldErrors::one(field, message));
                }
                Self::Predicate(Arc::new(predicate))
            }
            other => match &collection.declared_fields {
                Some(fields) => other.limited_to(fields),
                None => other,
            },
        })
    }
}

impl Predicate {
    /// Checks a filter. The errors name the fields at fault.
    ///
    /// `shows`: which fields may be asked about. Another one is refused like a field that does not exist.
    pub(crate) fn of(
        filter: &Filter,
        collection: &Collection,
        shows: impl Fn(&str) -> bool,
    ) -> Result<Self, FieldErrors> {
        let resolver = Resolver { collection, shows };
        resolver.node(&filter.0).map(Self)
    }

    /// As [`Predicate::of`], of a query: it may ask only about what the collection allows.
    fn asked(
        filter: &Filter,
        collection: &Collection,
        shows: impl Fn(&str) -> bool,
    ) -> Result<Self, FieldErrors> {
        let predicate = Self::of(filter, collection, shows)?;
        match predicate.field_where(&|field| !collection.is_filterable(field)) {
            Some(field) => Err(refused(
                field,
                "can't be asked about: see the collection's filterable fields",
            )),
            None => Ok(predicate),
        }
    }
}

impl Sorting {
    /// Checks an order. The errors name `order`, and the field at fault.
    ///
    /// `shows`: which fields may be asked about. Another one is refused like a field that does not exist.
    pub(crate) fn of(
        order: &[Order],
        collection: &Collection,
        shows: impl Fn(&str) -> bool,
    ) -> Result<Self, FieldErrors> {
        let mut sorting = Self {
            order: Vec::new(),
            comparisons: Vec::new(),
            ids_descend: false,
            has_composite_ids: collection.key_columns().len() > 1,
        };
        for term in order {
            let name = &term.field;
            if name == "id" {
                sorting.ids_descend = term.is_descending;
                // No two records have the same id.
                break;
            }
            let refused = |message: &str| FieldErrors::one("order", format!("{name:?} {message}"));
            let field = collection.field(name).filter(|_| shows(name));
            let field = field.ok_or_else(|| refused("is not a known field"))?;
            let comparison = Comparison::of(&field.schema.kind);
            let comparison = comparison.filter(|comparison| {
                comparison.has_order()
                    || *comparison == Comparison::Text && collection.is_orderable_text(name)
            });
            let message = "has no order: numbers, times and UUIDs have one, and texts that the collection calls orderable";
            sorting
                .comparisons
                .push(comparison.ok_or_else(|| refused(message))?);
            sorting.order.push(term.clone());
        }
        Ok(sorting)
    }
}

/// How the values of a field, or of the id, compare.
pub(crate) fn comparison_of(
    collection: &Collection,
    field: &str,
) -> Result<Comparison, FieldErrors> {
    let shows = |_: &str| true;
    let resolver = Resolver { collection, shows };
    Ok(resolver.comparison(field)?.1)
}

/// These values in the form in which the field has them, without those that it can't have. A text is read as the field's type.
pub(crate) fn values_of_field(
    collection: &Collection,
    field: &str,
    values: Vec<Value>,
) -> Result<Vec<Value>, FieldErrors> {
    let shows = |_: &str| true;
    let schema = Resolver { collection, shows }.schema(field)?;
    let values = values.into_iter().map(|value| match value {
        Value::String(text) => value_of(field, &Operand::Text(text), &schema),
        other => value_of(field, &Operand::Json(other), &schema),
    });
    Ok(values.filter_map(Result::ok).collect())
}

struct Resolver<'a, S> {
    collection: &'a Collection,
    shows: S,
}

impl<S: Fn(&str) -> bool> Resolver<'_, S> {
    fn node(&self, condition: &Condition) -> Result<Node, FieldErrors> {
        let parts = |parts: &[Condition]| {
            let parts = parts.iter().map(|part| self.node(part));
            parts.collect::<Result<Vec<_>, _>>()
        };
        Ok(match condition {
            Condition::And(all) => Node::And(parts(all)?),
            Condition::Or(any) => Node::Or(parts(any)?),
            Condition::Not(part) => Node::Not(Box::new(self.node(part)?)),
            Condition::IsNull(field) => {
                self.schema(field)?;
                Node::IsNull(field.clone())
            }
            Condition::Is(field, value) => {
                if !matches!(self.schema(field)?.kind, FieldType::Boolean) {
                    return Err(refused(
                        field,
                        "is.true and is.false are for fields that are true or false",
                    ));
                }
                Node::Is(field.clone(), *value)
            }
            Condition::Compare(field, operator, operand) => {
                let (schema, comparison) = self.comparison(field)?;
                let is_equality = matches!(operator, Operator::Eq | Operator::Neq);
                let has_order = comparison.has_order() || self.collection.is_orderable_text(field);
                if !is_equality && !has_order {
                    return Err(refused(
                        field,
                        "has no order: only eq, neq, in and is can be asked",
                    ));
                }
                Node::Compare {
                    field: field.clone(),
                    comparison,
                    operator: *operator,
                    value: value_of(field, operand, &schema)?,
                }
            }
            Condition::In(field, operands) => {
                let (schema, comparison) = self.comparison(field)?;
                let values = operands
                    .iter()
                    .map(|operand| value_of(field, operand, &schema));
                Node::In {
                    field: field.clone(),
                    comparison,
                    values: values.collect::<Result<_, _>>()?,
                }
            }
        })
    }

    fn comparison(&self, field: &str) -> Result<(Schema, Comparison), FieldErrors> {
        let schema = self.schema(field)?;
        match Comparison::of(&schema.kind) {
            Some(comparison) => Ok((schema, comparison)),
            None => Err(refused(
                field,
                "can't be compared: only is.null can be asked",
            )),
        }
    }

    /// The type of a field, or of the id, without its bounds: a value that no record can have may be asked for.
    fn schema(&self, name: &str) -> Result<Schema, FieldErrors> {
        if name == "id" {
            return Ok(Schema::new(id_type(self.collection.ids()), false));
        }
        let field = self.collection.field(name).filter(|_| (self.shows)(name));
        let field = field.ok_or_else(|| refused(name, "is not a known field"))?;
        let kind = match &field.schema.kind {
            FieldType::Integer { .. } => FieldType::Integer {
                min: i64::MIN,
                max: i64::MAX,
            },
            FieldType::Number { .. } => FieldType::Number {
                min: None,
                max: None,
            },
            FieldType::Text { one_of, .. } => FieldType::Text {
                max_length: None,
                one_of: one_of.clone(),
            },
            kind => kind.clone(),
        };
        let mut schema = Schema::new(kind, false);
        schema.special_values = field.schema.special_values;
        Ok(schema)
    }
}

fn id_type(ids: Ids) -> FieldType {
    match ids {
        Ids::Integer => FieldType::Integer {
            min: i64::MIN,
            max: i64::MAX,
        },
        Ids::UuidV7 => FieldType::Uuid,
        Ids::Text => FieldType::Text {
            max_length: None,
            one_of: None,
        },
    }
}

/// A value in the form in which the field has it.
fn value_of(field: &str, operand: &Operand, schema: &Schema) -> Result<Value, FieldErrors> {
    let value = match operand {
        Operand::Json(value) => value.clone(),
        Operand::Text(text) => match schema.kind {
            FieldType::Integer { .. } | FieldType::Number { .. } | FieldType::Boolean => {
                serde_json::from_str(text)
                    .ok()
                    .filter(|value: &Value| !value.is_object() && !value.is_array())
                    .unwrap_or_else(|| text.as_str().into())
            }
            _ => text.as_str().into(),
        },
    };
    // 1.0 is 1: filters that are the same have the same identity.
    let value = match (&schema.kind, value.as_f64()) {
        (FieldType::Integer { .. }, Some(float)) if float.fract() == 0.0 && float.abs() < 1e15 => {
            Value::from(float as i64)
        }
        _ => value,
    };
    if value.is_null() {
        return Err(refused(
            field,
            "is compared with null, which is unknown: ask is.null",
        ));
    }
    schema.check(&value).map_err(|message| {
        let text = text_of(operand);
        let shown: String = text.chars().take(40).collect();
        refused(
            field,
            &format!("is compared with {shown:?}, which {message}"),
        )
    })
}

fn refused(field: &str, message: &str) -> FieldErrors {
    FieldErrors::one(field, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::model::filter_text::read_filter;
    use crate::model::record::Record;
    use crate::schema::values::Values;

    fn tasks() -> Collection {
        let schema = json!({"type": "object", "properties": {
            "project_id": {"type": "integer", "minimum": 0, "maximum": 1000},
            "title": {"type": ["string", "null"]},
            "status": {"type": "string", "enum": ["open", "late"]},
            "ratio": {"type": "number"},
            "done": {"type": ["boolean", "null"]},
            "due": {"type": ["string", "null"], "format": "date-time"},
            "day": {"type": ["string", "null"], "format": "date"},
            "owner": {"type": ["string", "null"], "format": "uuid"},
            "tags": {"type": ["array", "null"]},
            "salary": {"type": "integer"},
        }});
        Collection::from_schema("tasks", &schema)
    }

    fn predicate(query: &[(&str, &str)]) -> Result<Predicate, FieldErrors> {
        let filter = read_filter(query.iter().copied()).unwrap().unwrap();
        Predicate::of(&filter, &tasks(), |name| name != "salary")
    }

    fn record() -> Record {
        let fields = json!({
            "project_id": 5, "title": null, "status": "open", "ratio": 0.5, "done": true,
            "due": "2026-01-13T10:00:00.000000Z", "day": "2026-01-13",
            "owner": "0190a3b1-0000-7000-8000-000000000001", "tags": ["a"], "salary": 9,
        });
        Record {
            id: 7.into(),
            fields: fields.as_object().unwrap().clone(),
        }
    }

    #[track_caller]
    fn check(name: &str, value: &str, admits: bool) {
        let predicate = predicate(&[(name, value)]).unwrap();
        assert_eq!(
            predicate.admits(&Values::from(&record())),
            admits,
            "{name}={value}"
        );
    }

    #[test]
    fn a_record_matches_where_the_filter_is_true() {
        check("project_id", "eq.5", true);
        check("project_id", "eq.5.0", true);
        check("project_id", "neq.5", false);
        check("project_id", "gt.4", true);
        check("project_id", "lt.99999", true);
        check("id", "in.(6,7)", true);
        check("id", "gte.8", false);
        check("status", "in.(late,open)", true);
        check("status", "in.()", false);
        check("status", "not.in.()", true);
        check("ratio", "lte.0.5", true);
        check("done", "is.true", true);
        check("done", "eq.false", false);
        check("due", "eq.2026-01-13T11:00:00+01:00", true);
        check("due", "gt.2026-01-13T09:59:59Z", true);
        check("day", "lt.2026-02-01", true);
        check("owner", "eq.0190A3B1-0000-7000-8000-000000000001", true);
        check("tags", "not.is.null", true);
    }

    #[test]
    fn what_is_unknown_does_not_match_and_neither_does_its_negation() {
        check("title", "eq.x", false);
        check("title", "neq.x", false);
        check("title", "not.eq.x", false);
        check("title", "not.in.(x)", false);
        check("title", "is.null", true);
        check("or", "(title.eq.x,project_id.eq.5)", true);
        check("and", "(title.eq.x,project_id.eq.6)", false);
        check("not.and", "(title.eq.x,project_id.eq.6)", true);
        check("not.or", "(title.eq.x,project_id.eq.6)", false);
    }

    #[test]
    fn filters_that_do_not_fit_are_refused() {
        for (name, value, field, message) in [
            ("nothing", "eq.1", "nothing", "is not a known field"),
            ("salary", "eq.9", "salary", "is not a known field"),
            (
                "or",
                "(project_id.eq.1,salary.is.null)",
                "salary",
                "is not a known field",
            ),
            (
                "project_id",
                "eq.x",
                "project_id",
                "is compared with \"x\", which must be a whole number",
            ),
            (
                "project_id",
                "eq.null",
                "project_id",
                "is compared with null",
            ),
            (
                "project_id",
                "eq.1.5",
                "project_id",
                "is compared with \"1.5\", which must be a whole number",
            ),
            (
                "project_id",
                "is.true",
                "project_id",
                "is.true and is.false are for",
            ),
            (
                "status",
                "eq.closed",
                "status",
                "is compared with \"closed\", which must be one of",
            ),
            ("status", "gt.open", "status", "has no order"),
            ("title", "lt.x", "title", "has no order"),
            ("done", "gt.false", "done", "has no order"),
            ("due", "eq.tomorrow", "due", "is compared with \"tomorrow\""),
            (
                "owner",
                "eq.x",
                "owner",
                "is compared with \"x\", which must be a UUID",
            ),
            ("tags", "eq.a", "tags", "can't be compared"),
        ] {
            let errors = predicate(&[(name, value)]).unwrap_err();
            let messages = errors.get(field);
            assert!(
                messages.iter().any(|one| one.starts_with(message)),
                "{name}={value}: {errors}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_negation_of_what_is_known_is_its_opposite(project in 0..10_i64, other in 0..10_i64, operator in "eq|neq|lt|lte|gt|gte") {
            let mut record = record();
            record.fields.insert("project_id".into(), project.into());
            let admits = |not: &str| {
                let predicate = predicate(&[("project_id", &format!("{not}{operator}.{other}"))]).unwrap();
                predicate.admits(&Values::from(&record))
            };
            prop_assert_ne!(admits(""), admits("not."));
        }
    }
}
