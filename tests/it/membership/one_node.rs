//! Members come and go on one node.

use std::sync::Arc;

use fieldsync::{Collection, Engine, MemoryStore, Principal, ResetReason, Update, reads};
use futures_util::StreamExt as _;

use super::{Database, Member, Mood, OfMembers, Task, Window, events, subscription, until};
use crate::app::{App, On, Server, on_every_store};
use crate::socket::Socket;
use crate::tasks::within_limit;

on_every_store!(in World:
    a_a_removed_member_sees_nothing_more,
    a_a_member_of_fewer_projects_starts_anew_with_what_is_left,
    x_who_may_see_the_same_misses_nothing_and_is_not_reset,
    a_a_rule_that_fails_shows_nothing_until_it_answers,
    a_a_member_that_is_removed_by_sql_sees_nothing_more,
    a_an_answer_from_before_a_removal_opens_nothing,
    a_a_slow_reader_gets_nothing_of_what_it_missed,
);

struct World {
    rule: Arc<OfMembers>,
    database: Database,
    app: App,
}

impl World {
    async fn start(server: Server, on: On) -> Self {
        let rule = Arc::new(OfMembers::default());
        let database = Database::fresh(on).await;
        let app = database.node(server, &rule, rule.builder()).await;
        for user in ["ada", "bob"] {
            app.add(user, 1).await;
        }
        app.task(1, "first").await;
        Self {
            rule,
            database,
            app,
        }
    }
}

async fn a_a_removed_member_sees_nothing_more(World { rule, app, .. }: World) {
    let mut ada = Window::open(&app, "ada").await;
    let topic = "tasks?title=eq.canary";
    ada.socket.subscribe(topic, None).await;
    while ada.socket.expect_any(&["live", "snapshot"]).await["type"] != "live" {}
    app.announced("tasks", 1).await;
    let mut feed = Socket::open_with(&app, None, &[("x-user", "ada".to_owned())]).await;
    let mut stream = events(&app, "ada").await;
    let mut in_rust = subscription(&app, "ada").await;
    let mut bob = Window::open(&app, "bob").await;
    // The feed's handshake has been answered, and its rule is asked.
    app.task(1, "second").await;
    ada.until("second").await;
    bob.until("second").await;
    feed.next().await.unwrap();
    stream.expect("change").await;
    within_limit("a change", in_rust.next()).await.unwrap();
    rule.take_asked();

    app.remove("ada").await;
    app.task(1, "canary").await;
    let mut denied = Vec::new();
    for _ in 0..2 {
        let error = ada.socket.expect("error").await;
        assert_eq!(error["problem"]["status"], 403, "{error}");
        denied.push(error["sub"].as_str().unwrap().to_owned());
    }
    denied.sort_unstable();
    assert_eq!(denied, ["tasks", topic]);
    assert_eq!(feed.next().await, Err(1008));
    while let Some(event) = stream.next().await {
        assert_ne!(event.data["type"], "change", "{event:?}");
    }
    assert!(within_limit("the end", in_rust.next()).await.is_none());
    bob.until("canary").await;
    // They are of one principal, and asked about once. Nobody else is.
    assert_eq!(rule.take_asked(), ["ada"]);

    // The socket lives on, and a member that is back begins with a snapshot.
    app.add("ada", 1).await;
    ada.socket.subscribe("tasks", None).await;
    ada.mirror.catch_up(&mut ada.socket).await;
    assert_eq!(ada.titles(), ["canary", "first", "second"]);
    app.task(1, "third").await;
    ada.until("third").await;
    // Twice if it was asked before this node knew that ada is back.
    let asked = rule.take_asked();
    assert!(asked == ["ada"] || asked == ["ada", "ada"], "{asked:?}");
}

