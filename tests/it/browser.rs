//! The two windows of the demo in a real Chromium. These tests fail where Chromium or its driver is missing.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};

use crate::cluster::fresh_database;
use crate::demo::{Demo, on_every_server};
use crate::servers::Redis;
use crate::tasks::WAIT_TIMEOUT;

on_every_server!(
    an_edit_in_one_window_shows_in_the_other,
    a_user_is_created_and_deleted_and_a_deletion_is_undone,
    a_refused_value_shows_the_reason_beside_its_field,
    a_field_is_not_overwritten_while_the_user_types,
    no_window_loses_what_was_typed_while_the_server_was_down,
    markup_in_names_is_shown_as_text,
    only_changes_from_elsewhere_are_highlighted,
);

/// A driver, with the browsers that a test opens. It is killed when dropped.
pub(crate) struct Browsers {
    driver: Child,
    address: String,
    _profile: tempfile::TempDir,
}

impl Browsers {
    pub(crate) fn start() -> Self {
        // The port that it chooses for both families of addresses may be taken meanwhile in one of them: then it ends.
        let mut tries = (0..3).filter_map(|_| Self::try_start());
        tries.next().expect("chromedriver does not start")
    }

    fn try_start() -> Option<Self> {
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new("chromedriver");
        driver
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .env("TMPDIR", profile.path());
        let mut driver = driver
            .spawn()
            .expect("chromedriver is missing: tests/run.sh installs it");
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let ready = lines
            .map_while(Result::ok)
            .find(|line| line.contains("started successfully on port"));
        let Some(line) = ready else {
            // It has closed its output: it ends.
            let _ = driver.kill();
            let _ = driver.wait();
            return None;
        };
        let port = line.trim_end_matches('.').rsplit(' ').next().unwrap();
        Some(Self {
            address: format!("http://127.0.0.1:{port}"),
            driver,
            _profile: profile,
        })
    }

    pub(crate) async fn open(&self, url: &str) -> Window {
        self.open_sized(url, 900, 860).await
    }

    pub(crate) async fn open_sized(&self, url: &str, width: u32, height: u32) -> Window {
        let size = format!("--window-size={width},{height}");
        self.open_with(url, &[&size], json!({})).await
    }

    /// Opens a page with more arguments and options of Chromium.
    pub(crate) async fn open_with(&self, url: &str, more: &[&str], options: Value) -> Window {
        let mut arguments = vec![
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--force-prefers-reduced-motion",
            "--hide-scrollbars",
        ];
        arguments.extend(more);
        let mut options = options;
        options["args"] = json!(arguments);
        let options =
            json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let mut builder = ClientBuilder::new(hyper_util_connector());
        let client = builder
            .capabilities(options.as_object().unwrap().clone())
            .connect(&self.address)
            .await;
        let client = client.expect("Chromium does not start: tests/run.sh installs it");
        client.goto(url).await.unwrap();
        let window = Window { client };
        window.see("#connection[data-state=connected]").await;
        window
    }
}

impl Drop for Browsers {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

pub(crate) struct Window {
    pub(crate) client: Client,
}

impl Window {
    /// Waits for an element.
    pub(crate) async fn see(&self, selector: &str) -> Element {
        let wait = self.client.wait().at_most(WAIT_TIMEOUT);
        match wait.for_element(Locator::Css(selector)).await {
            Ok(element) => element,
            Err(error) => panic!(
                "{selector}: {error}\n{}",
                self.client.source().await.unwrap_or_default()
            ),
        }
    }

