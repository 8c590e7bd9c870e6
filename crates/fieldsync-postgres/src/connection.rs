//! A connection from the pool. One that does not answer is not returned to it: the network may be dropping its packets.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, HookError, Object, Pool, PoolError};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;

use crate::error::Failure;

/// How long the database may take to answer, apart from waiting for locks.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The prepared statements that a connection keeps. Each set of fields that is changed together is one.
const MAX_STATEMENTS: usize = 256;

pub(crate) struct Connection {
    /// Returned to the pool when this is dropped.
    object: Option<Object>,
    pool: Pool,
    is_lost: AtomicBool,
}

impl Connection {
    pub(crate) async fn of(pool: &Pool) -> Result<Self, Failure> {
        let object = get(pool).await?;
        if object.statement_cache.size() > MAX_STATEMENTS {
            object.statement_cache.clear();
        }
        Ok(Self {
            object: Some(object),
            pool: pool.clone(),
            is_lost: AtomicBool::new(false),
        })
    }

    /// Waits for work on this connection, at most for this time.
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

    /// Closes this connection when it is dropped, and the pool's idle connections now: they lead to the same server.
    pub(crate) fn lose_all(&self) {
        self.lose();
        self.pool.retain(|_, _| false);
    }

    /// Closes this connection when it is dropped, instead of returning it to the pool.
    pub(crate) fn lose(&self) {
        self.is_lost.store(true, Ordering::Release);
    }

    /// Closes this connection now, so that the pool may open another. It must not be used afterwards.
    pub(crate) fn close(&mut self) {
        self.lose();
        self.object.take().map(Object::take);
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }
}

/// Begins a connection of a pool that `connect` creates. A database that does not know its encoding would fail a whole statement
/// for one text that is not UTF-8, if the client asked for UTF-8.
pub(crate) async fn begin(client: &ClientWrapper) -> Result<(), HookError> {
    let sql = "do $$ begin if current_setting('server_encoding') = 'SQL_ASCII' then \
               set client_encoding = 'SQL_ASCII'; end if; end $$";
    client.batch_execute(sql).await.map_err(HookError::Backend)
}

/// A connection from the pool. If the server admits no more of them, one of those that exist is waited for, now and later.
async fn get(pool: &Pool) -> Result<Object, PoolError> {
    loop {
        let error = match pool.get().await {
            Err(PoolError::Backend(error)) if is_full(&error) => error,
            got => return got,
        };
        let existing = pool.status().size;
        if existing == 0 {
            return Err(PoolError::Backend(error));
        }
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the database admits no more than {existing} connections, which are shared from now on"
        );
        pool.resize(existing);
    }
}

/// Whether the server, or the role, has as many connections as it may.
fn is_full(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
}

impl Deref for Connection {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.object
            .as_ref()
            .expect("a connection is not used after it was closed")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_lost() {
            self.object.take().map(Object::take);
        }
    }
}