async fn a_a_member_of_fewer_projects_starts_anew_with_what_is_left(world: World) {
    let World { rule, app, .. } = world;
    app.add("ada", 2).await;
    app.task(2, "secret").await;
    let mut ada = Window::open(&app, "ada").await;
    assert_eq!(ada.titles(), ["first", "secret"]);
    app.announced("tasks", 2).await;
    let mut feed = Socket::open_with(&app, None, &[("x-user", "ada".to_owned())]).await;
    let mut stream = events(&app, "ada").await;
    let mut in_rust = subscription(&app, "ada").await;
    app.task(2, "another secret").await;
    ada.until("another secret").await;
    feed.next().await.unwrap();
    stream.expect("change").await;
    within_limit("a change", in_rust.next()).await.unwrap();
    rule.take_asked();

    let of_second = app.member_ids("ada").await.pop().unwrap();
    app.engine
        .collection::<Member>("members")
        .delete(of_second)
        .await
        .unwrap();
    app.task(2, "canary").await;
    app.task(1, "second").await;
    ada.until("second").await;
    assert_eq!(ada.mirror.resets, ["view"]);
    assert_eq!(ada.titles(), ["first", "second"]);
    assert_eq!(feed.next().await, Err(1013));
    assert_eq!(stream.expect("reset").await.data["reason"], "view");
    let snapshot = stream.expect("snapshot").await;
    assert!(!snapshot.data.to_string().contains("canary"));
    let reset = within_limit("a reset", in_rust.next()).await;
    assert_eq!(reset, Some(Update::Reset(ResetReason::View)));
    assert_eq!(rule.take_asked(), ["ada"]);

    app.add("ada", 2).await;
    ada.until("canary").await;
    assert_eq!(ada.mirror.resets, ["view", "view"]);
}

async fn x_who_may_see_the_same_misses_nothing_and_is_not_reset(world: World) {
    let World { rule, app, .. } = world;
    let mut ada = Window::open(&app, "ada").await;
    let mut stream = events(&app, "ada").await;
    rule.take_asked();
    for round in 0..5 {
        app.task(1, &format!("before {round}")).await;
        app.touch("ada").await;
        app.task(1, &format!("after {round}")).await;
    }
    ada.until("after 4").await;
    assert_eq!(ada.titles().len(), 11);
    assert_eq!(ada.mirror.resets, [""; 0]);
    for round in 0..5 {
        for when in ["before", "after"] {
            let event = stream.expect("change").await;
            assert_eq!(event.data["fields"]["title"], format!("{when} {round}"));
        }
    }
    let asked = rule.take_asked();
    assert!((1..=5).contains(&asked.len()), "{asked:?}");
    assert!(asked.iter().all(|name| name == "ada"), "{asked:?}");
}

/// The end of the log of tasks.
fn head(app: &App) -> u64 {
    app.engine.stats().collections["tasks"].offset
}

async fn a_a_rule_that_fails_shows_nothing_until_it_answers(World { rule, app, .. }: World) {
    let mut ada = Window::open(&app, "ada").await;
    let mut bob = Window::open(&app, "bob").await;
    for (mood, title) in [(Mood::Fails, "second"), (Mood::Panics, "third")] {
        rule.take_asked();
        rule.set(mood);
        app.touch("ada").await;
        app.task(1, title).await;
        bob.until(title).await;
        let has_asked_twice = || rule.asked.lock().unwrap().len() >= 2;
        until("the rule", has_asked_twice).await;
        // Nor does a heartbeat say anything of it. One from before may still come.
        ada.socket.ping().await;
        for message in ada.socket.take_before_pong() {
            assert_eq!(message["type"], "live", "{message}");
            let cursor = message["cursor"].as_str().unwrap();
            let cursor = app.engine.open_cursor("tasks", cursor).unwrap();
            assert!(cursor.position().offset < head(&app), "{message}");
        }
        rule.set(Mood::Answers);
        ada.until(title).await;
    }
    assert_eq!(ada.titles(), ["first", "second", "third"]);
    assert_eq!(ada.mirror.resets, [""; 0]);
    // A new subscription is refused, and ends none of those that are held.
    rule.set(Mood::Fails);
    app.touch("ada").await;
    ada.socket.subscribe("tasks/1", None).await;
    let error = ada.socket.expect("error").await;
    assert_eq!(error["problem"]["status"], 503);
    app.remove("ada").await;
    app.task(1, "canary").await;
    rule.set(Mood::Answers);
    ada.denied(403).await;
}

