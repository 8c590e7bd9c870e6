//! The task that asks rules again when something has changed that they read.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::engine::asks::{Asks, readable};
use crate::engine::memberships::Memberships;
use crate::live::standing::{Answer, Standing};
use crate::metrics;
use crate::model::access::Denied;
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;
use crate::store::store::Store;

/// How many rules are asked at a time.
const MAX_ASKED: usize = 32;

/// How long a rule may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks about everything in the queue, and again where a rule fails. Never returns while the queue is open.
pub(crate) async fn ask_again(
    mut queue: mpsc::UnboundedReceiver<Arc<Standing>>,
    asks: Arc<Asks>,
    store: Arc<dyn Store>,
    collections: BTreeMap<Arc<str>, Arc<Collection>>,
) {
    let collections = Arc::new(collections);
    let mut asked = JoinSet::new();
    let mut waiting = JoinSet::new();
    loop {
        let has_room = asked.len() < MAX_ASKED;
        let next = tokio::select! {
            next = queue.recv(), if has_room => match next {
                Some(next) => next,
                None => return,
            },
            Some(Ok(next)) = waiting.join_next(), if has_room => next,
            Some(done) = asked.join_next() => {
                if let Ok(Some((failed, delay))) = done {
                    waiting.spawn(async move {
                        sleep(delay).await;
                        failed
                    });
                }
                continue;
            }
        };
        let (asks, store) = (Arc::clone(&asks), Arc::clone(&store));
        let collections = Arc::clone(&collections);
        asked.spawn(async move {
            let memberships = Memberships {
                store: &*store,
                collections: &collections,
            };
            ask(next, &asks, memberships).await
        });
    }
}

/// Asks once. If the rule fails, returns after which delay to ask again.
async fn ask(
    standing: Arc<Standing>,
    asks: &Asks,
    memberships: Memberships<'_>,
) -> Option<(Arc<Standing>, Duration)> {
    let version = standing.begin()?;
    let answer = answer_of(&standing, asks, memberships).await;
    let collection = standing.collection.name();
    match answer {
        Err(Refusal::Denied(Denied::Unavailable(error))) => {
            let (delay, is_first) = standing.fail();
            metrics::asked_again(collection, "failed");
            if is_first {
                tracing::warn!(
                    error = &*error as &dyn std::error::Error,
                    %collection,
                    "a rule that was asked again has failed: its subscriptions are held, retrying"
                );
            }
            Some((standing, delay))
        }
        answer => {
            let result = if answer.is_ok() { "granted" } else { "denied" };
            metrics::asked_again(collection, result);
            standing.answer(version, answer);
            None
        }
    }
}

async fn answer_of(standing: &Standing, asks: &Asks, memberships: Memberships<'_>) -> Answer {
    let (collection, principal) = (&standing.collection, &standing.principal);
    let asking = async {
        let _open = asks.open(collection.name()).await?;
        readable(collection, principal, memberships).await
    };
    let failed = |why: &str| Err(Denied::unavailable(why).into());
    match timeout(ANSWER_TIMEOUT, AssertUnwindSafe(asking).catch_unwind()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => failed("the authorizer panicked"),
        Err(_) => failed("the authorizer timed out"),
    }
}
