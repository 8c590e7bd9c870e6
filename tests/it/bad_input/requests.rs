//! Requests to the REST routes.

use fieldsync::{Edit, EngineError, Refusal};
use serde_json::{Value, json};

use crate::app::App;

use super::{ask, state};

/// Part of every value in a request. No response contains it.
pub(super) const SENT: &str = "S3NT";

/// A request and its response.
struct Row {
    name: &'static str,
    request: Vec<u8>,
    /// The same edit for the Rust API, if there is one.
    edit: Option<Edit>,
    status: u16,
    /// What the problem's `errors` or `detail` must name.
    blames: Option<&'static str>,
    /// A header that the response must have.
    header: Option<(&'static str, &'static str)>,
}

impl Row {
    fn blames(self, field: &'static str) -> Self {
        Self {
            blames: Some(field),
            ..self
        }
    }

    fn header(self, name: &'static str, value: &'static str) -> Self {
        Self {
            header: Some((name, value)),
            ..self
        }
    }
}

fn row(name: &'static str, status: u16, request: impl Into<Vec<u8>>) -> Row {
    Row {
        name,
        request: request.into(),
        edit: None,
        status,
        blames: None,
        header: None,
    }
}

/// A request that closes its connection.
fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let headers = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let headers: String = headers.collect();
    let head = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}");
    let length = match body.len() {
        0 => String::new(),
        length => format!("content-length: {length}\r\n"),
    };
    [head.as_bytes(), length.as_bytes(), b"\r\n", body].concat()
}

const USER: &str = "/api/users/1/";
const JSON: (&str, &str) = ("content-type", "application/json");

fn patch(body: impl AsRef<[u8]>) -> Vec<u8> {
    request(&format!("PATCH {USER}"), &[JSON], body.as_ref())
}

