//! Subscriptions that wait for the app's rule. Meanwhile their connection goes on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::StatusCode;
use tokio::time::timeout;

use crate::engine::engine::Engine;
use crate::engine::permissions::Permissions;
use crate::error::EngineError;
use crate::live::since::Since;
use crate::metrics::Limit;
use crate::model::access::{Access, Denied};
use crate::model::cursor_seal::CursorKeys;
use crate::model::field_errors::FieldErrors;
use crate::model::principal::Principal;
use crate::model::refusal::Refusal;
use crate::model::topic::Topic;
use crate::protocol::{Problem, Start, Subscribe};
use crate::schema::collection::Collection;

/// How long the app's rule may take to authorize a subscription.
const AUTHORIZE_TIMEOUT: Duration = Duration::from_secs(10);

/// The subscriptions of a connection that wait. The rule is asked once for all that wait for the same collection.
#[derive(Default)]
pub(crate) struct Openings<'a>(Vec<Opening<'a>>);

struct Opening<'a> {
    answer: Pin<Box<dyn Future<Output = Answer> + Send + 'a>>,
    waiting: Vec<Waiting>,
}

type Answer = Result<Permissions, EngineError>;

/// A subscription that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) request: Subscribe,
    pub(crate) collection: Arc<str>,
    /// Whose errors are for those alone who may know of the collection.
    pub(crate) topic: Result<Topic, FieldErrors>,
}

impl<'a> Openings<'a> {
    /// The number of subscriptions that wait.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|opening| opening.waiting.len()).sum()
    }

    pub(crate) fn contains(&self, sub: &str) -> bool {
        let mut waiting = self.0.iter().flat_map(|opening| &opening.waiting);
        waiting.any(|waiting| waiting.request.sub == sub)
    }

    /// The collections that subscriptions wait for.
    pub(crate) fn collections(&self) -> impl Iterator<Item = &Arc<str>> {
        let waiting = self.0.iter().filter_map(|opening| opening.waiting.first());
        waiting.map(|waiting| &waiting.collection)
    }

    /// Whether a subscription to this collection waits.
    pub(crate) fn are_about(&self, collection: &str) -> bool {
        self.collections().any(|name| **name == *collection)
    }

    /// Waits for the answer that others wait for already, or asks.
    pub(crate) fn add(&mut self, engine: &'a Engine, principal: &Principal, waiting: Waiting) {
        let collection = &waiting.collection;
        let is_same = |opening: &Opening<'_>| opening.waits_for(collection);
        match self.0.iter().position(is_same) {
            Some(index) => self.0[index].waiting.push(waiting),
            None => self.0.push(Opening {
                answer: Box::pin(ask(engine, principal.clone(), Arc::clone(collection))),
                waiting: vec![waiting],
            }),
        }
    }

    pub(crate) fn remove(&mut self, sub: &str) {
        for opening in &mut self.0 {
            opening.waiting.retain(|waiting| waiting.request.sub != sub);
        }
        self.0.retain(|opening| !opening.waiting.is_empty());
    }

    /// Polls for an answer, and who has waited for it. It is pending while nobody waits.
    pub(crate) fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<(Answer, Vec<Waiting>)> {
        for index in 0..self.0.len() {
            if let Poll::Ready(answer) = self.0[index].answer.as_mut().poll(context) {
                return Poll::Ready((answer, self.0.remove(index).waiting));
            }
        }
        Poll::Pending
    }
}

impl Opening<'_> {
    fn waits_for(&self, collection: &str) -> bool {
        let mut waiting = self.waiting.iter();
        waiting.any(|waiting| *waiting.collection == *collection)
    }
}

/// Asks what a principal may read of a collection, unless the app's rule takes too long.
pub(crate) async fn ask(engine: &Engine, principal: Principal, collection: Arc<str>) -> Answer {
    let asking = async {
        let _open = engine.asks().open(&collection).await?;
        let permissions = engine.permissions(Some(&principal), Access::Read, &collection);
        permissions.await
    };
    let timed_out = |_| {
        Limit::QuestionTime.reached();
        let denied = Denied::unavailable("the authorizer timed out");
        Err(Refusal::from(denied).into())
    };
    let asked = timeout(AUTHORIZE_TIMEOUT, asking).await;
    asked.unwrap_or_else(timed_out)
}

/// Where a subscription to this collection starts. Only who may know of the collection learns that a text is malformed.
pub(crate) fn start(
    start: &Start,
    collection: &Collection,
    keys: &CursorKeys,
) -> Result<Since, Box<Problem>> {
    let since = match start {
        Start::Snapshot => Ok(Since::Snapshot),
        Start::Since(cursor) => Since::cursor(cursor, collection, keys),
        Start::Resume(place) => Since::resume(place, collection, keys),
    };
    since.map_err(|_| malformed_cursor("since must be a cursor, and resume a resume"))
}

pub(crate) fn malformed_cursor(what: &str) -> Box<Problem> {
    let detail = format!("{what}, from this server");
    let status = StatusCode::BAD_REQUEST;
    Box::new(Problem::new(status, "malformed-cursor", detail))
}

pub(crate) fn no_such_topic() -> Box<Problem> {
    let detail = "the topic does not exist";
    Box::new(Problem::new(StatusCode::NOT_FOUND, "not-found", detail))
}

/// What tells the client of an error. One that the principal may not know of is like one that does not exist.
pub(crate) fn problem_of(error: EngineError) -> Box<Problem> {
    match error {
        EngineError::Refused(Refusal::NoSuchCollection(_)) => no_such_topic(),
        error => Box::new(Problem::logged(&error)),
    }
}
