//! Rules as data that a membership decides.

use fieldsync::{Collection, Engine, Rules, exists, on, principal};

use super::{Database, Member, Task, Window};
use crate::app::{App, On, Server, on_every_store};

on_every_store!(in World:a_a_membership_that_ends_hides_what_it_showed,);

struct World {
    database: Database,
    node: App,
}

impl World {
    async fn start(server: Server, store: On) -> Self {
        let database = Database::fresh(store).await;
        let member = exists("members", on("project"), principal("user_id"));
        let tasks = Collection::of::<Task>("tasks").rules(Rules::new().read(member));
        let members = Collection::of::<Member>("members").open_to_everyone();
        let builder = Engine::builder().collection(tasks).collection(members);
        let builder = database.store(builder).await;
        let node = App::with(server, builder, tempfile::tempdir().unwrap()).await;
        Self { database, node }
    }
}

async fn a_a_membership_that_ends_hides_what_it_showed(World { database, node }: World) {
    for project in [1, 2] {
        node.add("ada", project).await;
    }
    node.add("bob", 1).await;
    node.task(1, "first").await;
    node.task(2, "of the second").await;
    let mut ada = Window::open(&node, "ada").await;
    let mut bob = Window::open(&node, "bob").await;
    let in_second = node.member_ids("ada").await.pop().unwrap();
    let members = node.engine.collection::<Member>("members");
    members.delete(in_second).await.unwrap();
    node.task(2, "canary").await;
    node.task(1, "second").await;
    ada.until("second").await;
    assert_eq!(ada.titles(), ["first", "second"]);
    assert_eq!(ada.mirror.resets, ["view"]);
    if !database
        .run("delete from members where user_id = 'ada'")
        .await
    {
        node.remove("ada").await;
    }
    node.task(1, "canary").await;
    // Who is no member any more may ask, and sees nothing.
    while !ada.titles().is_empty() {
        let message = ada.socket.next().await.unwrap();
        assert!(!message.to_string().contains("canary"), "{message}");
        ada.mirror.apply(&message);
    }
    node.add("ada", 1).await;
    ada.until("canary").await;
    bob.until("canary").await;
    assert_eq!(ada.mirror.resets, ["view"; 3]);
    assert_eq!(bob.mirror.resets, [""; 0]);
}
