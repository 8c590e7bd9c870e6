//! The demo on the db.sqlite3 of a Django app, which goes on writing it. Fails where Debian's python3-django is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::browser::Browsers;
use crate::demo::{Demo, on_every_server};

on_every_server!(
    names_that_django_saves_show_in_both_windows,
    what_django_saved_while_the_demo_was_down_shows_after_its_restart,
    a_table_that_django_has_is_neither_altered_nor_filled,
);

/// The app's database.
struct Django(PathBuf);

impl Django {
    fn create(folder: &Path) -> Self {
        let app = Self(folder.join("db.sqlite3"));
        app.run(&["create"]);
        app
    }

    /// Saves a first name through the ORM, and returns the last name that Django found.
    fn rename(&self, name: &str) -> String {
        self.run(&["rename", "1", name])
    }

    fn run(&self, arguments: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/django_app.py");
        // Debian's own Python has Debian's Django.
        let output = Command::new("/usr/bin/python3")
            .arg(script)
            .arg(&self.0)
            .args(arguments)
            .output()
            .expect("python3 is missing: tests/run.sh installs it");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn store(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }
}

async fn user(demo: &Demo) -> Value {
    let reply = reqwest::get(demo.url("/api/users/1/")).await.unwrap();
    reply.json().await.unwrap()
}

async fn names_that_django_saves_show_in_both_windows(server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let app = Django::create(folder.path());
    let demo = Demo::start(&app.store(), &["--server", server]);
    let browsers = Browsers::start();
    let one = browsers.open(&demo.url("/window1/")).await;
    let two = browsers.open(&demo.url("/window2/")).await;
    one.until_field(1, "first_name", "John").await;
    let mut delays = Vec::new();
    for name in ["Ada", "Grace", "Barbara"] {
        app.rename(name);
        let saved = Instant::now();
        one.until_field(1, "first_name", name).await;
        two.until_field(1, "first_name", name).await;
        delays.push(saved.elapsed());
    }
    // A poll interval and half a second. One of the three may meet a busy machine.
    delays.sort();
    assert!(delays[1] < Duration::from_millis(1500), "{delays:?}");
    // Django finds what a window has saved.
    let saved = reqwest::Client::new()
        .patch(demo.url("/api/users/1/"))
        .json(&json!({"last_name": "Liskov"}))
        .send()
        .await;
    assert_eq!(saved.unwrap().status(), 200);
    assert_eq!(app.rename("B."), "Liskov");
    two.until_field(1, "first_name", "B.").await;
    one.close().await;
    two.close().await;
}

async fn a_table_that_django_has_is_neither_altered_nor_filled(server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let app = Django::create(folder.path());
    let database = rusqlite::Connection::open(&app.0).unwrap();
    database.execute_batch("delete from users").unwrap();
    let table = "select sql from sqlite_schema where name = 'users'";
    let table = || {
        database
            .query_row(table, [], |row| row.get::<_, String>(0))
            .unwrap()
    };
    let before = table();
    let demo = Demo::start(&app.store(), &["--server", server]);
    let users: Value = reqwest::get(demo.url("/api/users/"))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(users, json!([]));
    assert_eq!(table(), before);
}

async fn what_django_saved_while_the_demo_was_down_shows_after_its_restart(server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let app = Django::create(folder.path());
    let mut demo = Demo::start(&app.store(), &["--server", server]);
    let browsers = Browsers::start();
    let one = browsers.open(&demo.url("/window1/")).await;
    one.until_field(1, "first_name", "John").await;
    demo.kill();
    app.rename("Ada");
    app.rename("Grace");
    demo.restart();
    one.until_field(1, "first_name", "Grace").await;
    assert_eq!(user(&demo).await["first_name"], "Grace");
    one.close().await;
}
