//! A principal may refer only to records that it may read, as far as the database has foreign keys to tell what refers to what.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fieldsync::{
    Access, Caller, Collection, Denied, Edit, EngineBuilder, Fields, Filter, Grant, Principal,
    RecordId, Rules, View, everyone, exists, on, owner, principal, signed_in,
};
use fieldsync::{Engine, EngineError, Refusal};
use serde_json::{Value, json};

use crate::app::{App, Role, Server};
use crate::database::{Database, on_both_databases};

on_both_databases!(by_each_adapter:
    a_hidden_record_is_refused_like_one_that_does_not_exist,
    a_visible_record_can_be_referred_to,
    the_app_itself_may_refer_to_every_record,
    a_locked_record_can_be_referred_to,
    a_reference_that_stays_is_not_checked,
    a_reference_that_the_principal_can_not_see_can_not_be_guessed,
    what_the_app_sets_for_a_principal_is_not_checked,
    a_transaction_may_refer_to_what_it_creates,
    a_transaction_may_hide_what_it_refers_to,
    a_transaction_may_put_a_reference_back,
    a_rule_is_asked_once_and_only_if_it_matters,
    a_refused_delete_does_not_name_what_refers_to_the_record,
    a_reference_of_several_columns_is_checked,
    a_reference_of_a_tenant_is_checked,
    an_id_that_refers_to_another_record_is_checked,
    a_reference_may_be_written_in_another_way_than_the_id,
    a_value_that_no_id_can_have_refers_to_no_record,
);

/// The tables to which tasks refer, and a rule of each kind. Ada sees the records of these tables that are called `shown`.
const TABLES: &str = "
    create table members ($key, user_id text not null, project_id bigint not null);
    create table projects ($key, title text not null);
    create table notes ($key, title text not null, owner text not null);
    create table secrets ($key, title text not null);
    create table vaults ($key, title text not null);
    create table opens ($key, title text not null);
    create table pages (slug text primary key, title text not null);
    create table leaves (book bigint not null, page bigint not null, title text not null, primary key (book, page));
    create table tasks ($key, title text not null, shown bigint not null,
        project_id bigint references projects (id),
        note_id bigint references notes,
        land_code char(5) references lands (code),
        secret_id bigint references secrets (id),
        other_secret_id bigint references secrets (id),
        vault_id bigint references vaults (id),
        open_id bigint references opens (id),
        task_id bigint references tasks (id),
        page_slug text references pages (slug),
        late_slug text references pages (slug) deferrable initially deferred,
        leaf_book bigint, leaf_page bigint,
        foreign key (leaf_page, leaf_book) references leaves (page, book));
    create table sheets ($key, tenant bigint not null, title text not null, unique (tenant, id));
    create table cells ($key, tenant bigint not null, sheet_id bigint, foreign key (tenant, sheet_id) references sheets (tenant, id));
    create table given_cells ($key, tenant bigint not null default 1, sheet_id bigint, foreign key (tenant, sheet_id) references sheets (tenant, id));
    create table covers (note_id bigint not null primary key references notes (id), title text not null);
    create table drops ($key, title text not null, note_id bigint references notes (id));
    create table logs ($key, title text not null, note_id bigint references notes (id));";

/// The fields of tasks that refer to a record by its id, and the collections that they refer to.
const REFERENCES: [(&str, &str); 6] = [
    ("project_id", "projects"),
    ("note_id", "notes"),
    ("secret_id", "secrets"),
    ("task_id", "tasks"),
    ("page_slug", "pages"),
    ("late_slug", "pages"),
];

/// A collection of an existing table.
fn collection(name: &str, fields: impl Into<Value>) -> Collection {
    let schema = json!({"type": "object", "properties": fields.into()});
    Collection::from_schema(name, &schema).without_capture()
}

/// An app, its database, and how often the rule of secrets was asked what may be read.
struct Tasks {
    app: App,
    asked: Arc<AtomicUsize>,
    database: Database,
}

