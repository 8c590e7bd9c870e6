//! Which collections rules read, and which principals a change there concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use crate::model::change::{Action, Change};
use crate::schema::collection::Collection;

/// What the rules of all collections read.
#[derive(Debug, Default)]
pub(crate) struct Dependencies {
    /// For each collection that rules read, those who read it.
    readers: HashMap<Arc<str>, Vec<Reader>>,
    /// Whether others may write to one of them.
    may_be_captured: bool,
}

/// The rule of a collection that reads another one.
#[derive(Debug)]
struct Reader {
    collection: Arc<str>,
    /// The field of the other collection with the name of the principal.
    principal_field: Option<Arc<str>>,
}

/// The principals whose answers may be others after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Concerned {
    All,
    /// Those with these names.
    Named(BTreeSet<Arc<str>>),
}

/// A rule that reads what does not exist: the collection of the rule, and what is wrong.
#[derive(Debug)]
pub(crate) struct UnknownRead {
    pub(crate) collection: Arc<str>,
    pub(crate) fault: String,
}

impl Dependencies {
    /// Reads and checks what the rules of these collections read.
    pub(crate) fn of(
        collections: &BTreeMap<Arc<str>, Arc<Collection>>,
    ) -> Result<Self, UnknownRead> {
        let mut dependencies = Self::default();
        for (name, collection) in collections {
            for reads in collection.what_rules_read() {
                let fault = |fault: String| UnknownRead {
                    collection: Arc::clone(name),
                    fault,
                };
                let read = &reads.collection;
                let Some(found) = collections.get(read) else {
                    return Err(fault(format!(
                        "its rule reads the collection {read}, which does not exist"
                    )));
                };
                let field = reads.principal_field.as_ref();
                if let Some(field) = field.filter(|field| !found.can_name_principals(field)) {
                    return Err(fault(format!(
                        "its rule finds principals by the field {field:?} of {read}, which must be a field with text, integers or \
                         UUIDs, or id"
                    )));
                }
                dependencies.may_be_captured |= found.may_be_captured();
                let readers = dependencies.readers.entry(Arc::clone(read)).or_default();
                readers.push(Reader {
                    collection: Arc::clone(name),
                    principal_field: field.cloned(),
                });
            }
        }
        Ok(dependencies)
    }

    /// Whether no rule reads anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.readers.is_empty()
    }

    /// Whether others may write to something that rules read.
    pub(crate) fn may_be_captured(&self) -> bool {
        self.may_be_captured
    }

    /// Whether a rule reads this collection.
    pub(crate) fn include(&self, collection: &str) -> bool {
        self.readers.contains_key(collection)
    }

    /// The collections whose rules read this one.
    pub(crate) fn readers_of(&self, collection: &str) -> impl Iterator<Item = &Arc<str>> {
        let readers = self.readers.get(collection).into_iter().flatten();
        readers.map(|reader| &reader.collection)
    }

    /// For each collection whose rule reads this one, the principals that these changes concern. The changes are as they were logged.
    pub(crate) fn concerned(
        &self,
        collection: &str,
        changes: &[Change],
    ) -> BTreeMap<Arc<str>, Concerned> {
        let mut concerned = BTreeMap::new();
        for reader in self.readers.get(collection).into_iter().flatten() {
            let all = concerned
                .entry(Arc::clone(&reader.collection))
                .or_insert_with(|| Concerned::Named(BTreeSet::new()));
            for change in changes {
                let names = reader.principal_field.as_deref();
                match (names.and_then(|field| names_in(change, field)), &mut *all) {
                    (Some(names), Concerned::Named(named)) => named.extend(names),
                    _ => *all = Concerned::All,
                }
            }
        }
        concerned
    }
}

