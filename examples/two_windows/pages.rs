//! The two pages, made from one template, and the files that they load. All of them are compiled into the program.

use std::borrow::Cow;

use crate::logins::{PEOPLE, Person};

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files that the pages load, with their media types. Those in `client` belong to the page of `fieldsync serve`.
macro_rules! files {
    ($($folder:literal $media_type:expr => $($name:literal)+;)+) => {
        &[$($(($name, $media_type, include_str!(concat!($folder, $name)))),+),+]
    };
}
const FILES: &[(&str, &str, &str)] = files! {
    "pages/" SCRIPT => "window.js" "card.js" "field_view.js" "create_form.js" "draft.js" "deletion.js"
        "login.js";
    "../../crates/fieldsync-cli/page/" SCRIPT => "client/connection_view.js" "client/problem.js" "client/fieldsync.js"
        "client/records.js" "client/close_codes.js" "client/saver.js" "client/retrier.js" "client/rest.js"
        "client/idempotency_key.js" "client/backoff.js" "client/clock.js";
    "pages/" "text/css; charset=utf-8" => "style.css";
    "pages/" "image/svg+xml" => "icon.svg";
};

/// The pages load files from their own server only, and send requests to no other.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// A page, or a file that it loads.
pub(crate) struct Page {
    media_type: &'static str,
    pub(crate) text: Cow<'static, str>,
    /// The value of `Set-Cookie`.
    pub(crate) cookie: Option<String>,
}

impl Page {
    pub(crate) fn headers(&self) -> Vec<(&'static str, &str)> {
        let mut headers = vec![
            ("content-type", self.media_type),
            ("content-security-policy", POLICY),
            ("cache-control", "no-cache"),
        ];
        headers.extend(self.cookie.as_deref().map(|cookie| ("set-cookie", cookie)));
        headers
    }
}

/// The page or file at a path. A window may belong to a person.
pub(crate) fn find(path: &str, person: Option<&Person>) -> Option<Page> {
    match path {
        "/" | "/window1/" => Some(window("1", "2", "First Name", person)),
        "/window2/" => Some(window("2", "1", "Last Name", person)),
        path => file(path.strip_prefix("/pages/")?),
    }
}

/// Whose window is at a path.
pub(crate) fn person_at(path: &str) -> Option<&'static Person> {
    PEOPLE.iter().find(|person| person.window == path)
}

fn window(number: &str, other: &str, edits: &str, person: Option<&Person>) -> Page {
    let login = person.map(|_| include_str!("pages/login.html"));
    let of_person = person.map(|person| {
        let (name, base) = (person.name, person.window.trim_end_matches('/'));
        format!(" data-person=\"{name}\" data-base=\"{base}\"")
    });
    let page = include_str!("pages/window.html");
    let page = page
        .replace("{{login}}", login.unwrap_or_default())
        .replace("{{of_person}}", &of_person.unwrap_or_default())
        .replace("{{person}}", person.map_or("", |person| person.name))
        .replace("{{number}}", number)
        .replace("{{other}}", other)
        .replace("{{edits}}", edits);
    Page {
        media_type: "text/html; charset=utf-8",
        text: page.into(),
        cookie: None,
    }
}

fn file(name: &str) -> Option<Page> {
    let (_, media_type, text) = FILES.iter().find(|(known, ..)| *known == name)?;
    Some(Page {
        media_type,
        text: (*text).into(),
        cookie: None,
    })
}
