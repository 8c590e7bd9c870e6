//! A rule that finds the members in a mirror.

use fieldsync::{Collection, Denied, Edit, Engine, EngineBuilder, Filter, Grant, Mirror, reads};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Database, Member, Task, Window};
use crate::app::{App, On, Server, on_every_store};

on_every_store!(in World:
    a_a_rule_that_reads_a_mirror_denies_who_was_removed,
    a_a_mirror_that_is_not_whole_answers_nothing,
    a_a_rule_may_read_its_own_collection,
);

struct World {
    server: Server,
    database: Database,
}

impl World {
    async fn start(server: Server, on: On) -> Self {
        let database = Database::fresh(on).await;
        Self { server, database }
    }

    async fn node(&self, builder: EngineBuilder) -> App {
        let builder = self.database.store(builder).await;
        App::with(self.server, builder, tempfile::tempdir().unwrap()).await
    }
}

/// Members of a project see its tasks.
fn builder(members: &Mirror<Member>) -> EngineBuilder {
    let of_user = members.clone();
    let tasks = Collection::of::<Task>("tasks")
        .capture()
        .authorize_fn(move |who, _| {
            let of_user = of_user.find(who.name().ok_or(Denied::Unauthenticated)?)?;
            if of_user.is_empty() {
                return Err(Denied::Forbidden);
            }
            let projects = of_user.iter().map(|member| member.project);
            Ok(Grant::full().with_rows(Filter::is_in("project", projects)))
        })
        .reads(reads("members").principal_by("user_id"));
    Engine::builder()
        .collection(tasks)
        .collection(
            Collection::of::<Member>("members")
                .capture()
                .open_to_everyone(),
        )
        .mirror(members)
}

async fn a_a_rule_that_reads_a_mirror_denies_who_was_removed(world: World) {
    let [one, other] = [(); 2].map(|()| Mirror::<Member>::of("members").by("user_id"));
    let first = world.node(builder(&one)).await;
    first.add("ada", 1).await;
    first.add("ada", 2).await;
    first.add("bob", 1).await;
    first.task(1, "first").await;
    // What is there when a node starts.
    let node = world.node(builder(&other)).await;
    assert_eq!(other.find("ada").unwrap().len(), 2);
    assert_eq!(other.all().unwrap().len(), 3);
    let mut ada = Window::open(&node, "ada").await;
    let mut bob = Window::open(&node, "bob").await;
    // On this node, on the other one, and by SQL.
    let in_second = node.member_ids("ada").await.pop().unwrap();
    let edit = Edit::patch(("members", in_second.clone()), json!({"user_id": "eve"}));
    node.engine.transaction(vec![edit]).await.unwrap();
    node.task(2, "canary").await;
    node.task(1, "second").await;
    ada.until("second").await;
    assert_eq!(ada.mirror.resets, ["view"]);
    assert_eq!(other.get(in_second).unwrap().unwrap().user_id, "eve");
    first.remove("ada").await;
    first.task(1, "canary").await;
    ada.denied(403).await;
    assert!(other.find("ada").unwrap().is_empty());
    bob.until("canary").await;
    let sql = "delete from members where user_id = 'bob'";
    if world.database.run(sql).await {
        node.task(1, "another canary").await;
        bob.denied(403).await;
        assert_eq!(other.all().unwrap().len(), 1);
    }
}

