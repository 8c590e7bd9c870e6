//! How many questions a change asks at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fieldsync::{
    Access, Authorizer, Collection, Denied, Engine, Grant, MemoryStore, Principal, Reads, Update,
    async_trait, reads,
};
use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::{Member, Task, until};
use crate::tasks::within_limit;

/// A rule that answers when it may, and counts.
#[derive(Debug)]
struct Counting {
    may_answer: watch::Receiver<bool>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    asked: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Authorizer for Counting {
    async fn authorize(&self, _: &Principal, _: Access, _: &str) -> Result<Grant, Denied> {
        let Counts { asked, open, most } = &*self.counts;
        asked.fetch_add(1, Ordering::SeqCst);
        most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _ = self.may_answer.clone().wait_for(|may| *may).await;
        open.fetch_sub(1, Ordering::SeqCst);
        Ok(Grant::full())
    }

    fn reads(&self) -> Vec<Reads> {
        vec![reads("members")]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_asked_about_once_and_32_at_a_time() {
    let (answers, may_answer) = watch::channel(true);
    let counts = Arc::new(Counts::default());
    let rule = Counting {
        may_answer,
        counts: Arc::clone(&counts),
    };
    let engine = Engine::builder()
        .collection(Collection::of::<Task>("tasks").authorize(rule))
        .collection(Collection::of::<Member>("members").open_to_everyone())
        .store(MemoryStore::new());
    let engine = engine.start().await.unwrap();
    let mut subscriptions = Vec::new();
    for number in 0..50 {
        let caller = engine.on_behalf_of(Principal::named(format!("user {number}")));
        // The second one is of the same principal.
        for _ in 0..2 {
            let mut subscription = caller.subscribe("tasks", None).await.unwrap();
            while !matches!(subscription.next().await, Some(Update::Live { .. })) {}
            subscriptions.push(subscription);
        }
    }
    counts.asked.store(0, Ordering::SeqCst);
    answers.send_replace(false);
    let members = engine.collection::<Member>("members");
    members.create(Member::default()).await.unwrap();
    let count = |count: &AtomicUsize| count.load(Ordering::SeqCst);
    until("questions", || count(&counts.open) == 32).await;
    let tasks = engine.collection::<Task>("tasks");
    tasks.create(Task::default()).await.unwrap();
    answers.send_replace(true);
    for subscription in &mut subscriptions {
        let change = within_limit("a change", subscription.next()).await;
        assert!(matches!(change, Some(Update::Change { .. })), "{change:?}");
    }
    assert_eq!(count(&counts.most), 32);
    assert_eq!(count(&counts.asked), 50);
}
