//! The demo with `--roles`: two windows that belong to two people, in a real Chromium.

use reqwest::StatusCode;
use reqwest::header::{COOKIE, SET_COOKIE};
use serde_json::json;

use crate::browser::{Browsers, Window};
use crate::demo::{Demo, on_every_server};

on_every_server!(
    each_person_sets_one_field_and_both_are_signed_out_everywhere,
    a_login_is_of_one_window_and_ends_with_all_others,
);

const CONNECTION: &str = "document.querySelector('.connection-text').textContent";

impl Window {
    /// Waits until the page says that the user is signed out, and offers to sign in as this person.
    async fn until_signed_out(&self, person: &str) {
        self.see("#connection[data-state=disconnected]").await;
        self.until(&format!(
            "{CONNECTION} === 'Signed out: your session was ended'"
        ))
        .await;
        let button = self.see(".try-now:not([hidden])").await;
        assert_eq!(button.text().await.unwrap(), format!("Sign in as {person}"));
        let login = "document.querySelector('#login').hidden";
        assert_eq!(self.eval(login).await, json!(true));
    }
}

async fn each_person_sets_one_field_and_both_are_signed_out_everywhere(server: &str) {
    let demo = Demo::start("memory:", &["--server", server, "--roles"]);
    let browsers = Browsers::start();
    let one = browsers.open(&demo.url("/window1/")).await;
    let two = browsers.open_sized(&demo.url("/window2/"), 500, 900).await;
    for (window, person) in [(&one, "Ada"), (&two, "Grace")] {
        let login = window.see("#login").await.text().await.unwrap();
        assert_eq!(
            login.replace('\n', " "),
            format!("Signed in as {person} Sign out everywhere")
        );
    }

    one.retype(1, "first_name", "Augusta").await;
    two.until_field(1, "first_name", "Augusta").await;
    two.retype(1, "last_name", "Lovelace").await;
    one.until_field(1, "last_name", "Lovelace").await;

    // The other field is refused, which the page says beside it. No other window shows the value.
    one.retype(2, "last_name", "Mallory").await;
    let error = "document.querySelector(\"article[data-user-id='2'] [data-error-for=last_name]\").textContent";
    one.until(&format!("{error} === 'May not be changed by you.'"))
        .await;
    one.retype(2, "first_name", "Janet").await;
    two.until_field(2, "first_name", "Janet").await;
    two.until_field(2, "last_name", "Smith").await;
    one.picture("roles1.png").await;
    two.picture("roles2.png").await;

    one.see(".sign-out").await.click().await.unwrap();
    one.until_signed_out("Ada").await;
    two.until_signed_out("Grace").await;
    one.picture("signed_out1.png").await;
    two.picture("signed_out2.png").await;
    // Nothing is saved until Ada signs in again.
    one.retype(1, "first_name", "Ada").await;
    let error = "document.querySelector(\"article[data-user-id='1'] [data-error-for=first_name]\").textContent";
    one.until(&format!("{error} === 'Authentication is required.'"))
        .await;

    one.see(".try-now").await.click().await.unwrap();
    one.see("#connection[data-state=connected]").await;
    one.retype(1, "first_name", "Ada King").await;
    two.see("#connection[data-state=disconnected]").await;
    two.see(".try-now").await.click().await.unwrap();
    two.see("#connection[data-state=connected]").await;
    two.until_field(1, "first_name", "Ada King").await;
    two.see("#login:not([hidden])").await;
    one.close().await;
    two.close().await;
}

async fn a_login_is_of_one_window_and_ends_with_all_others(server: &str) {
    let demo = Demo::start("memory:", &["--server", server, "--roles"]);
    let http = reqwest::Client::new();
    let sign_in = async |path: &str| {
        let reply = http.get(demo.url(path)).send().await.unwrap();
        let cookie = reply.headers()[SET_COOKIE].to_str().unwrap();
        for part in [path, "HttpOnly", "SameSite=Strict"] {
            assert!(cookie.contains(part), "{part} in {cookie}");
        }
        cookie.split(';').next().unwrap().to_owned()
    };
    let status = async |method: &str, path: &str, cookie: &str| {
        let request = http.request(method.parse().unwrap(), demo.url(path));
        let request = request.header(COOKIE, format!("theme=dark; {cookie}"));
        request.send().await.unwrap().status()
    };
    let (ada, grace) = (sign_in("/window1/").await, sign_in("/window2/").await);
    let elsewhere = sign_in("/window1/").await;
    let (first, second) = ("/window1/api/users/", "/window2/api/users/");
    for cookie in [&ada, &elsewhere] {
        assert_eq!(status("GET", first, cookie).await, StatusCode::OK);
        assert_eq!(
            status("GET", second, cookie).await,
            StatusCode::UNAUTHORIZED
        );
    }
    assert_eq!(status("GET", second, &grace).await, StatusCode::OK);
    // Without a login there is nothing, and nobody is signed out.
    assert_eq!(
        status("GET", "/api/users/", &ada).await,
        StatusCode::NOT_FOUND
    );
    for cookie in ["", "login=", "login=1"] {
        assert_eq!(status("GET", first, cookie).await, StatusCode::UNAUTHORIZED);
        let signing_out = status("DELETE", "/window1/session/", cookie).await;
        assert_eq!(signing_out, StatusCode::UNAUTHORIZED);
    }
    // Another field than one's own is refused when a user is created, too.
    let create = async |user: serde_json::Value| {
        let request = http.post(demo.url(first)).header(COOKIE, &ada).json(&user);
        let reply = request.send().await.unwrap();
        (
            reply.status().as_u16(),
            reply.json::<serde_json::Value>().await.unwrap(),
        )
    };
    assert_eq!(create(json!({"first_name": "Bob"})).await.0, 201);
    let (refused, problem) = create(json!({"first_name": "Bob", "last_name": "King"})).await;
    assert_eq!(refused, 403);
    assert_eq!(
        problem["errors"],
        json!({"last_name": ["may not be set by you"]})
    );

    let signed_out = status("DELETE", "/window2/session/", &grace).await;
    assert_eq!(signed_out, StatusCode::NO_CONTENT);
    for (path, cookie) in [(first, &ada), (first, &elsewhere), (second, &grace)] {
        assert_eq!(status("GET", path, cookie).await, StatusCode::UNAUTHORIZED);
    }
}