fn builder(asked: &Arc<AtomicUsize>) -> EngineBuilder {
    let text = || json!({"type": "string", "default": ""});
    let number = || json!({"type": "integer", "default": 0});
    let reference = || json!({"type": ["integer", "null"], "format": "int64", "default": null});
    let slug = || json!({"type": ["string", "null"], "default": null});
    let titled = |name| collection(name, json!({"title": text()}));
    let is_shown = || Filter::eq("title", "shown");
    let own = || Rules::new().read_and_write(owner("owner"));
    let asked = Arc::clone(asked);
    let members = collection(
        "members",
        json!({"user_id": text(), "project_id": number()}),
    );
    let secrets = titled("secrets").authorize_fn(move |who, access| {
        if access == Access::Read {
            asked.fetch_add(1, Ordering::SeqCst);
        }
        let name = who.name().unwrap_or_default().to_owned();
        Ok(
            Grant::full().with_rows_fn(format!("of {name}"), move |secret| {
                name == "ada" && secret.fields["title"] == "shown"
            }),
        )
    });
    // Hidden from all, though all may write it.
    let vaults = titled("vaults").authorize_fn(|who, access| match access {
        Access::Read if who.get::<Role>().is_none() => Err(Denied::Hidden),
        _ => Ok(Grant::full()),
    });
    let tasks = json!({
        "title": text(), "shown": number(), "project_id": reference(), "note_id": reference(),
        "secret_id": reference(), "other_secret_id": reference(), "vault_id": reference(),
        "open_id": reference(), "task_id": reference(), "page_slug": slug(), "late_slug": slug(),
        "land_code": {"type": ["string", "null"], "default": null, "maxLength": 5}, "leaf_book": reference(), "leaf_page": reference(),
    });
    let tasks = collection("tasks", tasks).rules(
        Rules::new()
            .read(everyone().rows(Filter::eq("shown", 1)))
            .write(signed_in())
            .allow_blind_writes(),
    );
    let leaves = json!({"book": {"type": "integer"}, "page": {"type": "integer"}, "title": text()});
    let leaves = collection("leaves", leaves).composite_key(["book", "page"]);
    let pages = titled("pages").key("slug").text_ids();
    let covers = titled("covers").key("note_id").ids_by_creator();
    let drops = collection("drops", json!({"title": text(), "note_id": reference()}));
    let drops = drops.authorize_fn(|_, _| Ok(Grant::full().with_view(View::only(["title"]))));
    let logs = collection("logs", json!({"title": text(), "note_id": reference()}));
    let logs = logs.open_to_everyone().on_create(|_, log| {
        if let Ok(note) = log["title"].as_str().unwrap_or_default().parse::<i64>() {
            log.insert("note_id".into(), note.into());
        }
    });
    let member = exists(
        "members",
        on("project_id").equals("id"),
        principal("user_id"),
    );
    [
        members.rules(Rules::new().read_and_write(owner("user_id"))),
        titled("projects").rules(Rules::new().read(member)),
        collection("notes", json!({"title": text(), "owner": text()})).rules(own()),
        secrets,
        vaults,
        titled("opens").open_to_everyone(),
        titled("lands")
            .key("code")
            .text_ids()
            .rules(Rules::new().read(everyone().rows(is_shown()))),
        titled("moods")
            .key("name")
            .text_ids()
            .rules(Rules::new().read(everyone().rows(is_shown()))),
        collection("days", json!({"mood": slug()})).open_to_everyone(),
        pages.rules(
            Rules::new()
                .read(everyone().rows(is_shown()))
                .create(signed_in())
                .allow_blind_writes(),
        ),
        leaves.rules(Rules::new().read(everyone().rows(is_shown()))),
        collection("sheets", json!({"tenant": number(), "title": text()}))
            .rules(Rules::new().read(everyone().rows(is_shown()))),
        collection(
            "cells",
            json!({"tenant": number(), "sheet_id": reference()}),
        )
        .open_to_everyone(),
        collection(
            "given_cells",
            json!({"tenant": {"type": "integer"}, "sheet_id": reference()}),
        )
        .database_defaults(["tenant"])
        .open_to_everyone(),
        tasks,
        covers.open_to_everyone(),
        drops,
        logs,
    ]
    .into_iter()
    .fold(Engine::builder(), EngineBuilder::collection)
}

