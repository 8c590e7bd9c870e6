//! The two pages, made from one template, and the files that they load. All of them are compiled into the program.

use std::borrow::Cow;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files that the pages load, with their media types. Those in `client` belong to the page of `fieldsync serve`.
macro_rules! files {
    ($($folder:literal $media_type:expr => $($name:literal)+;)+) => {
        &[$($(($name, $media_type, include_str!(concat!($folder, $name)))),+),+]
    };
}
const FILES: &[(&str, &str, &str)] = files! {
    "pages/" SCRIPT => "window.js" "card.js" "field_view.js" "create_form.js" "draft.js" "deletion.js";
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
}

impl Page {
    pub(crate) fn headers(&self) -> [(&'static str, &'static str); 3] {
        [
            ("content-type", self.media_type),
            ("content-security-policy", POLICY),
            ("cache-control", "no-cache"),
        ]
    }
}

/// The page or file at a path.
pub(crate) fn find(path: &str) -> Option<Page> {
    match path {
        "/" | "/window1/" => Some(window("1", "2", "First Name")),
        "/window2/" => Some(window("2", "1", "Last Name")),
        path => file(path.strip_prefix("/pages/")?),
    }
}

fn window(number: &str, other: &str, edits: &str) -> Page {
    let page = include_str!("pages/window.html");
    let page = page
        .replace("{{number}}", number)
        .replace("{{other}}", other)
        .replace("{{edits}}", edits);
    Page {
        media_type: "text/html; charset=utf-8",
        text: page.into(),
    }
}

fn file(name: &str) -> Option<Page> {
    let (_, media_type, text) = FILES.iter().find(|(known, ..)| *known == name)?;
    Some(Page {
        media_type,
        text: (*text).into(),
    })
}
