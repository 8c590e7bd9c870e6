//! The bodies of the fuzz targets in `fuzz/`. The tests at the foot run each of them on a few random inputs.
//!
//! A body reads any bytes as one kind of input, and panics if what it finds contradicts itself.

use std::fmt;
use std::sync::OnceLock;

use ::http::request::Parts;
use ::http::{HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::engine::engine::Engine;
use crate::http::EventId;
use crate::live::since::Since;
use crate::model::cursor_key::CursorKey;
use crate::model::cursor_seal::CursorKeys;
use crate::model::exact_number::to_json_bytes;
use crate::model::percent::{percent_decode, percent_encode};
use crate::model::principal::Principal;
use crate::model::query::Query;
use crate::model::record::Record;
use crate::protocol::{ClientMessage, Start, error_message};
use crate::schema::collection::Collection;
use crate::schema::field_type::Schema;
use crate::schema::grant::Grant;
use crate::schema::json::read_object;
use crate::schema::json_schema::read_fields;
use crate::store::memory::MemoryStore;
use crate::websocket::accept;

/// Strict JSON: what is accepted is JSON, and is read again as it was written.
pub fn strict_json(input: &[u8]) {
    let Ok(fields) = read_object(input) else {
        return;
    };
    let lenient = serde_json::from_slice::<Names>(input);
    let Names(mut names) = lenient.expect("strict JSON is JSON");
    names.sort();
    assert!(
        names.iter().eq(fields.keys()),
        "no name is lost or repeated"
    );
    let written = to_json_bytes(&fields);
    let read = read_object(&written).expect("what was written is strict JSON");
    assert_eq!(read, fields);
    assert_eq!(to_json_bytes(&read), written);
}

/// The names of an object's members, as often as they occur.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfObject;
        impl<'de> Visitor<'de> for OfObject {
            type Value = Names;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, _)) = map.next_entry::<String, &RawValue>()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(OfObject)
    }
}

/// Cursors, places in snapshots and ids of events: what is accepted is read again as it was written.
pub fn cursor(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let keys = CursorKeys::new([CursorKey::from([7; 32])]);
    if let Ok(place) = keys.open("notes", text) {
        assert_eq!(keys.seal("notes", &place), text);
    }
    let collection = Collection::from_schema("notes", &json!({"type": "object"}));
    let _ = Since::cursor_or_resume(text, &collection, &keys);
    for topics in [1, 2, 3] {
        if let Some(id) = EventId::read(text, topics) {
            assert_eq!(EventId::read(&id.to_string(), topics), Some(id));
        }
    }
}

/// The query of an address: what was decoded is encoded and decoded again, and a query that was read is read again as it was written.
/// One that fits a collection decides on a record.
pub fn query(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Some(decoded) = percent_decode(text) {
        assert_eq!(percent_decode(&percent_encode(&decoded)), Some(decoded));
    }
    let Ok(query) = Query::read(text, &["limit"]) else {
        return;
    };
    let written = query.to_string();
    let again = Query::read(&written, &[]).expect("what was written can be read");
    assert_eq!(again.to_string(), written);
    let schema = json!({"type": "object", "properties": {
        "a": {"type": ["integer", "null"]},
        "b": {"type": "string"},
        "c": {"type": "string", "format": "date-time"},
    }});
    let collection = Collection::from_schema("notes", &schema);
    let Ok(grant) = Grant::full().narrowed(&query, &collection) else {
        return;
    };
    let same = Grant::full().narrowed(&again, &collection);
    assert_eq!(grant.identity(), same.expect("it fits").identity());
    let fields = json!({"a": null, "b": "x", "c": "2026-01-13T10:00:00.000000Z"});
    let record = Record {
        id: 1.into(),
        fields: fields.as_object().expect("an object").clone(),
    };
    grant.shows(&record);
}

/// Messages of a WebSocket's client: one that is refused is answered with an error, which is a line of JSON.
pub fn client_message(input: &[u8]) {
    match ClientMessage::read(input) {
        Ok(ClientMessage::Subscribe(subscribe)) => {
            if let Start::Since(text) | Start::Resume(text) = subscribe.start {
                cursor(text.as_bytes());
            }
        }
        Ok(ClientMessage::Sync { cursor: text }) => cursor(text.as_bytes()),
        Ok(ClientMessage::Unsubscribe { .. }) => {}
        Err(problem) => {
            assert!(problem.status.is_client_error());
            let answer = error_message(None, &problem);
            assert!(!answer.contains(&b'\n'));
            let answer: Value = serde_json::from_slice(&answer).expect("an answer is JSON");
            assert_eq!(answer["type"], "error");
        }
    }
}