impl Tasks {
    async fn start(database: Database, server: Server) -> Self {
        let lands = [
            "create table lands (code char(5) collate nocase not null primary key, title text not null)",
            "create table lands (code char(5) primary key, title text not null)",
        ];
        database.run_own(lands[0], lands[1]).await;
        let moods = [
            "create table moods (name text not null primary key, title text not null);
             create table days ($key, mood text references moods (name));",
            "create type mood as enum ('good', 'bad', 'none');
             create table moods (name mood primary key, title text not null);
             create table days ($key, mood mood references moods (name));",
        ];
        database.run_own(moods[0], moods[1]).await;
        database.run(TABLES).await;
        let asked = Arc::default();
        let builder = database.store(builder(&asked), "postgres", "").await;
        let app = App::with(server, builder, tempfile::tempdir().unwrap()).await;
        Self {
            app,
            asked,
            database,
        }
    }

    /// The app creates a record. Returns its id.
    async fn add(&self, collection: &str, fields: Value) -> Value {
        let edit = Edit::create(collection, fields);
        let created = self.app.engine.transaction(vec![edit]).await.unwrap();
        serde_json::to_value(created[0].id()).unwrap()
    }

    /// Creates a record that Ada sees, or one that she does not.
    async fn target(&self, collection: &str, is_shown: bool) -> Value {
        let title = if is_shown { "shown" } else { "hidden" };
        let slug = || format!("{title}-{}", fastrand::u64(..));
        let owner = if is_shown { "ada" } else { "bob" };
        let id = match collection {
            "notes" => json!({"title": title, "owner": owner}),
            "tasks" => json!({"title": title, "shown": i64::from(is_shown)}),
            "pages" => json!({"id": slug(), "title": title}),
            _ => json!({"title": title}),
        };
        let id = self.add(collection, id).await;
        if collection == "projects" && is_shown {
            self.add("members", json!({"user_id": "ada", "project_id": id}))
                .await;
        }
        id
    }

    fn ada(&self) -> Caller<'_> {
        self.app.engine.on_behalf_of(Principal::named("ada"))
    }

    /// Ada's request, and all of the reply but its date and the id of the request.
    async fn send(&self, method: &str, path: &str, body: Value) -> Reply {
        let request = self.app.request(method, &format!("/api/{path}"));
        let request = request.header("x-user", "ada");
        let request = match method {
            "DELETE" => request,
            _ => request.json(&body),
        };
        let reply = request.send().await.unwrap();
        let mut headers: Vec<_> = reply
            .headers()
            .iter()
            .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        headers.sort();
        Reply {
            status: reply.status().as_u16(),
            headers,
            body: reply.text().await.unwrap(),
        }
    }

    async fn patch(&self, task: &Value, body: Value) -> Reply {
        self.send("PATCH", &format!("tasks/{task}/"), body).await
    }

    async fn field(&self, task: &Value, field: &str) -> Value {
        let tasks = self.app.engine.collection::<Fields>("tasks");
        let found = tasks.get(id(task)).await.unwrap().unwrap();
        found.fields[field].clone()
    }
}

#[derive(Debug, PartialEq)]
struct Reply {
    status: u16,
    headers: Vec<String>,
    body: String,
}

impl Reply {
    /// Checks that it blames these fields for a reference.
    #[track_caller]
    fn blames(&self, fields: &[&str]) {
        assert_eq!(self.status, 409, "{self:?}");
        let body: Value = serde_json::from_str(&self.body).unwrap();
        let errors = body["errors"].as_object().unwrap();
        let blamed: Vec<_> = errors.keys().map(String::as_str).collect();
        assert_eq!(blamed, fields, "{self:?}");
    }

    #[track_caller]
    fn id(&self) -> Value {
        assert_eq!(self.status, 201, "{self:?}");
        serde_json::from_str::<Value>(&self.body).unwrap()["id"].clone()
    }
}

fn id(id: &Value) -> RecordId {
    id.as_i64().unwrap().into()
}

/// An id that no record has.
fn absent(like: &Value) -> Value {
    match like {
        Value::Number(_) => json!(987_654_321),
        _ => json!("absent"),
    }
}

/// A task with this reference.
fn task(field: &str, value: &Value) -> Value {
    json!({"title": "a", "shown": 1, field: value})
}

