//! Values of every field type are read as they were written.

use std::sync::Arc;

use serde_json::{Value, json};

use super::node::{Node, fields};
use super::{Column, Fixture, Table};

use crate::model::edit::Edit;
use crate::model::exact_number::from_json;
use crate::model::record::Fields;
use crate::schema::collection::Collection;

const FIELD_TYPES: [(&str, &str); 15] = [
    ("text", r#"{"type": "string"}"#),
    ("choice", r#"{"type": "string", "enum": ["red", "green"]}"#),
    ("time", r#"{"type": "string", "format": "date-time"}"#),
    (
        "local time",
        r#"{"type": "string", "format": "partial-date-time"}"#,
    ),
    (
        "time of day",
        r#"{"type": "string", "format": "partial-time"}"#,
    ),
    (
        "decimal",
        r#"{"type": ["string", "number"], "pattern": "^[0-9]+$"}"#,
    ),
    (
        "enum",
        r#"{"anyOf": [{"type": "integer"}, {"type": "object"}]}"#,
    ),
    ("date", r#"{"type": "string", "format": "date"}"#),
    ("uuid", r#"{"type": "string", "format": "uuid"}"#),
    ("integer", r#"{"type": "integer"}"#),
    ("number", r#"{"type": "number"}"#),
    ("boolean", r#"{"type": "boolean"}"#),
    ("object", r#"{"type": "object"}"#),
    ("array", r#"{"type": "array"}"#),
    ("anything", "true"),
];

const MAX_SAFE: i64 = (1 << 53) - 1;

async fn check<F: Fixture>(field_type: &str, values: &[Value]) {
    let (_, schema) = FIELD_TYPES
        .iter()
        .find(|(name, _)| *name == field_type)
        .expect("the field type is in the list");
    let schema: Value = serde_json::from_str(schema).expect("the schema is JSON");
    let schema = json!({"type": "object", "properties": {"value": schema}, "required": ["value"]});
    let things: Arc<Collection> = Collection::from_schema("things", &schema).into();
    let database = F::fresh().await;
    let node = Node::start(&database, [Arc::clone(&things)]).await;
    let first = node
        .change(Edit::create("things", json!({"value": values[0]})))
        .await;
    let other = Node::start(&database, [things]).await;
    // Each value is set by a patch, and is then the value of a new record.
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            let change = node
                .change(Edit::patch(first.key.clone(), json!({"value": value})))
                .await;
            assert_eq!(
                (&change.after["value"], &change.previous["value"]),
                (value, &values[at - 1])
            );
        }
        let created = node
            .change(Edit::create("things", json!({"value": value})))
            .await;
        assert_eq!(&created.after["value"], value);
        for key in [&first.key, &created.key] {
            let record = other.get(key).await.expect("the record exists");
            assert_eq!(record.fields, fields(json!({"value": value})));
        }
        let again = node
            .edit(Edit::patch(created.key.clone(), json!({"value": value})))
            .await;
        assert!(
            matches!(again, crate::Outcome::Unchanged { .. }),
            "writing {value} again changes nothing"
        );
    }
    let read: Vec<Value> = other
        .list("things")
        .await
        .into_iter()
        .skip(1)
        .map(|mut one| one.fields["value"].take())
        .collect();
    assert_eq!(read, values);
    let log = other.log("things").await;
    let logged: Vec<&Value> = log
        .iter()
        .skip(1)
        .map(|change| &change.after["value"])
        .collect();
    let twice = values.iter().enumerate().flat_map(|(at, value)| {
        if at == 0 {
            vec![value]
        } else {
            vec![value, value]
        }
    });
    assert_eq!(logged, twice.collect::<Vec<_>>());
}

pub async fn text_round_trips<F: Fixture>() {
    let long = "long ".repeat(10_000);
    let texts = [
        "",
        " ",
        "Ada",
        "o'clock; \"x\" \\ -- %",
        "naïve Ωμέγα 日本語",
        "👩‍👩‍👧‍👦 \u{1F1E9}\u{1F1EA}",
        "e\u{301}",
        "é",
        "a\nb\tc\r\n\u{1}",
        "NULL",
        "0",
        "1e3",
        "true",
        "2026-01-13",
        &long,
    ];
    check::<F>("text", &texts.map(Value::from)).await;
    check::<F>("choice", &["red", "green"].map(Value::from)).await;
}

pub async fn times_round_trip<F: Fixture>() {
    let times = [
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00.000000Z",
        "2026-01-13T10:00:00.123456Z",
        "2026-01-13T10:00:00.100000Z",
        "0001-01-01T00:00:00.000000Z",
        "9999-12-30T22:00:00.999999Z",
    ];
    check::<F>("time", &times.map(Value::from)).await;
}

pub async fn other_times_and_decimals_round_trip<F: Fixture>() {
    let times = [
        "1969-12-31T23:59:59.999999",
        "2026-01-13T10:00:00.100000",
        "0001-01-01T00:00:00.000000",
        "9999-12-31T23:59:59.999999",
    ];
    check::<F>("local time", &times.map(Value::from)).await;
    let times = ["00:00:00", "10:00:00.5", "23:59:59.999999"];
    check::<F>("time of day", &times.map(Value::from)).await;
    let decimals = ["0", "-0.05", "9.50", "12345678901234567890.12345"];
    check::<F>("decimal", &decimals.map(Value::from)).await;
    check::<F>("enum", &[json!(7), json!({"a": {"b": 1}})]).await;
}

pub async fn dates_round_trip<F: Fixture>() {
    check::<F>(
        "date",
        &[
            "2026-01-13",
            "2024-02-29",
            "0001-01-01",
            "9999-12-31",
            "1969-12-31",
        ]
        .map(Value::from),
    )
    .await;
}

pub async fn uuids_round_trip<F: Fixture>() {
    let uuids = [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "01890a5d-ac96-774b-bcce-b302099a8057",
    ];
    check::<F>("uuid", &uuids.map(Value::from)).await;
}

pub async fn integers_round_trip<F: Fixture>() {
    check::<F>(
        "integer",
        &[0, 1, -1, i64::from(i32::MAX) + 1, MAX_SAFE, -MAX_SAFE].map(Value::from),
    )
    .await;
}

pub async fn numbers_round_trip<F: Fixture>() {
    let numbers = [
        0.0,
        1.0,
        -1.0,
        0.1,
        1.0 / 3.0,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        1e22,
        MAX_SAFE as f64,
        123_456_789.123_456_78,
    ];
    check::<F>("number", &numbers.map(Value::from)).await;
}

pub async fn booleans_round_trip<F: Fixture>() {
    check::<F>("boolean", &[true, false].map(Value::from)).await;
}

pub async fn json_round_trips<F: Fixture>() {
    let objects = [
        json!({}),
        json!({"b": 1, "a": [null, {"x": 1.5}], "ü": "é"}),
    ];
    check::<F>("object", &objects).await;
    let arrays = [
        json!([]),
        json!([1, "1", 1.5, null, true, [], {}]),
        json!([[[]]]),
        json!(["a", "b"]),
        from_json(r#"[12345678901234567890123, {"a": -0.12345678901234567890123}]"#)
            .expect("it is JSON"),
    ];
    check::<F>("array", &arrays).await;
    let anything = [
        json!("text"),
        json!("null"),
        json!("1"),
        json!(1),
        json!(1.5),
        json!(true),
        json!("true"),
        json!([]),
        json!("[]"),
        json!(""),
    ];
    check::<F>("anything", &anything).await;
}

pub async fn null_round_trips_in_nullable_fields<F: Fixture>() {
    let database = F::fresh().await;
    let mut properties = fields(json!({}));
    for (name, schema) in FIELD_TYPES {
        let schema: Value = serde_json::from_str(schema).expect("the schema is JSON");
        properties.insert(
            name.to_owned(),
            json!({"anyOf": [schema, {"type": "null"}]}),
        );
    }
    properties.insert("anything".to_owned(), json!(true));
    let nulls: Fields = properties
        .keys()
        .map(|name| (name.clone(), Value::Null))
        .collect();
    let schema = json!({"type": "object", "properties": properties});
    let things: Arc<Collection> = Collection::from_schema("things", &schema).into();
    let node = Node::start(&database, [things]).await;
    let change = node.change(Edit::create("things", json!({}))).await;
    assert_eq!(change.after, nulls);
    let values = fields(json!({
        "text": "", "choice": "red", "time": "2026-01-13T10:00:00.000000Z", "date": "2026-01-13", "local time": "2026-01-13T10:00:00.000000", "time of day": "10:00:00", "decimal": "1.50", "enum": 7,
        "uuid": "01890a5d-ac96-774b-bcce-b302099a8057", "integer": 0, "number": 0.0, "boolean": false,
        "object": {}, "array": [], "anything": false,
    }));
    let key = change.key.clone();
    let change = node.change(Edit::patch(key.clone(), &values)).await;
    assert_eq!((&change.after, &change.previous), (&values, &nulls));
    assert_eq!(
        node.get(&key).await.expect("the record exists").fields,
        values
    );
    let change = node.change(Edit::patch(key.clone(), &nulls)).await;
    assert_eq!((&change.after, &change.previous), (&nulls, &values));
    assert_eq!(
        node.get(&key).await.expect("the record exists").fields,
        nulls
    );
    assert_eq!(node.log("things").await[2].previous, values);
}

pub async fn columns_can_have_any_name<F: Fixture>() {
    let database = F::fresh().await;
    let names = [
        "order", "select", "group by", "naïve", "it's", "a\"b", "Mixed", "a.b", "1st", "fields",
        "offset", "tag", "rowid_",
    ];
    let properties: Fields = names
        .iter()
        .map(|name| ((*name).to_owned(), json!({"type": "string"})))
        .collect();
    let schema = json!({"type": "object", "properties": properties, "required": names});
    let table = Table {
        key: "i d".to_owned(),
        ..Table::new("ta\"b le", names.map(Column::text))
    };
    database.create_table(table).await;
    let things = Collection::from_schema("things", &schema).key("i d");
    let others = Collection::from_schema("others", &schema).key("i d");
    let others = others.table("ta\"b le").without_capture();
    let node = Node::start(&database, [things.into(), others.into()]).await;
    for collection in ["things", "others"] {
        check_names(&node, collection, &names).await;
    }
}

async fn check_names(node: &Node, collection: &str, names: &[&str]) {
    let values: Fields = names
        .iter()
        .map(|name| ((*name).to_owned(), json!(name)))
        .collect();
    let change = node.change(Edit::create(collection, &values)).await;
    assert_eq!(change.after, values);
    let mut changed = values.clone();
    for name in names {
        let change = node
            .change(Edit::patch(change.key.clone(), json!({*name: "x"})))
            .await;
        assert_eq!(change.previous, fields(json!({*name: name})));
        changed.insert((*name).to_owned(), json!("x"));
    }
    assert_eq!(
        node.get(&change.key)
            .await
            .expect("the record exists")
            .fields,
        changed
    );
}
