//! Which fields of a collection refer to which records of another, and to which of them a record refers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use crate::model::edit::{Edit, EditFields, EditKind};
use crate::model::record::{RecordId, RecordKey, join_composite};
use crate::schema::collection::Collection;
use crate::schema::field::{Field, Ids, SetBy};
use crate::schema::field_type::FieldType;
use crate::schema::foreign_key::ForeignKey;
use crate::schema::grant::Grant;

/// The references of collections to records that may be hidden from a principal, by the names of the collections that refer.
#[derive(Debug, Default)]
pub(crate) struct References(HashMap<Arc<str>, Vec<Arc<Reference>>>);

/// Fields of a collection that refer to the id of a record.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) collection: Arc<str>,
    /// First those of the id, in the order of the key columns of the target.
    pub(crate) fields: Vec<String>,
    pub(crate) target: Arc<Collection>,
    /// The fields of the target that have the same values as the other fields.
    others: Vec<String>,
}

/// A reference that edits of a principal may set, and its grant to read the target.
#[derive(Debug)]
pub(crate) struct GuardedReference {
    pub(crate) reference: Arc<Reference>,
    pub(crate) readable: Arc<Grant>,
}

/// What a record refers to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Referred {
    /// Nothing: a field is null.
    Nothing,
    /// What no record has as its id.
    NoRecord,
    /// This record, if it has these texts in its fields.
    Record(RecordKey, Vec<(String, String)>),
}

impl References {
    /// Of the foreign keys, those that can be checked and need to be. Warns of those that can't be checked.
    pub(crate) fn of(
        foreign_keys: &[ForeignKey],
        collections: &BTreeMap<Arc<str>, Arc<Collection>>,
    ) -> Self {
        let mut all: HashMap<_, Vec<_>> = HashMap::new();
        for foreign_key in foreign_keys {
            match Reference::of(foreign_key, collections) {
                Ok(Some(reference)) => {
                    if reference.is_partly_left_to_the_database(collections) {
                        warn(foreign_key, "where the database gives a part of it");
                    }
                    let of_collection = all.entry(Arc::clone(&foreign_key.collection));
                    of_collection.or_default().push(Arc::new(reference));
                }
                Ok(None) => {}
                Err(reason) => warn(foreign_key, reason),
            }
        }
        Self(all)
    }

    /// Those that the edit may set.
    pub(crate) fn set_by(&self, edit: &Edit) -> impl Iterator<Item = &Arc<Reference>> {
        let references = self.0.get(edit.collection()).into_iter().flatten();
        references.filter(|reference| reference.may_be_set_by(edit))
    }
}

impl Reference {
    /// `None` if nobody can set it, or if every record of the target is visible to everyone. An error says why it can't be checked.
    fn of(
        foreign_key: &ForeignKey,
        collections: &BTreeMap<Arc<str>, Arc<Collection>>,
    ) -> Result<Option<Self>, &'static str> {
        let of_name = |name| collections.get(name);
        let (Some(collection), Some(target)) = (
            of_name(&foreign_key.collection),
            of_name(&foreign_key.target),
        ) else {
            return Ok(None);
        };
        let mut fields = foreign_key.fields.iter().flatten();
        let can_be_set = fields.any(|name| {
            let field = collection.field(name);
            collection.is_writable() && field.is_none_or(Field::is_settable)
        });
        if !can_be_set || target.is_open_to_everyone() {
            return Ok(None);
        }
        let pairs = foreign_key.fields.iter().zip(&foreign_key.target_fields);
        let pairs = pairs.map(|(ours, theirs)| Some((ours.clone()?, theirs.clone()?)));
        let pairs: Option<Vec<_>> = pairs.collect();
        let mut pairs = pairs.ok_or("since one of its columns is not a field")?;
        if pairs.iter().any(|(ours, theirs)| {
            let ours = kind(collection, ours);
            ours.is_none() || ours != kind(target, theirs)
        }) {
            return Err(
                "since its fields and those of the target are not integers, UUIDs or texts alike",
            );
        }
        let mut fields = Vec::with_capacity(pairs.len());
        for part in target.key_fields() {
            let at = pairs.iter().position(|(_, theirs)| theirs == part);
            let at = at.ok_or("since it does not lead to the id")?;
            fields.push(pairs.remove(at).0);
        }
        let (rest, others): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        fields.extend(rest);
        Ok(Some(Self {
            collection: Arc::clone(collection.name()),
            fields,
            target: Arc::clone(target),
            others,
        }))
    }

    fn is_partly_left_to_the_database(
        &self,
        collections: &BTreeMap<Arc<str>, Arc<Collection>>,
    ) -> bool {
        let field = |name: &String| collections[&self.collection].field(name);
        let of_id = &self.fields[..self.fields.len() - self.others.len()];
        let mut fields = of_id.iter().filter_map(field);
        of_id.len() > 1
            && fields.any(|field| field.has_database_default || field.set_by == SetBy::Database)
    }

    fn may_be_set_by(&self, edit: &Edit) -> bool {
        let names = |fields: &EditFields| match fields {
            EditFields::FromIds(_) => true,
            EditFields::Given(given) => {
                let value = |name: &String| given.get(name);
                let mut values = self.fields.iter().filter_map(value);
                values.any(|value| !value.is_null())
            }
        };
        match &edit.kind {
            EditKind::Create(id, fields) => {
                names(fields) || id.is_some() && self.fields.iter().any(|name| name == "id")
            }
            EditKind::Patch(_, fields) => names(fields),
            EditKind::Update(..) => true,
            EditKind::Delete(_) | EditKind::Refresh(_) | EditKind::Malformed(_) => false,
        }
    }

    /// What a record with these values refers to. One that is left to the database is `None`.
    pub(crate) fn referred(&self, value: impl Fn(&str) -> Option<Value>) -> Referred {
        let values: Vec<Option<Value>> = self.fields.iter().map(|field| value(field)).collect();
        let (key, others) = values.split_at(values.len() - self.others.len());
        let key: Option<Vec<Value>> = key.iter().cloned().collect();
        let mut known = values.iter().flatten();
        let Some(key) = key.filter(|_| !known.any(Value::is_null)) else {
            return Referred::Nothing;
        };
        let id = match (key.as_slice(), self.target.ids()) {
            ([Value::Number(number)], Ids::Integer) => number.as_i64().map(RecordId::Integer),
            // As large integers are.
            ([Value::String(digits)], Ids::Integer) => digits.parse().ok().map(RecordId::Integer),
            ([Value::String(text)], Ids::UuidV7) => text.parse().ok().map(RecordId::Uuid),
            ([Value::String(text)], Ids::Text) => Some(RecordId::Text(text.as_str().into())),
            (parts, Ids::Text) if parts.len() > 1 => {
                let parts: Vec<String> = parts.iter().map(text_of).collect();
                Some(RecordId::Text(join_composite(parts).into()))
            }
            _ => None,
        };
        match id.filter(|id| self.target.has_id_kind(id)) {
            Some(id) => {
                let others = self.others.iter().zip(others);
                let others = others
                    .filter_map(|(name, value)| Some((name.clone(), text_of(value.as_ref()?))));
                let key = RecordKey::new(Arc::clone(self.target.name()), id);
                Referred::Record(key, others.collect())
            }
            None => Referred::NoRecord,
        }
    }
}