async fn a_hidden_record_is_refused_like_one_that_does_not_exist(
    database: Database,
    server: Server,
) {
    let tasks = Tasks::start(database, server).await;
    let mine = tasks.add("tasks", json!({"shown": 1})).await;
    let vaults = [("vault_id", "vaults"), ("other_secret_id", "secrets")];
    for (field, collection) in REFERENCES.into_iter().chain(vaults) {
        let hidden = tasks.target(collection, false).await;
        let absent = absent(&hidden);
        let replies = async |method, path: &str| {
            let hidden = tasks.send(method, path, task(field, &hidden)).await;
            let absent = tasks.send(method, path, task(field, &absent)).await;
            hidden.blames(&[field]);
            assert_eq!(hidden, absent, "{field}");
        };
        replies("POST", "tasks/").await;
        replies("PATCH", &format!("tasks/{mine}/")).await;
        assert_eq!(tasks.field(&mine, field).await, Value::Null);
        // In Rust, also by a closure, and by one edit of several.
        let refused = async |edit: Edit| {
            let edits = vec![Edit::create("opens", json!({"title": "a"})), edit];
            let refused = tasks.ada().transaction(edits).await.unwrap_err();
            assert!(
                matches!(refused, EngineError::Refused(Refusal::Conflict(_))),
                "{refused}"
            );
            refused.to_string()
        };
        let update = |value: &Value| {
            let value = value.clone();
            let set = move |task: &mut Fields| {
                task.insert(field.into(), value.clone());
            };
            Edit::update(("tasks", id(&mine)), set)
        };
        assert_eq!(
            refused(update(&hidden)).await,
            refused(update(&absent)).await
        );
        let create = |value: &Value| {
            let value = value.clone();
            Edit::create_with("tasks", move |_| task(field, &value))
        };
        assert_eq!(
            refused(create(&hidden)).await,
            refused(create(&absent)).await
        );
    }
    let opens = tasks.app.engine.collection::<Fields>("opens");
    assert!(opens.list(None, 10).await.unwrap().is_empty());
}

async fn a_visible_record_can_be_referred_to(database: Database, server: Server) {
    let tasks = Tasks::start(database, server).await;
    let opens = ("open_id", "opens");
    for (field, collection) in REFERENCES.into_iter().chain([opens]) {
        let [first, second] = [
            tasks.target(collection, true).await,
            tasks.target(collection, true).await,
        ];
        let created = tasks.send("POST", "tasks/", task(field, &first)).await.id();
        assert_eq!(tasks.field(&created, field).await, first);
        for value in [&second, &Value::Null] {
            let reply = tasks.patch(&created, json!({field: value})).await;
            assert_eq!(reply.status, 200, "{field} {reply:?}");
            assert_eq!(tasks.field(&created, field).await, *value);
        }
    }
    // Where everything is visible, the database decides.
    let reply = tasks.send("POST", "tasks/", task("open_id", &json!(9999)));
    reply.await.blames(&["open_id"]);
}

async fn the_app_itself_may_refer_to_every_record(database: Database, server: Server) {
    let tasks = Tasks::start(database, server).await;
    for (field, collection) in REFERENCES {
        let hidden = tasks.target(collection, false).await;
        let created = tasks.add("tasks", task(field, &hidden)).await;
        let other = tasks.target(collection, false).await;
        let patch = Edit::patch(("tasks", id(&created)), json!({field: other}));
        tasks.app.engine.transaction(vec![patch]).await.unwrap();
        assert_eq!(tasks.field(&created, field).await, other);
    }
}

async fn a_locked_record_can_be_referred_to(database: Database, server: Server) {
    let tasks = Tasks::start(database, server).await;
    for (collection, field, change) in [
        (
            "projects",
            "project_id",
            "update members set user_id = 'ada'",
        ),
        ("notes", "note_id", "update notes set title = 'b'"),
    ] {
        let [target, other] = [
            tasks.target(collection, true).await,
            tasks.target(collection, false).await,
        ];
        let mut program = tasks.database.program().await;
        assert!(program.try_run(&format!("begin; {change}")).await);
        let create = tasks.send("POST", "tasks/", task(field, &target));
        let created = if tasks.database.is_postgres() {
            // Even the refusal does not wait for the other program.
            let refused = tasks.send("POST", "tasks/", task(field, &other)).await;
            refused.blames(&[field]);
            create.await
        } else {
            // SQLite has one writer.
            tokio::join!(create, async { assert!(program.try_run("commit").await) }).0
        };
        created.id();
        if tasks.database.is_postgres() {
            assert!(program.try_run("commit").await);
        }
        // What it hides meanwhile is hidden as soon as it has committed.
        let hide = match collection {
            "notes" => "update notes set owner = 'bob'",
            _ => "delete from members",
        };
        assert!(program.try_run(hide).await);
        let refused = tasks.send("POST", "tasks/", task(field, &target)).await;
        refused.blames(&[field]);
    }
}