async fn a_a_mirror_that_is_not_whole_answers_nothing(world: World) {
    /// A member whose role is a number.
    #[derive(Debug, Serialize, Deserialize)]
    struct Ranked {
        #[serde(with = "number")]
        role: u8,
    }
    mod number {
        use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

        pub(super) fn serialize<S: Serializer>(role: &u8, to: S) -> Result<S::Ok, S::Error> {
            to.collect_str(role)
        }
        pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
            String::deserialize(from)?.parse().map_err(D::Error::custom)
        }
    }
    let ranked = Mirror::<Ranked>::of("members");
    let small = Mirror::<Member>::of("members").by("user_id").max_records(2);
    let node = world.node(builder(&small).mirror(&ranked)).await;
    let member = |role| Edit::create("members", json!({"user_id": "ada", "role": role}));
    let edits = vec![member("1"), member("2")];
    node.engine.transaction(edits).await.unwrap();
    let mut ada = Window::open(&node, "ada").await;
    let ids = node.member_ids("ada").await;
    assert_eq!(ranked.get(ids[1].clone()).unwrap().unwrap().role, 2);
    assert!(ranked.find("ada").is_err());

    let edit = Edit::patch(("members", ids[0].clone()), json!({"role": "captain"}));
    node.engine.transaction(vec![edit]).await.unwrap();
    node.task(0, "first").await;
    ada.until("first").await;
    assert!(ranked.all().is_err());
    let edit = Edit::patch(("members", ids[0].clone()), json!({"role": "3"}));
    node.engine.transaction(vec![edit]).await.unwrap();
    node.task(0, "second").await;
    ada.until("second").await;
    assert_eq!(ranked.all().unwrap().len(), 2);

    node.add("bob", 0).await;
    node.task(0, "third").await;
    let refused = async || {
        let request = node.request("GET", "/api/tasks/").header("x-user", "ada");
        request.send().await.unwrap().status() == 503
    };
    while !refused().await {}
    // Who is connected is not asked about, since nothing of it has changed.
    ada.until("third").await;
}

/// Members see the members of their projects.
async fn a_a_rule_may_read_its_own_collection(world: World) {
    let mirror = Mirror::<Member>::of("members").by("user_id");
    let of_user = mirror.clone();
    let members = Collection::of::<Member>("members")
        .capture()
        .authorize_fn(move |who, _| {
            let of_user = of_user.find(who.name().unwrap_or_default())?;
            let projects = of_user.iter().map(|member| member.project);
            Ok(Grant::full().with_rows(Filter::is_in("project", projects)))
        })
        .reads(reads("members").principal_by("user_id"));
    let node = world
        .node(Engine::builder().collection(members).mirror(&mirror))
        .await;
    node.add("ada", 1).await;
    node.add("bob", 1).await;
    let mut ada = Window::open_on(&node, "ada", "members").await;
    assert_eq!(ada.mirror.records.len(), 2);
    // Two changes of one transaction, and one that follows.
    let of_ada = node.member_ids("ada").await.pop().unwrap();
    let edits = vec![
        Edit::create("members", json!({"user_id": "eve", "project": 1})),
        Edit::patch(("members", of_ada), json!({"project": 2})),
    ];
    node.engine.transaction(edits).await.unwrap();
    node.add("canary", 1).await;
    node.add("cyd", 2).await;
    let users = |window: &Window| {
        let records = window.mirror.records.values();
        let users = records.map(|member| member["user_id"].as_str().unwrap().to_owned());
        users.collect::<Vec<_>>()
    };
    while users(&ada) != ["ada", "cyd"] {
        let message = ada.socket.next().await.unwrap();
        assert!(!message.to_string().contains("canary"), "{message}");
        ada.mirror.apply(&message);
    }
    assert_eq!(ada.mirror.resets, ["view"]);
}

#[tokio::test]
async fn a_mirror_of_what_does_not_exist_is_refused() {
    let start = async |mirror: Mirror<Member>| {
        let members = Collection::of::<Member>("members").open_to_everyone();
        let builder = Engine::builder().collection(members).mirror(&mirror);
        let started = builder.store(fieldsync::MemoryStore::new()).start().await;
        started.map_err(|error| error.to_string())
    };
    let error = start(Mirror::of("member")).await.unwrap_err();
    assert!(error.contains("\"member\" has no collection"), "{error}");
    let error = start(Mirror::of("members").by("user")).await.unwrap_err();
    assert!(error.contains("by the field \"user\""), "{error}");
    assert!(start(Mirror::of("members").by("id")).await.is_ok());
}
