//! Fields of the types that apps have in their own structs.

use std::collections::HashMap;
use std::net::IpAddr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use fieldsync::{Collection, Engine, EngineBuilder};
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use crate::app::{App, on_every_store};

on_every_store!(with builder:
    values_of_every_type_come_back_as_they_were,
    a_value_that_does_not_fit_is_blamed_on_its_field,
);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Figure {
    Circle { radius: f64 },
    Box { width: f64, height: f64 },
    Dot,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
enum Payment {
    Cash,
    Card { last: String },
    Transfer(String, u8),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Size {
    Number(i64),
    Named(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Thing {
    at: DateTime<Utc>,
    local: NaiveDateTime,
    day: NaiveDate,
    time: Option<NaiveTime>,
    price: Decimal,
    discount: Option<Decimal>,
    site: Url,
    address: IpAddr,
    initial: char,
    place: [f64; 2],
    pair: (String, i32),
    figure: Figure,
    payment: Option<Payment>,
    size: Size,
    counts: HashMap<String, u32>,
    #[schemars(length(min = 3, max = 20))]
    name: String,
    #[schemars(email)]
    mail: String,
    #[schemars(regex(pattern = r"^[A-Z]{2}\d{4}$"))]
    code: String,
    #[schemars(range(min = 1, max = 99))]
    age: u8,
    #[schemars(length(max = 2))]
    tags: Vec<String>,
}

fn thing() -> Thing {
    Thing {
        at: "2026-01-13T10:00:00.123456Z".parse().unwrap(),
        local: "2026-01-13T10:00:00.5".parse().unwrap(),
        day: "2026-01-13".parse().unwrap(),
        time: Some("10:00:00.25".parse().unwrap()),
        price: "12345678901234.50".parse().unwrap(),
        discount: None,
        site: "https://example.com/a?b=c".parse().unwrap(),
        address: "2001:db8::1".parse().unwrap(),
        initial: 'Ä',
        place: [50.7, 7.1],
        pair: ("a".into(), -1),
        figure: Figure::Box {
            width: 1.0,
            height: 2.5,
        },
        payment: Some(Payment::Transfer("IBAN".into(), 7)),
        size: Size::Named("large".into()),
        counts: HashMap::from([("a".into(), 1)]),
        name: "Ada".into(),
        mail: "ada@example.com".into(),
        code: "AB1234".into(),
        age: 36,
        tags: vec!["x".into()],
    }
}

fn builder() -> EngineBuilder {
    Engine::builder().collection(Collection::of::<Thing>("things").open_to_everyone())
}

async fn values_of_every_type_come_back_as_they_were(app: App) {
    let things = app.engine.collection::<Thing>("things");
    let made = things.create(thing()).await.unwrap();
    assert_eq!(made.fields, thing());
    let other = Thing {
        at: Utc::now(),
        local: Utc::now().naive_utc(),
        time: None,
        price: "-0.05".parse().unwrap(),
        discount: Some("7".parse().unwrap()),
        address: "10.0.0.1".parse().unwrap(),
        figure: Figure::Dot,
        payment: Some(Payment::Cash),
        size: Size::Number(-3),
        tags: Vec::new(),
        ..thing()
    };
    let expected = other.clone();
    let set = other.clone();
    let updated = things.update(made.id.clone(), move |thing| *thing = set.clone());
    let updated = updated.await.unwrap().fields;
    // Nine digits of a second become six.
    let lost = expected.at - updated.at;
    assert!(
        (0..1000).contains(&lost.num_nanoseconds().unwrap()),
        "{lost}"
    );
    let lost = expected.local - updated.local;
    assert!(
        (0..1000).contains(&lost.num_nanoseconds().unwrap()),
        "{lost}"
    );
    let expected = Thing {
        at: updated.at,
        local: updated.local,
        ..expected
    };
    assert_eq!(updated, expected);
    assert_eq!(
        things.get(made.id.clone()).await.unwrap().unwrap().fields,
        expected
    );
    // What a GET gave makes an equal record.
    let mut got = app.get("/api/things/1/").await;
    got.as_object_mut().unwrap().remove("id");
    let (status, copy) = app.send("POST", "/api/things/", &got).await;
    assert_eq!(status, 201, "{copy}");
    assert_eq!(things.get(2).await.unwrap().unwrap().fields, expected);
    let unchanged = app.send("PATCH", "/api/things/2/", &got).await;
    assert_eq!((unchanged.0, &unchanged.1["at"]), (200, &copy["at"]));
}

async fn a_value_that_does_not_fit_is_blamed_on_its_field(app: App) {
    let things = app.engine.collection::<Thing>("things");
    things.create(thing()).await.unwrap();
    for (field, value, message) in [
        (
            "local",
            json!("2026-01-13T10:00:00Z"),
            "must be a time without an offset, like 2026-01-13T10:00:00",
        ),
        (
            "local",
            json!("yesterday"),
            "must be a time without an offset, like 2026-01-13T10:00:00",
        ),
        (
            "time",
            json!("25:00:00"),
            "must be a time of day like 10:00:00",
        ),
        ("time", json!(7), "must be a time of day like 10:00:00"),
        ("price", json!("1e3"), "must be a decimal number like 9.95"),
        ("price", json!("NaN"), "must be a decimal number like 9.95"),
        ("price", json!(true), "must be a decimal number like 9.95"),
        (
            "site",
            json!("example.com"),
            "must be a URI such as https://example.com/",
        ),
        ("address", json!("10.0.0.256"), "must be an IP address"),
        ("initial", json!("ab"), "must have at most 1 characters"),
        ("initial", json!(""), "must not be empty"),
        ("place", json!([1, 2, 3]), "must have at most 2 items"),
        ("place", json!([1]), "must have at least 2 items"),
        ("pair", json!(["a"]), "must have 2 items"),
        ("pair", json!(["a", "b"]), "/1: must be a whole number"),
        (
            "figure",
            json!({"kind": "line"}),
            "has none of the forms that are allowed",
        ),
        (
            "figure",
            json!({"kind": "circle", "radius": "wide", "width": null, "height": null}),
            "/radius: must be a number",
        ),
        (
            "payment",
            json!("Cheque"),
            "has none of the forms that are allowed",
        ),
        (
            "payment",
            json!({"Card": {"last": 1}}),
            "/Card/last: must be a string",
        ),
        ("size", json!([]), "has none of the forms that are allowed"),
        (
            "counts",
            json!({"a": -1}),
            "/a: must be from 0 to 4294967295",
        ),
        ("name", json!("Al"), "must have at least 3 characters"),
        ("mail", json!("ada"), "must be an e-mail address"),
        (
            "code",
            json!("ab12"),
            r"must match the pattern ^[A-Z]{2}\d{4}$",
        ),
        ("age", json!(100), "must be from 1 to 99"),
        ("tags", json!(["a", "b", "c"]), "must have at most 2 items"),
    ] {
        let (status, problem) = app
            .send("PATCH", "/api/things/1/", &json!({field: value}))
            .await;
        assert_eq!(
            (status, &problem["errors"][field]),
            (422, &json!([message])),
            "{field}: {value} {problem}"
        );
    }
    // A decimal may be sent as a number, with every digit.
    let request = app.request("PATCH", "/api/things/1/");
    let request = request.header("content-type", "application/merge-patch+json");
    let reply = request.body(r#"{"price": 12345678901234567890.25}"#);
    let reply: Value = reply.send().await.unwrap().json().await.unwrap();
    assert_eq!(reply["price"], "12345678901234567890.25");
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Large {
    signed: i64,
    unsigned: u64,
    maybe: Option<i64>,
    state: State,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "t", content = "c")]
enum State {
    #[default]
    Off,
    Named(String),
}

fn large() -> EngineBuilder {
    Engine::builder().collection(Collection::of::<Large>("large").open_to_everyone())
}

mod of_64_bits {
    use super::*;

    on_every_store!(with large:
        integers_of_64_bits_are_exact_in_rust_and_strings_where_json_would_round_them,
        another_form_of_an_enum_takes_the_place_of_the_former,
    );
}

async fn integers_of_64_bits_are_exact_in_rust_and_strings_where_json_would_round_them(app: App) {
    let handle = app.engine.collection::<Large>("large");
    let wanted = Large {
        signed: i64::MIN,
        unsigned: i64::MAX.unsigned_abs(),
        maybe: Some(115_000_000_000_000_001),
        state: State::Off,
    };
    let made = handle.create(wanted.clone()).await.unwrap();
    assert_eq!(made.fields, wanted);
    let shown = app.get("/api/large/1/").await;
    assert_eq!(shown["signed"], "-9223372036854775808");
    assert_eq!(shown["maybe"], "115000000000000001");
    let (status, patched) = app
        .send(
            "PATCH",
            "/api/large/1/",
            &json!({"signed": "9007199254740993", "maybe": 7}),
        )
        .await;
    assert_eq!(
        (status, &patched["signed"], &patched["maybe"]),
        (200, &json!("9007199254740993"), &json!(7))
    );
    let set = handle.update(1, |large| large.unsigned -= 1).await.unwrap();
    assert_eq!(set.fields.signed, 9_007_199_254_740_993);
    assert_eq!(set.fields.unsigned, i64::MAX.unsigned_abs() - 1);
    let (status, problem) = app
        .send("PATCH", "/api/large/1/", &json!({"unsigned": "-1"}))
        .await;
    assert_eq!(
        (status, &problem["errors"]["unsigned"]),
        (422, &json!(["must be from 0 to 9223372036854775807"]))
    );
}

async fn another_form_of_an_enum_takes_the_place_of_the_former(app: App) {
    let handle = app.engine.collection::<Large>("large");
    handle
        .create(Large {
            state: State::Named("q".into()),
            ..Large::default()
        })
        .await
        .unwrap();
    let (status, patched) = app
        .send("PATCH", "/api/large/1/", &json!({"state": {"t": "Off"}}))
        .await;
    assert_eq!((status, &patched["state"]), (200, &json!({"t": "Off"})));
    assert_eq!(
        handle.get(1).await.unwrap().unwrap().fields.state,
        State::Off
    );
}
