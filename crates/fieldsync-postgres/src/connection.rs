//! A connection on loan from the pool. One that does not answer is not given back: the network may have swallowed it.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio::time::timeout;

use crate::error::Failure;

/// How long the database may take to answer, not counting what it waits for locks.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How many prepared statements a connection keeps. Each set of fields that somebody changes together is one.
const STATEMENTS: usize = 256;

pub(crate) struct Connection {
    /// Given back when this is dropped.
    object: Option<Object>,
    pool: Pool,
    is_lost: AtomicBool,
}

impl Connection {
    pub(crate) async fn of(pool: &Pool) -> Result<Self, Failure> {
        let object = pool.get().await?;
        if object.statement_cache.size() > STATEMENTS {
            object.statement_cache.clear();
        }
        Ok(Self {
            object: Some(object),
            pool: pool.clone(),
            is_lost: AtomicBool::new(false),
        })
    }

    /// Waits for what was asked of this connection, at most so long.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        timeout(limit, work).await.unwrap_or_else(|_| {
            self.lose_all();
            Err(Failure::NoAnswer)
        })
    }

    /// Has it closed, and not given back, and with it those that nobody uses: they lead to the same server.
    pub(crate) fn lose_all(&self) {
        self.lose();
        self.pool.retain(|_, _| false);
    }

    /// Has it closed, and not given back.
    pub(crate) fn lose(&self) {
        self.is_lost.store(true, Ordering::Release);
    }

    /// Closes it, and gives its place in the pool to another. It is not used any more.
    pub(crate) fn close(&mut self) {
        self.lose();
        self.object.take().map(Object::take);
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }
}

impl Deref for Connection {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.object
            .as_ref()
            .expect("it is not used after it was closed")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_lost() {
            self.object.take().map(Object::take);
        }
    }
}