fn patch_with(headers: &[(&str, &str)]) -> Vec<u8> {
    let body = format!(r#"{{"first_name":"{SENT}"}}"#);
    request(&format!("PATCH {USER}"), headers, body.as_bytes())
}

fn post(body: impl AsRef<[u8]>) -> Vec<u8> {
    request("POST /api/users/", &[JSON], body.as_ref())
}

fn post_thing(body: impl AsRef<[u8]>) -> Vec<u8> {
    request("POST /api/things/", &[JSON], body.as_ref())
}

fn get(path: &str) -> Vec<u8> {
    request(&format!("GET {path}"), &[], b"")
}

/// A row about a field with an invalid value.
fn of_field(name: &'static str, (request, edit): (Vec<u8>, Option<Edit>)) -> Row {
    let row = row(name, 422, request);
    Row { edit, ..row }
}

/// The body as serde_json reads it, unless it refuses or rounds it.
fn fields(body: &str) -> Option<Value> {
    let fields: Option<Value> = serde_json::from_str(body).ok();
    fields.filter(|fields| serde_json::to_string(fields).unwrap() == body)
}

fn patch_fields(body: impl AsRef<str>) -> (Vec<u8>, Option<Edit>) {
    let edit = |fields| Edit::patch(("users", 1), fields);
    (patch(body.as_ref()), fields(body.as_ref()).map(edit))
}

fn create_user(body: impl AsRef<str>) -> (Vec<u8>, Option<Edit>) {
    let edit = |fields| Edit::create("users", fields);
    (post(body.as_ref()), fields(body.as_ref()).map(edit))
}

fn create_thing(body: impl AsRef<str>) -> (Vec<u8>, Option<Edit>) {
    let edit = |fields| Edit::create("things", fields);
    (post_thing(body.as_ref()), fields(body.as_ref()).map(edit))
}

/// Bodies that are not JSON, or not an object.
fn malformed() -> Vec<Row> {
    let utf_16: Vec<u8> = "{\"first_name\":\"S3NT\"}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let deep = |depth: usize| {
        format!(
            "{{\"settings\":{}{}}}",
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    vec![
        row("H1 an empty body", 400, patch("")),
        row(
            "H2 JSON that is cut off",
            400,
            patch("{\"first_name\":\"S3NT"),
        )
        .blames("line 1 column"),
        row(
            "H3 two documents",
            400,
            patch("{\"first_name\":\"S3NT\"}{}"),
        ),
        row(
            "H3 text after the document",
            400,
            patch("{\"first_name\":\"S3NT\"}x"),
        ),
        row("H4 NaN", 400, post_thing("{\"ratio\":NaN}")),
        row("H4 Infinity", 400, post_thing("{\"ratio\":-Infinity}")),
        row(
            "H4 a hexadecimal number",
            400,
            post_thing("{\"ratio\":0x1}"),
        ),
        row("H4 a leading zero", 400, post_thing("{\"ratio\":01}")),
        row("H4 a plus sign", 400, post_thing("{\"ratio\":+1}")),
        row(
            "H4 a number without digits",
            400,
            post_thing("{\"ratio\":-}"),
        ),
        row("H5 not UTF-8", 400, patch(b"{\"first_name\":\"S3NT\xff\"}")),
        row(
            "H5 an overlong encoding",
            400,
            patch(b"{\"first_name\":\"S3NT\xc0\xaf\"}"),
        ),
        row("H5 UTF-16", 400, patch(utf_16)),
        row(
            "H5 a byte order mark",
            400,
            patch("\u{feff}{\"first_name\":\"S3NT\"}"),
        ),
        row(
            "H6 a lone surrogate",
            400,
            patch(r#"{"first_name":"S3NT\ud800"}"#),
        ),
        row(
            "H6 surrogates in the wrong order",
            400,
            patch(r#"{"first_name":"S3NT\udc00\ud800"}"#),
        ),
        row(
            "H8 a duplicate name",
            400,
            patch(r#"{"first_name":"S3NT","first_name":"S3NT"}"#),
        )
        .blames("first_name"),
        row(
            "H8 a duplicate name, once escaped",
            400,
            patch(r#"{"first_name":"S3NT","first\u005fname":"S3NT"}"#),
        )
        .blames("first_name"),
        row(
            "H8 a duplicate name in a nested object",
            400,
            post_thing(r#"{"settings":{"a":"S3NT","a":1}}"#),
        ),
        row("H9 an array", 400, patch("[]")),
        row(
            "H9 an array of an object",
            400,
            patch("[{\"first_name\":\"S3NT\"}]"),
        ),
        row("H9 a string", 400, patch("\"S3NT\"")),
        row("H9 a number", 400, patch("1")),
        row("H9 true", 400, patch("true")),
        row("H9 null", 400, patch("null")),
        row("H9 null to create", 400, post("null")),
        row("H10 65 levels", 400, post_thing(deep(64))).blames("settings"),
        row("H10 129 levels", 400, post_thing(deep(129))).blames("settings"),
        row("H10 100,000 levels", 400, post_thing(deep(100_000))).blames("settings"),
        row(
            "H10 100,000 objects that are not closed",
            400,
            patch("{\"a\":".repeat(100_000)),
        ),
        row(
            "H10 100,000 arrays as the body",
            400,
            patch("[".repeat(100_000)),
        ),
    ]
}

/// JSON objects whose fields are invalid.
fn invalid() -> Vec<Row> {
    let long = |text: &str, times: usize| format!("{{\"first_name\":\"{}\"}}", text.repeat(times));
    let named = |name: &str| format!("{{{}:\"S3NT\"}}", Value::from(name));
    vec![
        of_field(
            "H7 NUL in a value",
            patch_fields(r#"{"first_name":"S3NT\u0000"}"#),
        )
        .blames("first_name"),
        row(
            "H7 NUL in a name",
            422,
            patch(r#"{"first_name\u0000":"S3NT"}"#),
        )
        .blames("first_name\\u0000"),
        of_field(
            "H7 NUL in a nested value",
            create_thing(r#"{"settings":{"a":["S3NT\u0000"]}}"#),
        )
        .blames("settings"),
        of_field("H11 1e400", create_thing("{\"ratio\":1e400}")).blames("ratio"),
        of_field("H11 2^53 + 1", create_thing("{\"ratio\":9007199254740993}")).blames("ratio"),
        of_field(
            "H11 2^53 + 1 for an integer",
            create_thing("{\"count\":9007199254740993}"),
        )
        .blames("count"),
        of_field(
            "H11 23 digits",
            create_thing("{\"ratio\":12345678901234567890123}"),
        )
        .blames("ratio"),
        of_field(
            "H11 1e401 in a nested value",
            create_thing("{\"settings\":{\"a\":[1e401]}}"),
        )
        .blames("settings"),
        of_field(
            "H11 2^31 for 32 bits",
            create_thing("{\"count\":2147483648}"),
        )
        .blames("count"),
        of_field(
            "H11 a fraction for an integer",
            create_thing("{\"count\":1.5}"),
        )
        .blames("count"),
        of_field(
            "H12 a number for a string",
            patch_fields("{\"first_name\":5}"),
        )
        .blames("first_name"),
        of_field(
            "H12 a boolean for a string",
            patch_fields("{\"first_name\":true}"),
        )
        .blames("first_name"),
        of_field(
            "H12 an array for a string",
            patch_fields("{\"first_name\":[\"S3NT\"]}"),
        )
        .blames("first_name"),
        of_field(
            "H12 an object for a string",
            patch_fields("{\"first_name\":{\"a\":\"S3NT\"}}"),
        )
        .blames("first_name"),
        of_field(
            "H12 a string for a boolean",
            create_thing("{\"flag\":\"true\"}"),
        )
        .blames("flag"),
        of_field("H12 a number for a boolean", create_thing("{\"flag\":1}")).blames("flag"),
        of_field(
            "H12 a string for a number",
            create_thing("{\"ratio\":\"S3NT\"}"),
        )
        .blames("ratio"),
        of_field("H12 an invalid time", create_thing("{\"due\":\"S3NT\"}")).blames("due"),
        of_field(
            "H12 a 30th of February",
            create_thing("{\"due\":\"2026-02-30T10:00:00Z\"}"),
        )
        .blames("due"),
        of_field(
            "H12 null where null is not allowed",
            patch_fields("{\"first_name\":null}"),
        )
        .blames("first_name"),
        of_field("H12 null to create", create_user("{\"first_name\":null}")).blames("first_name"),
        of_field(
            "H12 one bad field beside a good one",
            patch_fields("{\"first_name\":\"S3NT\",\"last_name\":5}"),
        )
        .blames("last_name"),
        of_field(
            "H13 an unknown field",
            patch_fields("{\"nickname\":\"S3NT\"}"),
        )
        .blames("nickname"),
        of_field(
            "H13 an unknown field to create",
            create_user("{\"nickname\":\"S3NT\"}"),
        )
        .blames("nickname"),
        of_field(
            "H13 a name in a different case",
            patch_fields("{\"First_name\":\"S3NT\"}"),
        )
        .blames("First_name"),
        of_field("H14 another id", patch_fields("{\"id\":2}")).blames("id"),
        of_field("H14 an id to create", create_user("{\"id\":7}")).blames("id"),
        of_field(
            "H14 a field that the server sets",
            patch_fields("{\"created_at\":\"2026-01-13T10:00:00Z\"}"),
        )
        .blames("created_at"),
        of_field(
            "H14 the same to create",
            create_user("{\"updated_at\":\"2026-01-13T10:00:00Z\"}"),
        )
        .blames("updated_at"),
        of_field(
            "H14 a column of the log",
            patch_fields("{\"version\":1,\"owner\":\"S3NT\"}"),
        )
        .blames("version"),
        of_field("H15 __proto__", patch_fields(named("__proto__"))).blames("__proto__"),
        of_field("H15 constructor", patch_fields(named("constructor"))).blames("constructor"),
        of_field("H15 prototype", patch_fields(named("prototype"))).blames("prototype"),
        of_field(
            "H16 SQL as a name",
            patch_fields(named("first_name\" = 'x'; drop table users; --")),
        ),
        of_field("H16 a quote as a name", patch_fields(named("\""))).blames("\""),
        of_field("H16 a percent sign as a name", patch_fields(named("%"))).blames("%"),
        of_field("H16 an empty name", patch_fields(named(""))).blames(""),
        of_field(
            "H16 a name of 10 KB",
            patch_fields(named(&"n".repeat(10_000))),
        ),
        of_field("H17 101 characters", patch_fields(long("x", 101))).blames("first_name"),
        of_field(
            "H17 101 characters of four bytes",
            patch_fields(long("\u{1F600}", 101)),
        )
        .blames("first_name"),
        of_field(
            "H17 1 MB of combining marks",
            patch_fields(long("\u{0301}", 500_000)),
        )
        .blames("first_name"),
    ]
}

/// Methods, headers and sizes: what is checked before the body.
fn headers() -> Vec<Row> {
    let chunked = |chunks: usize| {
        let head = format!(
            "PATCH {USER} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        format!("{head}{}", chunk.repeat(chunks))
    };
    let announced = |more: &str| {
        format!(
            "PATCH {USER} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1048577\r\n{more}\r\n"
        )
    };
    let merge_patch = "application/merge-patch+json, application/json";
    let refused_media_type = |name, headers: &[(&str, &str)]| {
        row(name, 415, patch_with(headers)).header("accept-patch", merge_patch)
    };
    let many: Vec<(String, String)> = (0..40)
        .map(|number| (format!("x-many-{number}"), "v".repeat(500)))
        .collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    vec![
        row(
            "H18 a body over the limit, sent whole",
            413,
            post(" ".repeat(6 << 20)),
        )
        .header("connection", "close"),
        row("H18 a body over the limit, announced", 413, announced(""))
            .header("connection", "close"),
        row("H19 a body over the limit, in chunks", 413, chunked(17)).header("connection", "close"),
        row(
            "H20 a compressed body",
            415,
            patch_with(&[JSON, ("content-encoding", "gzip")]),
        )
        .header("accept-encoding", "identity"),
        row(
            "H21 an unknown coding",
            415,
            patch_with(&[JSON, ("content-encoding", "S3NT")]),
        )
        .header("accept-encoding", "identity"),
        refused_media_type("H22 plain text", &[("content-type", "text/plain")]),
        refused_media_type(
            "H22 a form",
            &[("content-type", "application/x-www-form-urlencoded")],
        ),
        refused_media_type("H22 no media type", &[]),
        refused_media_type("H22 an empty media type", &[("content-type", "")]),
        refused_media_type("H22 two media types", &[JSON, JSON]),
        refused_media_type(
            "H22 a longer media type",
            &[("content-type", "application/json-seq")],
        ),
        refused_media_type(
            "H23 another charset",
            &[("content-type", "application/json; charset=latin1")],
        ),
        refused_media_type(
            "H24 JSON Patch",
            &[("content-type", "application/json-patch+json")],
        ),
        row(
            "H22 no media type to create",
            415,
            request("POST /api/users/", &[], b"{}"),
        )
        .header("accept", "application/json"),
        row(
            "H22 a merge patch to create",
            415,
            request(
                "POST /api/users/",
                &[("content-type", "application/merge-patch+json")],
                b"{}",
            ),
        ),
        row(
            "H28 PUT",
            405,
            request(&format!("PUT {USER}"), &[JSON], b"{}"),
        )
        .header("allow", "GET, HEAD, PATCH, DELETE, OPTIONS"),
        row(
            "H28 POST to a record",
            405,
            request(&format!("POST {USER}"), &[JSON], b"{}"),
        )
        .header("allow", "GET, HEAD, PATCH, DELETE, OPTIONS"),
        row(
            "H28 DELETE of a collection",
            405,
            request("DELETE /api/users/", &[], b""),
        )
        .header("allow", "GET, HEAD, POST, OPTIONS"),
        row("H28 TRACE", 405, request("TRACE /api/users/", &[], b""))
            .header("allow", "GET, HEAD, POST, OPTIONS"),
        row(
            "H28 an unknown method",
            405,
            request("S3NT /api/users/", &[], b""),
        )
        .header("allow", "GET, HEAD, POST, OPTIONS"),
        row(
            "H28 a method in lower case",
            405,
            request("get /api/users/", &[], b""),
        )
        .header("allow", "GET, HEAD, POST, OPTIONS"),
        row(
            "H34 a stale If-Match",
            412,
            patch_with(&[JSON, ("if-match", "\"S3NT\"")]),
        ),
        row(
            "H34 a weak If-Match",
            412,
            patch_with(&[JSON, ("if-match", "W/\"S3NT\"")]),
        ),
        row(
            "H34 a malformed If-Match",
            400,
            patch_with(&[JSON, ("if-match", "S3NT")]),
        )
        .blames("If-Match"),
        row(
            "H34 an empty If-Match",
            400,
            patch_with(&[JSON, ("if-match", "")]),
        )
        .blames("If-Match"),
        row(
            "H34 If-Match for a missing record",
            404,
            request("DELETE /api/users/2/", &[("if-match", "*")], b""),
        ),
        row(
            "H34 If-None-Match: * for an existing record",
            412,
            patch_with(&[JSON, ("if-none-match", "*")]),
        ),
        row(
            "H38 a malformed Idempotency-Key",
            400,
            patch_with(&[JSON, ("idempotency-key", "S3NT S3NT")]),
        )
        .blames("Idempotency-Key"),
        row(
            "H38 two Idempotency-Keys",
            400,
            patch_with(&[JSON, ("idempotency-key", "a"), ("idempotency-key", "b")]),
        )
        .blames("Idempotency-Key"),
        row(
            "H43 a body over the limit with Expect",
            413,
            announced("expect: 100-continue\r\n"),
        )
        .header("connection", "close"),
        row(
            "H44 headers over 16 KiB",
            431,
            request(&format!("PATCH {USER}"), &many, b""),
        ),
        row(
            "H44 a header over 16 KiB",
            431,
            request(
                &format!("GET {USER}"),
                &[("cookie", &"S3NT".repeat(5000))],
                b"",
            ),
        ),
        row(
            "H45 a malformed base",
            400,
            patch_with(&[JSON, ("fieldsync-base", "S3NT")]),
        )
        .blames("Fieldsync-Base"),
        row(
            "H45 a malformed cursor for events",
            400,
            request(
                "GET /api/users/?since=S3NT",
                &[("accept", "text/event-stream")],
                b"",
            ),
        )
        .blames("since"),
        row(
            "H48 a body that an HTML form can send",
            415,
            request(
                "POST /api/users/",
                &[
                    ("content-type", "text/plain"),
                    ("origin", "https://evil.example"),
                    ("cookie", "a=b"),
                ],
                b"{\"first_name\":\"S3NT\"}",
            ),
        ),
    ]
}

/// Paths at which nothing exists.
fn paths() -> Vec<Row> {
    let ids = [
        "0",
        "-1",
        "-0",
        "+1",
        "01",
        "1.0",
        "1e0",
        "9223372036854775808",
        "-9223372036854775809",
        "1234567890123456789012345678901234567890",
        "abc",
        "%00",
        "1%00",
        "%2e%2e%2f",
        "..%2f1",
        "%20",
        "%201",
        "%ff",
        "%",
        "%zz",
        "0x1",
        "%EF%BC%91",
        "null",
        "1;1",
        "'",
        "%22",
        "1%20or%201=1",
        "2",
    ];
    let of_ids = ids.into_iter().flat_map(|id| {
        ["GET", "PATCH", "DELETE"].map(|method| {
            let body: &[u8] = if method == "PATCH" {
                b"{\"first_name\":\"S3NT\"}"
            } else {
                b""
            };
            row(
                id,
                404,
                request(&format!("{method} /api/users/{id}/"), &[JSON], body),
            )
        })
    });
    let long = get(&format!("/api/users/{}/", "9".repeat(5000)));
    let others = [
        row("H27 an id of 5 KB", 404, long),
        row("H27 a parent directory", 404, get("/api/users/../")),
        row(
            "H27 a parent directory after an id",
            404,
            get("/api/users/1/../2/"),
        ),
        row("H27 an empty id", 404, get("/api/users//")),
        row("H27 not a UUID", 404, get("/api/things/1/")),
        row(
            "H27 a UUID in capitals",
            404,
            get("/api/things/0190A0B0-C0D0-7000-8000-000000000000/"),
        ),
        row("H26 an unknown collection", 404, get("/api/S3NT/")),
        row(
            "H26 a table of fieldsync's own",
            404,
            get("/api/fieldsync_changes/"),
        ),
        row(
            "H26 a collection in a different case",
            404,
            get("/api/Users/"),
        ),
        row(
            "H26 a path below a record",
            404,
            get("/api/users/1/first_name/"),
        ),
        row(
            "H26 to create in an unknown collection",
            404,
            request("POST /api/S3NT/", &[JSON], b"{}"),
        ),
    ];
    of_ids.chain(others).collect()
}

fn parameters() -> Vec<Row> {
    let limits = [
        "0",
        "-1",
        "1000000000",
        "1001",
        "",
        "S3NT",
        "1.5",
        "+5",
        "%2B5",
        "0x10",
        "99999999999999999999999",
        "%00",
        "1&limit=2",
    ];
    let of_limits = limits
        .into_iter()
        .map(|limit| row(limit, 400, get(&format!("/api/users/?limit={limit}"))).blames("limit"));
    let others = [
        row("H46 a malformed id", 400, get("/api/users/?after=S3NT")).blames("after"),
        row("H46 two ids", 400, get("/api/users/?after=1&after=2")).blames("after"),
        row(
            "H46 an id that is not UTF-8",
            400,
            get("/api/users/?after=%ff"),
        )
        .blames("after"),
    ];
    of_limits.chain(others).collect()
}

pub(super) async fn every_bad_request_is_refused(apps: &[App]) {
    let before = state(apps).await;
    let rows = [malformed(), invalid(), headers(), paths(), parameters()];
    for row in rows.into_iter().flatten() {
        let Row { name, .. } = row;
        let answer = ask(apps, name, &row.request).await;
        let said = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, row.status, "{name}: {said}");
        let problem = answer.problem(name);
        if let Some(field) = row.blames {
            let detail = problem["detail"].as_str().unwrap_or_default();
            let named = problem["errors"].get(field).is_some() || detail.contains(field);
            assert!(named, "{name} must blame {field}: {problem}");
        }
        if let Some((header, value)) = row.header {
            assert_eq!(answer.header(header), Some(value), "{name}");
        }
        for app in apps {
            let Some(edit) = row.edit.clone() else { break };
            let done = app.engine.transaction(vec![edit]).await;
            let Err(EngineError::Refused(Refusal::Invalid(errors))) = done else {
                panic!("{name} by the Rust API: {done:?}");
            };
            let named = row.blames.is_none_or(|field| errors.contains(field));
            assert!(named, "{name}: {errors:?}");
        }
        assert_eq!(state(apps).await, before, "{name} left something");
    }
}

/// Requests close to those in the tables, but valid.
pub(super) async fn unusual_requests_are_accepted(apps: &[App]) {
    let hundred = "\u{1F600}".repeat(100);
    for (name, request, status) in [
        (
            "100 characters of four bytes",
            patch(json!({"first_name": hundred}).to_string()),
            200,
        ),
        (
            "right-to-left text",
            patch("{\"first_name\":\"\u{202e}x\"}"),
            200,
        ),
        ("markup", patch("{\"first_name\":\"<script>\"}"), 200),
        ("a read-only field as it is", patch("{\"id\":1}"), 200),
        ("no fields", patch("{}"), 200),
        ("white space around the document", patch(" \r\n\t{ } "), 200),
        (
            "minus zero for an integer",
            post_thing("{\"count\":-0}"),
            201,
        ),
        (
            "an integer written as 1.0",
            post_thing("{\"count\":1.0}"),
            201,
        ),
        (
            "64 levels",
            post_thing(format!(
                "{{\"settings\":{}{}}}",
                "{\"a\":".repeat(62) + "1",
                "}".repeat(62)
            )),
            201,
        ),
        (
            "the media type in capitals",
            patch_with(&[("content-type", "Application/JSON; Charset=\"UTF-8\"")]),
            200,
        ),
        (
            "a merge patch",
            patch_with(&[("content-type", "application/merge-patch+json")]),
            200,
        ),
        (
            "H25 a request for HTML",
            request("GET /api/users/", &[("accept", "text/html")], b""),
            200,
        ),
        ("the largest limit", get("/api/users/?limit=1000"), 200),
        (
            "a query",
            get("/api/users/?first_name=neq.x&select=first_name"),
            200,
        ),
        ("a percent-encoded id", get("/api/users/%31/"), 200),
    ] {
        let answer = ask(apps, name, &request).await;
        let said = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{name}: {said}");
    }
}