async fn a_reference_that_stays_is_not_checked(database: Database, server: Server) {
    let tasks = Tasks::start(database, server).await;
    for (field, collection) in REFERENCES {
        let hidden = tasks.target(collection, false).await;
        let old = tasks.add("tasks", task(field, &hidden)).await;
        let saved = json!({"title": "b", field: hidden});
        let reply = tasks.patch(&old, saved.clone()).await;
        assert_eq!(reply.status, 200, "{field} {reply:?}");
        assert_eq!(tasks.field(&old, "title").await, "b");
        assert_eq!(tasks.patch(&old, saved).await.status, 200);
        let other = tasks.target(collection, false).await;
        tasks
            .patch(&old, json!({"title": "c", field: other}))
            .await
            .blames(&[field]);
        assert_eq!(tasks.field(&old, "title").await, "b");
        assert_eq!(tasks.patch(&old, json!({field: null})).await.status, 200);
        // Now it is a new one.
        tasks
            .patch(&old, json!({field: hidden}))
            .await
            .blames(&[field]);
    }
}

async fn a_reference_that_the_principal_can_not_see_can_not_be_guessed(
    database: Database,
    server: Server,
) {
    let tasks = Tasks::start(database, server).await;
    let [hidden, other] = [
        tasks.target("notes", false).await,
        tasks.target("notes", false).await,
    ];
    let drop = tasks.add("drops", json!({"note_id": hidden})).await;
    let path = format!("drops/{drop}/");
    let mut replies = Vec::new();
    for note in [&hidden, &other, &absent(&other)] {
        replies.push(tasks.send("PATCH", &path, json!({"note_id": note})).await);
    }
    replies[0].blames(&["note_id"]);
    assert!(
        replies.iter().all(|reply| *reply == replies[0]),
        "{replies:?}"
    );
    let shown = tasks.target("notes", true).await;
    for note in [&shown, &shown, &Value::Null] {
        let reply = tasks.send("PATCH", &path, json!({"note_id": note})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let title = tasks.send("PATCH", &path, json!({"title": "b"})).await;
    assert_eq!(title.status, 200, "{title:?}");
}

async fn what_the_app_sets_for_a_principal_is_not_checked(database: Database, server: Server) {
    let tasks = Tasks::start(database, server).await;
    let [hidden, shown] = [
        tasks.target("notes", false).await,
        tasks.target("notes", true).await,
    ];
    let create = async |title: &str, note: &Value| {
        let log = json!({"title": title, "note_id": note});
        tasks.send("POST", "logs/", log).await
    };
    for note in [&Value::Null, &shown, &hidden] {
        let created = create(&hidden.to_string(), note).await;
        // The app may have made it of what Ada sent.
        match note.is_null() {
            true => drop(created.id()),
            false => created.blames(&["note_id"]),
        }
    }
    create("", &hidden).await.blames(&["note_id"]);
    create("", &shown).await.id();
}

async fn a_transaction_may_refer_to_what_it_creates(database: Database, server: Server) {
    let tasks = Tasks::start(database, server).await;
    let hidden = tasks.target("notes", false).await;
    let note = |owner: &str| Edit::create("notes", json!({"owner": owner}));
    let task = |field: &'static str| {
        Edit::create_with("tasks", move |ids| {
            let last = ids.last().unwrap();
            json!({"title": "a", "shown": 1, field: last})
        })
    };
    let done = tasks
        .ada()
        .transaction(vec![note("ada"), task("note_id")])
        .await
        .unwrap();
    let created = serde_json::to_value(done[1].id.clone()).unwrap();
    let note_id = serde_json::to_value(done[0].id.clone()).unwrap();
    assert_eq!(tasks.field(&created, "note_id").await, note_id);
    // Nobody but its creator knows of it.
    let vault = Edit::create("vaults", json!({"title": "a"}));
    let blind = vec![vault, task("vault_id")];
    tasks.ada().transaction(blind).await.unwrap();
    // A task refers to one before it, and to a visible note besides.
    let shown = tasks.target("notes", true).await;
    let both = |note: &Value| {
        let note = note.clone();
        Edit::create_with(
            "tasks",
            move |ids| json!({"shown": 1, "task_id": ids[0], "note_id": note}),
        )
    };
    let first = || Edit::create("tasks", json!({"shown": 0}));
    let done = tasks.ada().transaction(vec![first(), both(&shown)]).await;
    done.unwrap();
    let refused = tasks.ada().transaction(vec![first(), both(&hidden)]).await;
    let EngineError::Refused(Refusal::Conflict(errors)) = refused.unwrap_err() else {
        panic!("not a conflict");
    };
    assert_eq!(errors.iter().next().unwrap().0, "note_id");
    // A deferred reference may come first.
    let page = Edit::create("pages", json!({"title": "hidden"})).with_id("late");
    let early = Edit::create("tasks", json!({"shown": 1, "late_slug": "late"}));
    let done = tasks.ada().transaction(vec![early, page]).await;
    done.unwrap();
    // And one that is not deferred is the database's to refuse.
    let page = Edit::create("pages", json!({"title": "shown"})).with_id("early");
    let early = Edit::create("tasks", json!({"shown": 1, "page_slug": "early"}));
    let refused = tasks.ada().transaction(vec![early, page]).await;
    assert!(matches!(
        refused,
        Err(EngineError::Refused(Refusal::Conflict(_)))
    ));
}

async fn a_transaction_may_hide_what_it_refers_to(database: Database, server: Server) {
    let tasks = Tasks::start(database, server).await;
    let project = tasks.add("projects", json!({"title": "a"})).await;
    let member = json!({"user_id": "ada", "project_id": project});
    let member = tasks.add("members", member).await;
    let leave = vec![
        Edit::create("tasks", task("project_id", &project)),
        Edit::delete(("members", id(&member))),
    ];
    tasks.ada().transaction(leave).await.unwrap();
    let refused = tasks.send("POST", "tasks/", task("project_id", &project));
    refused.await.blames(&["project_id"]);
    // By a change of the record itself, and the other way round.
    let other = tasks.target("tasks", true).await;
    for shown in [0, 1] {
        let show = Edit::patch(("tasks", id(&other)), json!({"shown": shown}));
        let edits = vec![Edit::create("tasks", task("task_id", &other)), show];
        tasks.ada().transaction(edits).await.unwrap();
    }
    // What is visible neither before nor afterwards is hidden.
    let hidden = tasks.target("tasks", false).await;
    let show = |shown| Edit::patch(("tasks", id(&hidden)), json!({"shown": shown}));
    let refer = Edit::create("tasks", task("task_id", &hidden));
    let refused = tasks.ada().transaction(vec![show(1), refer, show(0)]).await;
    assert!(matches!(
        refused,
        Err(EngineError::Refused(Refusal::Conflict(_)))
    ));
}

async fn a_transaction_may_put_a_reference_back(database: Database, server: Server) {
    let tasks = Tasks::start(database, server).await;
    let [shown, hidden, other] = [
        tasks.target("notes", true).await,
        tasks.target("notes", false).await,
        tasks.target("notes", false).await,
    ];
    let mine = tasks.add("tasks", task("note_id", &hidden)).await;
    let drop = json!({"title": "a", "note_id": hidden});
    let drop = tasks.add("drops", drop).await;
    let set = async |collection: &str, record: &Value, notes: [&Value; 2]| {
        let patches = notes.map(|note| {
            let key = (collection.to_owned(), id(record));
            Edit::patch(key, json!({"note_id": note}))
        });
        let done = tasks.ada().transaction(patches.into()).await;
        done.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(set("tasks", &mine, [&shown, &hidden]).await, Ok(()));
    assert_eq!(set("tasks", &mine, [&Value::Null, &hidden]).await, Ok(()));
    for notes in [[&other, &hidden], [&shown, &other]] {
        set("tasks", &mine, notes).await.unwrap_err();
    }
    // Whether it is back must not show where Ada does not see the field.
    assert_eq!(
        set("drops", &drop, [&shown, &hidden]).await.unwrap_err(),
        set("drops", &drop, [&shown, &other]).await.unwrap_err()
    );
}

async fn a_rule_is_asked_once_and_only_if_it_matters(database: Database, server: Server) {
    let tasks = Tasks::start(database, server).await;
    let secret = tasks.target("secrets", true).await;
    let mine = tasks.add("tasks", json!({"shown": 1})).await;
    let asked = async |edits: Vec<Edit>| {
        tasks.asked.store(0, Ordering::SeqCst);
        tasks.ada().transaction(edits).await.unwrap();
        tasks.asked.load(Ordering::SeqCst)
    };
    let patch = |fields: Value| Edit::patch(("tasks", id(&mine)), fields);
    let both = json!({"shown": 1, "secret_id": secret, "other_secret_id": secret});
    let edits = vec![
        Edit::create("tasks", both.clone()),
        Edit::create("tasks", both),
        patch(json!({"secret_id": secret})),
    ];
    assert_eq!(asked(edits).await, 1);
    for fields in [json!({"title": "b"}), json!({"secret_id": null})] {
        assert_eq!(asked(vec![patch(fields)]).await, 0);
    }
    let create = Edit::create("tasks", json!({"shown": 1}));
    let delete = Edit::delete(("tasks", id(&mine)));
    assert_eq!(asked(vec![create, delete]).await, 0);
}

async fn a_refused_delete_does_not_name_what_refers_to_the_record(
    database: Database,
    server: Server,
) {
    let tasks = Tasks::start(database, server).await;
    let note = tasks.target("notes", true).await;
    tasks
        .add("tasks", json!({"shown": 0, "note_id": note}))
        .await;
    let reply = tasks
        .send("DELETE", &format!("notes/{note}/"), json!({}))
        .await;
    reply.blames(&["id"]);
    let whole = format!("{reply:?}");
    for name in ["task", "note_id", "drops", "logs", "constraint"] {
        assert!(!whole.contains(name), "{name}: {whole}");
    }
    // The same where another table refers to it that is no collection.
    let shown = tasks.target("notes", true).await;
    let others = format!(
        "create table others (note_id bigint references notes (id)); insert into others values ({shown})"
    );
    tasks.database.run(&others).await;
    let path = format!("notes/{shown}/");
    assert_eq!(tasks.send("DELETE", &path, json!({})).await, reply);
}

async fn a_reference_of_several_columns_is_checked(database: Database, server: Server) {
    let tasks = Tasks::start(database, server).await;
    for (book, page, title) in [(1, 2, "shown"), (1, 3, "shown"), (2, 1, "hidden")] {
        tasks
            .add(
                "leaves",
                json!({"book": book, "page": page, "title": title}),
            )
            .await;
    }
    let leaf = |book: i64, page: i64| json!({"shown": 1, "leaf_book": book, "leaf_page": page});
    let hidden = tasks.send("POST", "tasks/", leaf(2, 1)).await;
    hidden.blames(&["leaf_book", "leaf_page"]);
    assert_eq!(hidden, tasks.send("POST", "tasks/", leaf(2, 2)).await);
    let created = tasks.send("POST", "tasks/", leaf(1, 2)).await.id();
    let reply = tasks.patch(&created, json!({"leaf_page": 3})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    // The other half is as it was: 2,3 does not exist, and neither does 1,1.
    for patch in [json!({"leaf_book": 2}), json!({"leaf_page": 1})] {
        let field = patch.as_object().unwrap().keys().next().unwrap().clone();
        tasks.patch(&created, patch).await.blames(&[&field]);
    }
    // Without its other half it refers to nothing.
    let half = json!({"leaf_book": 2, "leaf_page": null});
    assert_eq!(tasks.patch(&created, half).await.status, 200);
    let reply = tasks.patch(&created, json!({"leaf_page": 1})).await;
    reply.blames(&["leaf_page"]);
}

async fn a_reference_of_a_tenant_is_checked(database: Database, server: Server) {
    let tasks = Tasks::start(database, server).await;
    let sheet = async |tenant: i64, title: &str| {
        let sheet = json!({"tenant": tenant, "title": title});
        tasks.add("sheets", sheet).await
    };
    let (first, second) = (sheet(1, "shown").await, sheet(2, "shown").await);
    let hidden = sheet(1, "hidden").await;
    let cell = |tenant: i64, sheet: &Value| json!({"tenant": tenant, "sheet_id": sheet});
    let refused = tasks.send("POST", "cells/", cell(1, &hidden)).await;
    refused.blames(&["sheet_id", "tenant"]);
    for absent in [cell(1, &absent(&hidden)), cell(2, &first), cell(2, &hidden)] {
        assert_eq!(tasks.send("POST", "cells/", absent).await, refused);
    }
    let created = tasks.send("POST", "cells/", cell(1, &first)).await.id();
    let path = format!("cells/{created}/");
    for (patch, field) in [
        (json!({"sheet_id": second}), "sheet_id"),
        (json!({"tenant": 2}), "tenant"),
    ] {
        tasks.send("PATCH", &path, patch).await.blames(&[field]);
    }
    let reply = tasks.send("PATCH", &path, cell(2, &second)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    // The database gives the tenant.
    let create = async |sheet: &Value| {
        let cell = json!({"sheet_id": sheet});
        tasks.send("POST", "given_cells/", cell).await
    };
    create(&first).await.id();
    let refused = create(&hidden).await;
    refused.blames(&["sheet_id"]);
    assert_eq!(create(&absent(&hidden)).await, refused);
}

async fn an_id_that_refers_to_another_record_is_checked(database: Database, server: Server) {
    let tasks = Tasks::start(database, server).await;
    let [shown, hidden] = [
        tasks.target("notes", true).await,
        tasks.target("notes", false).await,
    ];
    let create = async |note: &Value| {
        let cover = json!({"id": note, "title": "a"});
        tasks.send("POST", "covers/", cover).await
    };
    let refused = create(&hidden).await;
    refused.blames(&["id"]);
    assert_eq!(refused, create(&absent(&hidden)).await);
    assert_eq!(create(&shown).await.id(), shown);
    tasks.add("covers", json!({"id": hidden})).await;
}

async fn a_reference_may_be_written_in_another_way_than_the_id(database: Database, server: Server) {
    let tasks = Tasks::start(database, server).await;
    let large = i64::MAX - 5;
    let lands = "insert into lands values ('ab', 'shown'), ('cd', 'hidden')";
    let notes = format!("insert into notes (id, title, owner) values ({large}, 'a', 'ada')");
    tasks.database.run(lands).await;
    tasks.database.run(&notes).await;
    // PostgreSQL fills the code with spaces, and SQLite ignores its case.
    let codes = match tasks.database.is_postgres() {
        true => ["ab", "cd", "ef"],
        false => ["AB", "CD", "EF"],
    };
    let [shown, hidden, absent] = codes.map(|code| task("land_code", &json!(code)));
    tasks.send("POST", "tasks/", shown).await.id();
    let refused = tasks.send("POST", "tasks/", hidden).await;
    refused.blames(&["land_code"]);
    assert_eq!(tasks.send("POST", "tasks/", absent).await, refused);
    // Large integers are texts.
    let note = json!(large.to_string());
    let created = tasks.send("POST", "tasks/", task("note_id", &note)).await;
    let created = created.id();
    assert_eq!(tasks.field(&created, "note_id").await, note);
    let absent = json!((large - 1).to_string());
    let refused = tasks.send("POST", "tasks/", task("note_id", &absent));
    refused.await.blames(&["note_id"]);
}

async fn a_value_that_no_id_can_have_refers_to_no_record(database: Database, server: Server) {
    let tasks = Tasks::start(database, server).await;
    let moods = "insert into moods values ('good', 'shown'), ('bad', 'hidden')";
    tasks.database.run(moods).await;
    let create = |mood: &str| tasks.send("POST", "days/", json!({"mood": mood}));
    let refused = create("bad").await;
    refused.blames(&["mood"]);
    // One after the other, and together.
    for absent in ["none", "other", "Good"] {
        let (good, absent) = (create("good"), create(absent));
        let (good, absent) = tokio::join!(good, absent);
        good.id();
        assert_eq!(absent, refused);
    }
    let day = |mood: &str| Edit::create("days", json!({"mood": mood}));
    let done = tasks
        .ada()
        .transaction(vec![day("good"), day("good")])
        .await;
    done.unwrap();
    let mixed = vec![day("other"), day("good"), day("another")];
    let refused = tasks.ada().transaction(mixed).await;
    assert!(matches!(
        refused,
        Err(EngineError::Refused(Refusal::Conflict(_)))
    ));
}