/// Handshakes of WebSockets: a line with the method and the address, and a line for each header.
///
/// One that is accepted has what RFC 6455 asks for, and is not from a foreign page.
pub fn handshake(input: &[u8]) {
    static ENGINE: OnceLock<(Runtime, Engine)> = OnceLock::new();
    let (_, engine) = ENGINE.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let notes = Collection::from_schema("notes", &json!({"type": "object"}));
        let builder = Engine::builder()
            .collection(notes.open_to_everyone())
            .feed("notes", |change| json!(change.record))
            .allow_origin("https://*.friend.example")
            .store(MemoryStore::new());
        let engine = runtime.block_on(builder.start());
        (runtime, engine.expect("the engine starts"))
    });
    let Some(parts) = request_head(input) else {
        return;
    };
    let (response, accepted) = accept(engine, &Principal::anonymous(), &parts);
    assert_eq!(accepted.is_some(), response.status() == 101);
    assert!(accepted.is_some() || response.status().is_client_error());
    if accepted.is_none() {
        return;
    }
    assert_eq!(parts.method, Method::GET);
    let text = |name| {
        let mut values = parts.headers.get_all(name).iter();
        let value = values
            .next()
            .map(|value| value.to_str().unwrap_or_default());
        assert!(
            values.next().is_none(),
            "a header that counts is given once"
        );
        value.unwrap_or_default().to_ascii_lowercase()
    };
    assert_eq!(text(header::SEC_WEBSOCKET_VERSION), "13");
    assert_eq!(text(header::SEC_WEBSOCKET_KEY).len(), 24);
    let host = text(header::HOST);
    if parts.headers.contains_key(header::ORIGIN) {
        let origin = text(header::ORIGIN);
        let (_, page) = origin.split_once("://").expect("a page has a scheme");
        let host_of = |authority: &str| match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host.to_owned(),
            _ => authority.to_owned(),
        };
        let (page, host) = (host_of(page), host_of(&host));
        assert!(
            page == host || page.ends_with(".friend.example"),
            "{origin} may not open a WebSocket at {host}"
        );
    }
}

/// The head of a request. `None` if no server would pass it on.
fn request_head(input: &[u8]) -> Option<Parts> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let mut words = first.split(|byte| *byte == b' ');
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(words.next()?).ok()?;
    parts.uri = Uri::try_from(words.next()?).ok()?;
    if words.next() == Some(b"HTTP/1.0") {
        parts.version = Version::HTTP_10;
    }
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        parts.headers.append(name, value);
    }
    Some(parts)
}