/// The text of an integer, a UUID or a text, which has one.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn warn(foreign_key: &ForeignKey, reason: &str) {
    let fields: Vec<_> = foreign_key.fields.iter().flatten().collect();
    tracing::warn!(
        collection = &*foreign_key.collection,
        ?fields,
        target = &*foreign_key.target,
        "a foreign key is not checked {reason}: it tells which hidden records exist. Where that matters, refuse them in a `check`, as \
         docs/security.md says"
    );
}

/// The kinds of values that have one text, and so are the same in a reference as in an id.
#[derive(PartialEq)]
enum Kind {
    Integer,
    Uuid,
    Text,
}

/// The kind of a field's values, or of the ids.
fn kind(collection: &Collection, field: &str) -> Option<Kind> {
    let Some(field) = collection.field(field) else {
        return match collection.ids() {
            Ids::Integer => Some(Kind::Integer),
            Ids::UuidV7 => Some(Kind::Uuid),
            Ids::Text => Some(Kind::Text),
        };
    };
    match &field.schema.kind {
        FieldType::Integer { .. } => Some(Kind::Integer),
        FieldType::Uuid => Some(Kind::Uuid),
        FieldType::Text { .. } => Some(Kind::Text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::rules::Rules;

    fn collections(targets: impl IntoIterator<Item = Collection>) -> References {
        let fields = json!({"type": "object", "properties": {
            "number": {"type": "integer"},
            "text": {"type": "string"},
            "uuid": {"type": "string", "format": "uuid"},
            "day": {"type": "string", "format": "date"},
        }});
        let all = targets.into_iter().map(|target| ("target", target));
        let tasks = ("tasks", Collection::from_schema("tasks", &fields));
        let all = all.chain([tasks]);
        let all = all.map(|(name, one)| (Arc::from(name), Arc::new(one)));
        let collections: BTreeMap<Arc<str>, Arc<Collection>> = all.collect();
        let foreign_key = |fields: &[&str], target_fields: &[&str]| ForeignKey {
            collection: "tasks".into(),
            fields: fields.iter().map(|name| Some((*name).to_owned())).collect(),
            target: "target".into(),
            target_fields: target_fields
                .iter()
                .map(|name| Some((*name).to_owned()))
                .collect(),
        };
        let foreign_keys = [
            foreign_key(&["number"], &["id"]),
            foreign_key(&["text"], &["id"]),
            foreign_key(&["uuid"], &["id"]),
            foreign_key(&["day"], &["id"]),
            foreign_key(&["text"], &["name"]),
            foreign_key(&["text", "number"], &["name", "number"]),
            foreign_key(&["number", "day"], &["number", "day"]),
            foreign_key(&["text", "number"], &["name", "id"]),
        ];
        References::of(&foreign_keys, &collections)
    }

    /// Checks which fields of an edit refer to the target by its id, if it is there and has rules.
    #[track_caller]
    fn check(target: Option<Collection>, expected: &[&[&str]]) {
        let references = collections(target);
        let all = json!({"number": 1, "text": "a", "uuid": "b", "day": "c"});
        let set_by = |fields: Value| {
            let edit = Edit::create("tasks", fields);
            let set = references.set_by(&edit);
            set.map(|one| one.fields.clone()).collect::<Vec<_>>()
        };
        assert_eq!(set_by(all), expected);
        assert!(set_by(json!({"number": null, "text": null})).is_empty());
        assert!(set_by(json!({})).is_empty());
    }

    #[test]
    fn a_reference_is_checked_if_it_leads_to_an_id_of_the_same_kind() {
        let fields = json!({"type": "object", "properties": {
            "name": {"type": "string"}, "number": {"type": "integer"}, "day": {"type": "string", "format": "date"},
        }});
        let target = || Collection::from_schema("target", &fields).rules(Rules::new());
        check(None, &[]);
        check(Some(target().open_to_everyone()), &[]);
        check(Some(target()), &[&["number"], &["number", "text"]]);
        check(Some(target().text_ids()), &[&["text"]]);
        check(Some(target().uuid_ids()), &[&["uuid"]]);
        check(
            Some(target().composite_key(["number", "name"])),
            &[&["number", "text"]],
        );
        check(Some(target().composite_key(["number", "day"])), &[]);
    }

    #[test]
    fn a_foreign_key_that_can_not_be_checked_is_named() {
        let fields = json!({"type": "object", "properties": {
            "name": {"type": "string"}, "number": {"type": "integer"},
        }});
        let tasks = Collection::from_schema("tasks", &fields);
        let target = Collection::from_schema("target", &fields).composite_key(["number", "name"]);
        let check = |tasks: &Collection, target: &Collection, fields: [Option<&str>; 2]| {
            let named = [("tasks", tasks), ("target", target)];
            let named = named.map(|(name, one)| (Arc::from(name), Arc::new(one.clone())));
            let collections = named.into();
            let foreign_key = ForeignKey {
                collection: "tasks".into(),
                fields: fields.map(|name| name.map(str::to_owned)).into(),
                target: "target".into(),
                target_fields: ["number", "name"].map(|name| Some(name.to_owned())).into(),
            };
            let reference = Reference::of(&foreign_key, &collections)?;
            let is_partial = |one: &Reference| one.is_partly_left_to_the_database(&collections);
            Ok::<_, &str>(reference.as_ref().map(is_partial))
        };
        let both = [Some("number"), Some("name")];
        assert_eq!(check(&tasks, &target, both), Ok(Some(false)));
        let given = tasks.clone().database_defaults(["number"]);
        assert_eq!(check(&given, &target, both), Ok(Some(true)));
        check(&tasks, &target, [None, Some("name")]).unwrap_err();
        check(&tasks, &target, [Some("name"), Some("number")]).unwrap_err();
        let by_number = Collection::from_schema("target", &fields);
        check(&tasks, &by_number, both).unwrap_err();
        // Nobody can set it, or everybody sees the target.
        assert_eq!(check(&tasks, &target, [None, None]), Ok(None));
        assert_eq!(check(&tasks.clone().read_only(), &target, both), Ok(None));
        let open = target.open_to_everyone();
        assert_eq!(check(&tasks, &open, [None, Some("name")]), Ok(None));
    }

    #[test]
    fn an_id_is_made_of_the_values_of_a_reference() {
        let fields = json!({"type": "object", "properties": {
            "name": {"type": "string"}, "number": {"type": "integer"},
        }});
        let target = Collection::from_schema("target", &fields).rules(Rules::new());
        let check = |target: &Collection, values: Value, expected: Option<RecordId>| {
            let reference = Reference {
                collection: "tasks".into(),
                fields: values.as_object().unwrap().keys().cloned().collect(),
                target: Arc::new(target.clone()),
                others: Vec::new(),
            };
            let referred = reference.referred(|name| Some(values[name].clone()));
            let expected = match expected {
                Some(id) => Referred::Record(RecordKey::new("target", id), Vec::new()),
                None if values.as_object().unwrap().values().any(Value::is_null) => {
                    Referred::Nothing
                }
                None => Referred::NoRecord,
            };
            assert_eq!(referred, expected, "{values}");
        };
        check(&target, json!({"a": 7}), Some(7.into()));
        check(&target, json!({"a": null}), None);
        check(
            &target,
            json!({"a": i64::MAX.to_string()}),
            Some(i64::MAX.into()),
        );
        let texts = target.clone().text_ids();
        check(&texts, json!({"a": "x"}), Some("x".into()));
        check(&texts, json!({"a": ""}), None);
        check(&texts, json!({"a": "\0"}), None);
        let uuids = target.clone().uuid_ids();
        check(&uuids, json!({"a": "x"}), None);
        let several = target.composite_key(["number", "name"]);
        check(
            &several,
            json!({"a": 7, "b": "x,y"}),
            Some("7,x%2Cy".into()),
        );
        check(&several, json!({"a": 7, "b": null}), None);
    }
}