/// The names of principals in this field before the change and after it. `None` if they are not all known.
fn names_in(change: &Change, field: &str) -> Option<Vec<Arc<str>>> {
    if field == "id" {
        return Some(vec![change.key.id.to_string().into()]);
    }
    let (after, previous) = (change.after.get(field), change.previous.get(field));
    let values = match change.action {
        Action::Create => [Some(after?), None],
        Action::Delete => [Some(previous?), None],
        // A refresh does not know what has changed.
        _ if change.previous.is_empty() => return None,
        _ => [Some(after?), previous],
    };
    let values = values.into_iter().flatten();
    Some(values.filter_map(name_of).collect())
}

/// The name of the principal. Null is nobody's.
fn name_of(value: &Value) -> Option<Arc<str>> {
    match value {
        Value::Null => None,
        Value::String(name) => Some(name.as_str().into()),
        other => Some(other.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::cursor::Position;
    use crate::model::record::RecordKey;
    use crate::model::timestamp::Timestamp;
    use crate::schema::reads::reads;

    fn change(action: Action, previous: Value, after: Value) -> Change {
        let fields = |value: Value| value.as_object().unwrap().clone();
        Change {
            position: Position {
                epoch: 1,
                offset: 1,
                tag: 1,
            },
            key: RecordKey::from(("members", 7)),
            action,
            after: fields(after),
            previous: fields(previous),
            at: Timestamp::now(),
            who: None,
            idempotency_key: None,
        }
    }

    #[track_caller]
    fn check(field: &str, change: &Change, expected: Option<&[&str]>) {
        let names = names_in(change, field);
        let names = names
            .as_ref()
            .map(|names| names.iter().map(|name| &**name).collect::<Vec<_>>());
        assert_eq!(names.as_deref(), expected);
    }

    #[test]
    fn a_change_names_principals_before_and_after_it() {
        use Action::{Create, Delete, Update};
        let none = || json!({});
        check(
            "user",
            &change(Create, none(), json!({"user": "ada"})),
            Some(&["ada"]),
        );
        check(
            "user",
            &change(Delete, json!({"user": 5}), none()),
            Some(&["5"]),
        );
        let moved = change(Update, json!({"user": "ada"}), json!({"user": "bob"}));
        check("user", &moved, Some(&["bob", "ada"]));
        let role = change(
            Update,
            json!({"role": "a"}),
            json!({"user": "ada", "role": "b"}),
        );
        check("user", &role, Some(&["ada"]));
        let nobody = change(Update, json!({"user": "ada"}), json!({"user": null}));
        check("user", &nobody, Some(&["ada"]));
        check("id", &role, Some(&["7"]));
    }

    #[test]
    fn what_is_not_known_concerns_all() {
        use Action::{Create, Delete, Update};
        let ada = || json!({"user": "ada"});
        let none = || json!({});
        check("user", &change(Update, none(), ada()), None);
        check(
            "user",
            &change(Update, json!({"role": "a"}), json!({"role": "b"})),
            None,
        );
        check("user", &change(Create, none(), json!({"role": "a"})), None);
        check("user", &change(Delete, none(), none()), None);
        let collections = ["members", "tasks", "notes"].map(|name| {
            let schema = json!({"type": "object", "properties": {"user": {"type": "string"}}});
            let collection = Collection::from_schema(name, &schema);
            let collection = match name {
                "tasks" => collection.reads(reads("members").principal_by("user")),
                "notes" => collection.reads(reads("members")),
                _ => collection,
            };
            (Arc::from(name), Arc::new(collection))
        });
        let dependencies = Dependencies::of(&collections.into()).unwrap();
        let named = change(Create, none(), ada());
        let concerned = dependencies.concerned("members", std::slice::from_ref(&named));
        let ada = Concerned::Named(["ada".into()].into());
        assert_eq!(
            concerned.into_iter().collect::<Vec<_>>(),
            [("notes".into(), Concerned::All), ("tasks".into(), ada)]
        );
        let unknown = change(Delete, none(), none());
        let concerned = dependencies.concerned("members", &[named, unknown]);
        assert_eq!(concerned["tasks"], Concerned::All);
        assert!(dependencies.concerned("tasks", &[]).is_empty());
    }
}