/// JSON Schemas: a field that was read is written as a schema that accepts the same values, and what it stores it accepts again.
pub fn json_schema(input: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    let Ok(fields) = read_fields(&document) else {
        return;
    };
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!("x"),
        json!("12"),
        json!([]),
        json!([1]),
        json!({}),
        document,
    ];
    for field in fields {
        let schema = field.schema.to_json_schema();
        let again = Schema::parse(&schema, &Map::new()).expect("a schema that was written is read");
        for value in &values {
            let checked = field.schema.check(value);
            assert_eq!(
                again.check(value).is_ok(),
                checked.is_ok(),
                "{schema}: {value}"
            );
            if let Ok(stored) = checked {
                assert_eq!(field.schema.check(&stored), Ok(stored));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// Bytes that are made of these words most of the time.
    fn words(words: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            19 => select(words).prop_map(|word| word.as_bytes().to_vec()),
            1 => vec(any::<u8>(), 1..3),
        ];
        vec(word, 0..most).prop_map(|words| words.concat())
    }

    const MEMBERS: &[&str] = &[
        r#""a":1"#,
        r#""\u0061":null"#,
        r#""b":-0.50"#,
        r#""c":[1e400,12345678901234567890.10]"#,
        r#""d":{"x":"\ud83d\ude00"}"#,
        r#""e":"\ud800""#,
        r#""\u0000":1"#,
        r#""f":{"x":1,"x":2}"#,
        r#" "g" : true "#,
        r#""h":01"#,
        r#""i":"x","#,
        r#""j":[[{}]]"#,
    ];
    const TEXTS: &[&str] = &[
        "A",
        "_",
        "-",
        "~",
        ",",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "é",
        "%",
        "%25",
        "41",
        "%41",
        "%C3%A9",
        "=",
    ];
    const QUERIES: &[&str] = &[
        "a=eq.1",
        "b=in.(x,%22y%22)",
        "c=not.lt.2026-01-13T10:00:00Z",
        "&",
        "and=(",
        "or(",
        "a.is.null",
        "b.neq.x",
        ",",
        ")",
        "select=b",
        "limit=5",
        "%25",
    ];
    const MESSAGES: &[&str] = &[
        "{\"type\":\"subscribe\"",
        "{\"type\":\"unsubscribe\"",
        "{\"type\":\"sync\"",
        ",\"cursor\":\"AAAA\"",
        ",\"sub\":\"notes\"",
        ",\"topic\":\"notes\"",
        ",\"topic\":1",
        ",\"since\":\"AAAA\"",
        ",\"resume\":\"AAAA\"",
        ",\"since\":null",
        "}",
        "}",
        "}",
        "[",
        "\"",
    ];
    const HEAD: &[u8] =
        b"GET / HTTP/1.1\nupgrade: websocket\nconnection: Upgrade\nhost: app.example\n\
        sec-websocket-version: 13\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n";
    const HANDSHAKE: &[&str] = &[
        "origin: https://app.example\n",
        "origin: https://evil.example\n",
        "origin: https://a.friend.example\n",
        "origin: null\n",
        "host: evil.example\n",
        "x-forwarded-proto: https\n",
        "sec-websocket-protocol: fieldsync.v1\n",
        "sec-websocket-version: 8\n",
        "connection: close\n",
    ];
    const FIELDS: &[&str] = &[
        r#""a":{"type":"string","maxLength":1}"#,
        r#""b":{"type":["integer","null"],"minimum":0}"#,
        r##""c":{"$ref":"#/$defs/d"}"##,
        r#""d":{"enum":["x"],"default":"x"}"#,
        r#""e":{"type":"string","format":"date-time"}"#,
        r#""f":{"type":"string","pattern":"^x"}"#,
        r##""g":{"anyOf":[{"$ref":"#/$defs/d"},{"type":"null"}]}"##,
        r#""h":{"type":"object","properties":{"x":{}}}"#,
        r#""i":{"type":"number"}"#,
        r#""j":true"#,
        r#""k":{"type":"boolean","readOnly":true}"#,
        r##""l":{"$ref":"#/$defs/l"}"##,
        r#""m":{"type":["string","integer"]}"#,
    ];
    const DEFINITIONS: &[u8] = br##"},"required":["a"],"$defs":{"d":{"type":"array","items":{"type":"number"}},"l":{"$ref":"#/$defs/l"}}}"##;

    proptest! {
        #[test]
        fn strict_json_is_read_as_it_was_written(members in vec(select(MEMBERS), 0..5), noise: Vec<u8>) {
            strict_json(format!("{{{}}}", members.join(",")).as_bytes());
            strict_json(&noise);
        }

        #[test]
        fn cursors_are_read_as_they_were_written(input in words(TEXTS, 20), noise: String) {
            cursor(&input);
            cursor(noise.as_bytes());
        }

        #[test]
        fn queries_are_read_as_they_were_written(input in words(QUERIES, 12), noise: String) {
            query(&input);
            query(noise.as_bytes());
        }

        #[test]
        fn messages_of_clients_are_understood_or_refused(input in words(MESSAGES, 12), noise: Vec<u8>) {
            client_message(&input);
            client_message(&noise);
        }

        #[test]
        fn handshakes_of_foreign_pages_are_refused(input in words(HANDSHAKE, 5), noise: Vec<u8>) {
            handshake(&[HEAD, &*input].concat());
            handshake(&noise);
        }

        #[test]
        fn schemas_are_understood_or_refused(fields in vec(select(FIELDS), 0..5), noise: Vec<u8>) {
            let fields = fields.join(",");
            json_schema(&[br#"{"type":"object","properties":{"#, fields.as_bytes(), DEFINITIONS].concat());
            json_schema(&noise);
        }
    }
}
