//! Which fields are visible. [`View::project`] is the one projection through which every field leaves.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::model::canonical::CanonicalHasher;
use crate::model::record::{Fields, Record, RecordId};

/// Which fields are visible. Subscribers with equal views share one encoding of each change.
///
/// ```
/// use fieldsync::View;
///
/// assert!(View::only(["name"]).shows("name"));
/// assert!(!View::except(["salary"]).shows("salary"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct View(Fieldset);

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
enum Fieldset {
    #[default]
    All,
    Only(Arc<BTreeSet<String>>),
    Except(Arc<BTreeSet<String>>),
}

impl View {
    /// Every field.
    #[must_use]
    pub fn full() -> Self {
        Self::default()
    }

    /// Only these fields. The id is always visible.
    pub fn only<N: Into<String>>(fields: impl IntoIterator<Item = N>) -> Self {
        let fields = fields.into_iter().map(Into::into);
        Self(Fieldset::Only(Arc::new(fields.collect())))
    }

    /// Every field but these.
    pub fn except<N: Into<String>>(fields: impl IntoIterator<Item = N>) -> Self {
        let fields: BTreeSet<_> = fields.into_iter().map(Into::into).collect();
        Self(if fields.is_empty() {
            Fieldset::All
        } else {
            Fieldset::Except(Arc::new(fields))
        })
    }

    /// Whether the field is visible.
    #[must_use]
    pub fn shows(&self, field: &str) -> bool {
        match &self.0 {
            Fieldset::All => true,
            Fieldset::Only(fields) => fields.contains(field),
            Fieldset::Except(fields) => !fields.contains(field),
        }
    }

    /// The fields that both this and the other view show.
    pub(crate) fn and(&self, other: &Self) -> Self {
        match (&self.0, &other.0) {
            (Fieldset::All, _) => other.clone(),
            (_, Fieldset::All) => self.clone(),
            (Fieldset::Only(only), _) => {
                Self::only(only.iter().filter(|name| other.shows(name)).cloned())
            }
            (_, Fieldset::Only(only)) => {
                Self::only(only.iter().filter(|name| self.shows(name)).cloned())
            }
            (Fieldset::Except(one), Fieldset::Except(other)) => {
                Self::except(one.union(other).cloned())
            }
        }
    }

    /// The fields that the view names, whether it shows them or not.
    pub(crate) fn named_fields(&self) -> impl Iterator<Item = &String> {
        let fields = match &self.0 {
            Fieldset::All => None,
            Fieldset::Only(fields) | Fieldset::Except(fields) => Some(fields),
        };
        fields.into_iter().flat_map(|fields| fields.iter())
    }

    /// The record as this view shows it: one flat object of the visible fields and the id.
    #[must_use]
    pub fn project(&self, id: RecordId, fields: &Fields) -> Fields {
        let mut visible = self.project_fields(fields);
        visible.insert(
            "id".into(),
            serde_json::to_value(id).expect("an id is a number or a string"),
        );
        visible
    }

    /// The visible fields.
    #[must_use]
    pub fn project_fields(&self, fields: &Fields) -> Fields {
        if self.0 == Fieldset::All {
            return fields.clone();
        }
        let visible = fields.iter().filter(|(name, _)| self.shows(name));
        visible
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// [`View::project`] as a JSON value.
    pub(crate) fn project_record(&self, record: &Record) -> Value {
        Value::Object(self.project(record.id.clone(), &record.fields))
    }

    pub(crate) fn hash(&self, hasher: &mut CanonicalHasher) {
        let fields = match &self.0 {
            Fieldset::All => None,
            Fieldset::Only(fields) => Some(fields),
            Fieldset::Except(fields) => {
                hasher.text("except");
                Some(fields)
            }
        };
        if let Some(fields) = hasher.option(fields) {
            hasher.list(fields.len());
            fields.iter().for_each(|name| hasher.text(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_views_together_show_what_both_show() {
        let names = ["a", "b", "c"];
        let views = [
            View::full(),
            View::only(["a", "b"]),
            View::only(["b", "c"]),
            View::except(["a"]),
            View::except(["b", "d"]),
            View::only::<String>([]),
        ];
        for one in &views {
            for other in &views {
                for name in names {
                    let both = one.shows(name) && other.shows(name);
                    assert_eq!(one.and(other).shows(name), both, "{one:?} {other:?} {name}");
                }
            }
        }
        assert_eq!(View::except::<String>([]), View::full());
    }
}
