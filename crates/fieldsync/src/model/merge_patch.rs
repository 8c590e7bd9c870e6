//! JSON Merge Patch (RFC 7396).

use serde_json::{Map, Value};

use crate::model::record::Fields;

/// The body of a PATCH (RFC 7396): the fields to change, with their new values.
///
/// For a field, `null` sets SQL NULL. Inside a field that contains a JSON object the patch is merged recursively, and
/// `null` removes a member, as in RFC 7396.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct MergePatch(pub(crate) Fields);

impl MergePatch {
    /// The value of a field after this patch. `None` if the patch does not name the field.
    pub(crate) fn value_of(&self, field: &str, current: &Value) -> Option<Value> {
        let patch = self.0.get(field)?;
        Some(if patch.is_null() {
            Value::Null
        } else {
            merge(current.clone(), patch)
        })
    }
}

/// RFC 7396, section 2: `MergePatch(Target, Patch)`.
fn merge(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut merged = match target {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            merged.remove(name);
        } else {
            let previous = merged.remove(name).unwrap_or(Value::Null);
            merged.insert(name.clone(), merge(previous, value));
        }
    }
    Value::Object(merged)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "reads better in the table")]
    fn check(target: Value, patch: Value, expected: Value) {
        assert_eq!(merge(target, &patch), expected);
    }

    #[test]
    fn the_examples_of_rfc_7396_appendix_a_are_merged() {
        check(json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"}));
        check(json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"}));
        check(json!({"a":"b"}), json!({"a":null}), json!({}));
        check(
            json!({"a":"b","b":"c"}),
            json!({"a":null}),
            json!({"b":"c"}),
        );
        check(json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"}));
        check(json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]}));
        check(
            json!({"a":{"b":"c"}}),
            json!({"a":{"b":"d","c":null}}),
            json!({"a":{"b":"d"}}),
        );
        check(json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]}));
        check(json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"]));
        check(json!({"a":"b"}), json!(["c"]), json!(["c"]));
        check(json!({"a":"foo"}), json!(null), json!(null));
        check(json!({"a":"foo"}), json!("bar"), json!("bar"));
        check(json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1}));
        check(json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"}));
        check(
            json!({}),
            json!({"a":{"bb":{"ccc":null}}}),
            json!({"a":{"bb":{}}}),
        );
    }

    #[test]
    fn null_sets_a_field_to_null() {
        let patch = MergePatch(json!({"a": null}).as_object().unwrap().clone());
        assert_eq!(patch.value_of("a", &json!(1)), Some(Value::Null));
        assert_eq!(patch.value_of("b", &json!(1)), None);
    }
}