    /// Waits until a JavaScript expression is true.
    pub(crate) async fn until(&self, expression: &str) {
        let begun = std::time::Instant::now();
        while self.eval(expression).await != json!(true) {
            assert!(
                begun.elapsed() < WAIT_TIMEOUT,
                "{expression}\n{}",
                self.client.source().await.unwrap()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn eval(&self, expression: &str) -> Value {
        self.client
            .execute(&format!("return ({expression})"), Vec::new())
            .await
            .unwrap()
    }

    async fn field(&self, user: i64, field: &str) -> Element {
        self.see(&format!(
            "article[data-user-id='{user}'] [data-field={field}]"
        ))
        .await
    }

    pub(crate) async fn until_field(&self, user: i64, field: &str, value: &str) {
        let selector = format!("article[data-user-id='{user}'] [data-field={field}]");
        self.until(&format!(
            "document.querySelector({selector:?})?.value === {value:?}"
        ))
        .await;
    }

    /// Replaces the text of a field through the keyboard.
    pub(crate) async fn retype(&self, user: i64, field: &str, value: &str) {
        let element = self.field(user, field).await;
        element.click().await.unwrap();
        element
            .send_keys(&format!("{}a", char::from(Key::Control)))
            .await
            .unwrap();
        element
            .send_keys(&char::from(Key::Null).to_string())
            .await
            .unwrap();
        element.send_keys(value).await.unwrap();
    }

    async fn until_saved(&self, user: i64) {
        let selector = format!("article[data-user-id='{user}']");
        self.until(&format!("['saved', 'idle'].includes((document.querySelector({selector:?} + '[data-save-state]') ?? document.querySelector({selector:?} + ' [data-save-state]')).dataset.saveState)")).await;
    }

    /// Saves a screenshot in `target/pictures`, and with `UPDATE_PICTURES=1` in `docs`, for the README.
    pub(crate) async fn picture(&self, name: &str) {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let picture = self.client.screenshot().await.unwrap();
        std::fs::create_dir_all(root.join("target/pictures")).unwrap();
        std::fs::write(root.join("target/pictures").join(name), &picture).unwrap();
        if std::env::var_os("UPDATE_PICTURES").is_some() && name.starts_with("window") {
            std::fs::write(root.join("docs").join(name), &picture).unwrap();
        }
    }

    pub(crate) async fn close(self) {
        self.client.close().await.unwrap();
    }
}

fn hyper_util_connector() -> hyper_util::client::legacy::connect::HttpConnector {
    hyper_util::client::legacy::connect::HttpConnector::new()
}

struct Scene {
    one: Window,
    two: Window,
    demo: Demo,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
    _browsers: Browsers,
}

impl Scene {
    async fn open(server: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let demo = Demo::start(
            &format!("sqlite:{}", folder.path().join("demo.db").display()),
            &["--server", server],
        );
        let browsers = Browsers::start();
        let (one, two) = (
            browsers.open(&demo.url("/window1/")).await,
            browsers.open(&demo.url("/window2/")).await,
        );
        Self {
            one,
            two,
            demo,
            http: reqwest::Client::new(),
            _folder: folder,
            _browsers: browsers,
        }
    }

    async fn patch(&self, user: i64, patch: Value) -> u16 {
        let reply = self
            .http
            .patch(self.demo.url(&format!("/api/users/{user}/")))
            .json(&patch)
            .send()
            .await
            .unwrap();
        reply.status().as_u16()
    }

    async fn user(&self, user: i64) -> Value {
        let reply = self
            .http
            .get(self.demo.url(&format!("/api/users/{user}/")))
            .send()
            .await
            .unwrap();
        reply.json().await.unwrap()
    }

    pub(crate) async fn close(self) {
        self.one.close().await;
        self.two.close().await;
    }
}

async fn an_edit_in_one_window_shows_in_the_other(server: &str) {
    let scene = Scene::open(server).await;
    assert!(
        scene
            .one
            .eval("document.querySelector('h1').textContent")
            .await
            .as_str()
            .unwrap()
            .contains("Window 1")
    );
    assert!(
        scene
            .two
            .eval("document.body.textContent")
            .await
            .as_str()
            .unwrap()
            .contains("Edit Last Name")
    );
    // First names are edited in window 1 and read-only in window 2; last names the other way round.
    assert_eq!(
        scene
            .one
            .field(1, "last_name")
            .await
            .attr("readonly")
            .await
            .unwrap()
            .as_deref(),
        Some("true")
    );
    assert_eq!(
        scene
            .two
            .field(1, "first_name")
            .await
            .attr("readonly")
            .await
            .unwrap()
            .as_deref(),
        Some("true")
    );
    scene.one.retype(1, "first_name", "Ada").await;
    scene.two.until_field(1, "first_name", "Ada").await;
    scene.two.retype(1, "last_name", "Lovelace").await;
    scene.one.until_field(1, "last_name", "Lovelace").await;
    scene.one.until_saved(1).await;
    let user = scene.user(1).await;
    assert_eq!(
        (&user["first_name"], &user["last_name"]),
        (&json!("Ada"), &json!("Lovelace"))
    );
    scene.one.picture("window1.png").await;
    scene.two.picture("window2.png").await;
    scene.close().await;
}

async fn a_user_is_created_and_deleted_and_a_deletion_is_undone(server: &str) {
    let scene = Scene::open(server).await;
    scene
        .one
        .see("#create-user [name=first_name]")
        .await
        .send_keys("Grace")
        .await
        .unwrap();
    let last_name = scene.one.see("#create-user [name=last_name]").await;
    last_name
        .send_keys(&format!("Hopper{}", char::from(Key::Enter)))
        .await
        .unwrap();
    for window in [&scene.one, &scene.two] {
        window.until_field(3, "first_name", "Grace").await;
        window.until_field(3, "last_name", "Hopper").await;
    }
    let delete = async |window: &Window| {
        window
            .see("article[data-user-id='3'] button.delete")
            .await
            .click()
            .await
            .unwrap();
    };
    delete(&scene.two).await;
    scene
        .two
        .see("article[data-user-id='3'] button.undo")
        .await
        .click()
        .await
        .unwrap();
    scene.two.until("document.querySelector(\"article[data-user-id='3'] button.undo\")?.checkVisibility() !== true").await;
    assert_eq!(scene.user(3).await["first_name"], "Grace");
    delete(&scene.two).await;
    // The DELETE is sent five seconds later.
    for window in [&scene.one, &scene.two] {
        window
            .until("document.querySelector(\"article[data-user-id='3']\") === null")
            .await;
    }
    assert_eq!(scene.user(3).await["status"], 404);
    scene.close().await;
}

async fn a_refused_value_shows_the_reason_beside_its_field(server: &str) {
    let scene = Scene::open(server).await;
    scene.one.retype(1, "first_name", &"x".repeat(101)).await;
    let error = "document.querySelector(\"article[data-user-id='1'] [data-error-for=first_name]\")?.textContent ?? ''";
    scene
        .one
        .until(&format!("({error}).includes('at most 100 characters')"))
        .await;
    // The text stays in the field, and is not stored.
    scene
        .one
        .until_field(1, "first_name", &"x".repeat(101))
        .await;
    scene.two.retype(1, "last_name", "Roe").await;
    scene.one.until_field(1, "last_name", "Roe").await;
    scene
        .one
        .until_field(1, "first_name", &"x".repeat(101))
        .await;
    assert_ne!(scene.user(1).await["first_name"], "x".repeat(101));
    scene.one.retype(1, "first_name", "Fine").await;
    scene.one.until(&format!("({error}) === ''")).await;
    scene.two.until_field(1, "first_name", "Fine").await;
    scene.close().await;
}

async fn a_field_is_not_overwritten_while_the_user_types(server: &str) {
    let scene = Scene::open(server).await;
    let element = scene.one.field(1, "first_name").await;
    element.click().await.unwrap();
    // Letter by letter, while the other window edits the same record, and another client the same field.
    let name = "Augusta Ada";
    let mut typed = String::from("John");
    for (number, letter) in name.chars().enumerate() {
        element.send_keys(&letter.to_string()).await.unwrap();
        typed.push(letter);
        assert_eq!(
            scene.one.eval("document.activeElement.value").await,
            json!(typed)
        );
        if number % 4 == 1 {
            scene
                .two
                .retype(1, "last_name", &format!("King {number}"))
                .await;
            assert_eq!(
                scene
                    .patch(1, json!({"first_name": format!("Elsewhere {number}")}))
                    .await,
                200
            );
            scene
                .one
                .until_field(1, "last_name", &format!("King {number}"))
                .await;
            assert_eq!(
                scene.one.eval("document.activeElement.value").await,
                json!(typed)
            );
        }
    }
    scene.two.until_field(1, "first_name", &typed).await;
    assert_eq!(scene.user(1).await["first_name"], typed);
    scene.close().await;
}

async fn no_window_loses_what_was_typed_while_the_server_was_down(server: &str) {
    let mut scene = Scene::open(server).await;
    scene.one.retype(1, "first_name", "Before").await;
    scene.two.until_field(1, "first_name", "Before").await;
    scene.demo.kill();
    for window in [&scene.one, &scene.two] {
        window
            .until("document.querySelector('#connection').dataset.state !== 'connected'")
            .await;
        let state = window
            .eval("document.querySelector('#connection').textContent")
            .await;
        assert!(state.as_str().unwrap().contains("Disconnected"), "{state}");
    }
    // Text is typed into both windows while the server is down.
    scene.one.retype(1, "first_name", "During").await;
    scene.two.retype(2, "last_name", "Meanwhile").await;
    scene.demo.restart();
    for window in [&scene.one, &scene.two] {
        window.see("#connection[data-state=connected]").await;
        window.until_field(1, "first_name", "During").await;
        window.until_field(2, "last_name", "Meanwhile").await;
        assert_eq!(
            window
                .eval("performance.getEntriesByType('navigation')[0].type")
                .await,
            "navigate"
        );
    }
    scene.close().await;
}

async fn markup_in_names_is_shown_as_text(server: &str) {
    let scene = Scene::open(server).await;
    let hostile = "\"><img src=x onerror=\"window.hacked=1\"><b>";
    scene.one.retype(1, "first_name", hostile).await;
    scene.two.until_field(1, "first_name", hostile).await;
    assert_eq!(
        scene
            .patch(2, json!({"first_name": "<script>window.hacked=1</script>"}))
            .await,
        200
    );
    for window in [&scene.one, &scene.two] {
        window
            .until_field(2, "first_name", "<script>window.hacked=1</script>")
            .await;
        assert_eq!(
            window
                .eval("document.querySelectorAll('main img, article b, article script').length")
                .await,
            json!(0)
        );
        assert_eq!(
            window.eval("window.hacked === undefined").await,
            json!(true)
        );
    }
    scene.close().await;
}

async fn only_changes_from_elsewhere_are_highlighted(server: &str) {
    let scene = Scene::open(server).await;
    let watch = "window.highlighted = new Set(); new MutationObserver(records => records.forEach(record => {\
        const card = record.target.closest('article');\
        const field = record.target.querySelector('[data-field]');\
        if (card && field && record.target.classList.contains('changed'))\
            window.highlighted.add(card.dataset.userId + ' ' + field.dataset.field); }))\
        .observe(document.body, {attributes: true, attributeFilter: ['class'], subtree: true})";
    for window in [&scene.one, &scene.two] {
        window.client.execute(watch, Vec::new()).await.unwrap();
    }
    scene.one.retype(1, "first_name", "Ada").await;
    scene.two.until_field(1, "first_name", "Ada").await;
    scene.one.until_saved(1).await;
    // This change comes after the one of window 1, so both windows have received both when they show it.
    assert_eq!(scene.patch(2, json!({"last_name": "Hopper"})).await, 200);
    for (window, expected) in [
        (&scene.one, json!(["2 last_name"])),
        (&scene.two, json!(["1 first_name", "2 last_name"])),
    ] {
        window.until_field(2, "last_name", "Hopper").await;
        window.until("window.highlighted.has('2 last_name')").await;
        let highlighted = window.eval("[...window.highlighted].sort()").await;
        assert_eq!(highlighted, expected);
    }
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_fits_a_phone() {
    let demo = Demo::start("memory:", &[]);
    let browsers = Browsers::start();
    let phone = browsers.open_sized(&demo.url("/window2/"), 500, 800).await;
    phone.see("article[data-user-id='1']").await;
    phone
        .until("document.documentElement.scrollWidth <= window.innerWidth")
        .await;
    phone.picture("phone.png").await;
    phone.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_windows_on_an_axum_node_and_on_an_actix_node_sync_with_redis_and_without() {
    let (database, mut redis) = (fresh_database().await, Redis::start().await);
    let url = redis.url();
    let node = |server| Demo::start(&database, &["--broker", &url, "--server", server]);
    let (axum, actix) = (node("axum"), node("actix"));
    let browsers = Browsers::start();
    let one = browsers.open(&axum.url("/window1/")).await;
    let two = browsers.open(&actix.url("/window2/")).await;
    for (first_name, last_name) in [("Ada", "Lovelace"), ("Augusta", "King")] {
        one.retype(1, "first_name", first_name).await;
        two.until_field(1, "first_name", first_name).await;
        two.retype(1, "last_name", last_name).await;
        one.until_field(1, "last_name", last_name).await;
        // The second round has no Redis.
        redis.kill();
    }
    for window in [&one, &two] {
        window.see("#connection[data-state=connected]").await;
        window.until_saved(1).await;
    }
    one.picture("node1.png").await;
    two.picture("node2.png").await;
    one.close().await;
    two.close().await;
}