async fn a_a_member_that_is_removed_by_sql_sees_nothing_more(world: World) {
    let World {
        rule,
        app,
        database,
    } = world;
    let mut ada = Window::open(&app, "ada").await;
    let mut bob = Window::open(&app, "bob").await;
    rule.take_asked();
    if !database
        .run("delete from members where user_id = 'ada'")
        .await
    {
        // There is no SQL.
        return;
    }
    // It was committed after the removal, which no log has yet.
    app.task(1, "canary").await;
    ada.denied(403).await;
    bob.until("canary").await;
    assert_eq!(rule.take_asked(), ["ada"]);
    // Also what is read from the table itself.
    let mut bob = Window::open(&app, "bob").await;
    database
        .run("delete from members where user_id = 'bob'; insert into tasks (project, title) values (1, 'another canary')")
        .await;
    app.engine.wake();
    bob.denied(403).await;
}

async fn a_an_answer_from_before_a_removal_opens_nothing(World { rule, app, .. }: World) {
    let mut socket = Socket::v1_as(&app, "ada").await;
    rule.set(Mood::Waits);
    socket.subscribe("tasks", None).await;
    within_limit("the rule", rule.was_asked.notified()).await;
    let caller = app.engine.on_behalf_of(Principal::named("ada"));
    let in_rust = tokio::spawn({
        let engine = app.engine.clone();
        async move {
            let caller = engine.on_behalf_of(Principal::named("ada"));
            caller.subscribe("tasks", None).await
        }
    });
    within_limit("the rule", rule.was_asked.notified()).await;
    app.remove("ada").await;
    app.task(1, "canary").await;
    rule.set(Mood::Answers);
    rule.may_answer.notify_one();
    rule.may_answer.notify_one();
    rule.may_answer.notify_waiters();
    loop {
        let message = socket.next().await.unwrap();
        match message["type"].as_str().unwrap() {
            "error" => break assert_eq!(message["problem"]["status"], 403),
            // The removal was not known here yet.
            kind => assert_eq!(kind, "subscribed", "{message}"),
        }
    }
    if let Ok(mut subscription) = in_rust.await.unwrap() {
        assert_eq!(within_limit("the end", subscription.next()).await, None);
    }
    assert!(caller.subscribe("tasks", None).await.is_err());
}

async fn a_a_slow_reader_gets_nothing_of_what_it_missed(World { app, .. }: World) {
    let mut in_rust = subscription(&app, "ada").await;
    // More than a ring has: it will read the log.
    let long = "x".repeat(2_000);
    for _ in 0..12 {
        let task =
            || fieldsync::Edit::create("tasks", serde_json::json!({"project": 1, "title": &long}));
        let edits = (0..100).map(|_| task()).collect();
        app.engine.transaction(edits).await.unwrap();
    }
    // It has read a part of it, and takes one page more.
    within_limit("a page", in_rust.next()).await.unwrap();
    app.remove("ada").await;
    app.task(1, "canary").await;
    while let Some(update) = within_limit("the end", in_rust.next()).await {
        assert!(!format!("{update:?}").contains("canary"));
    }
}

#[tokio::test]
async fn a_rule_that_reads_what_does_not_exist_is_refused() {
    let start = async |what: fieldsync::Reads| {
        let tasks = Collection::of::<Task>("tasks").open_to_everyone();
        let members = Collection::of::<Member>("members").open_to_everyone();
        let builder = Engine::builder().collection(tasks.reads(what));
        let started = builder.collection(members).store(MemoryStore::new());
        started.start().await.map_err(|error| error.to_string())
    };
    let error = start(reads("member")).await.unwrap_err();
    assert!(error.contains("tasks") && error.contains("reads the collection member,"));
    let error = start(reads("members").principal_by("user"))
        .await
        .unwrap_err();
    assert!(error.contains("\"user\" of members"), "{error}");
    for field in ["user_id", "project", "id"] {
        assert!(start(reads("members").principal_by(field)).await.is_ok());
    }
}
