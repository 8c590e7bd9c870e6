//! Several statements in one round trip.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use deadpool_postgres::Object;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, MaybeDone, maybe_done};
use tokio_postgres::{Client, Error, Row, Statement};

use crate::error::Failure;
use crate::value::Parameter;

/// A statement of a pipeline.
pub(crate) enum Step<'a> {
    /// SQL without parameters and rows.
    Simple(String),
    /// A prepared statement.
    Query(Statement, Vec<Parameter<'a>>),
    /// A prepared statement that returns no rows.
    Execute(Statement, Vec<Parameter<'a>>),
}

/// What a statement returned.
#[derive(Default)]
struct Answer {
    rows: Vec<Row>,
    /// How many rows it changed, if it returns none.
    count: u64,
}

impl<'a> Step<'a> {
    /// Prepares a statement, unless the connection has it already.
    pub(crate) async fn query(
        client: &Object,
        sql: &str,
        parameters: impl IntoIterator<Item: Into<Parameter<'a>>>,
    ) -> Result<Self, Failure> {
        let parameters = parameters.into_iter().map(Into::into).collect();
        Ok(Self::Query(client.prepare_cached(sql).await?, parameters))
    }

    /// Prepares a statement that returns no rows, unless the connection has it already.
    pub(crate) async fn execute(
        client: &Object,
        sql: &str,
        parameters: impl IntoIterator<Item: Into<Parameter<'a>>>,
    ) -> Result<Self, Failure> {
        let parameters = parameters.into_iter().map(Into::into).collect();
        Ok(Self::Execute(client.prepare_cached(sql).await?, parameters))
    }

    async fn run(&self, client: &Client) -> Result<Answer, Error> {
        let mut answer = Answer::default();
        match self {
            Self::Simple(sql) => client.batch_execute(sql).await?,
            Self::Query(statement, parameters) => {
                let parameters: Vec<_> = parameters.iter().map(Parameter::as_sql).collect();
                answer.rows = client.query(statement, &parameters).await?;
            }
            Self::Execute(statement, parameters) => {
                let parameters: Vec<_> = parameters.iter().map(Parameter::as_sql).collect();
                answer.count = client.execute(statement, &parameters).await?;
            }
        }
        Ok(answer)
    }
}

/// Runs one statement.
pub(crate) async fn run(
    client: &Object,
    sql: &str,
    parameters: impl IntoIterator<Item: Into<Parameter<'_>>>,
) -> Result<Vec<Row>, Failure> {
    let step = Step::query(client, sql, parameters).await?;
    Ok(step.run(client).await?.rows)
}

/// The results of a pipeline, in the order of its statements.
pub(crate) struct Results(std::vec::IntoIter<Result<Answer, Error>>);

impl Results {
    /// The rows of the next statement.
    pub(crate) fn next(&mut self) -> Result<Vec<Row>, Error> {
        self.next_answer().map(|answer| answer.rows)
    }

    /// How many rows the next statement changed, which returns none.
    pub(crate) fn next_count(&mut self) -> Result<u64, Error> {
        self.next_answer().map(|answer| answer.count)
    }

    fn next_answer(&mut self) -> Result<Answer, Error> {
        self.0
            .next()
            .expect("a pipeline has a result per statement")
    }
}

/// Sends all statements in their order, then waits for their results. After one that fails, the database refuses the
/// others of the transaction.
pub(crate) async fn in_order(client: &Client, steps: &[Step<'_>]) -> Results {
    let mut sent: Vec<Pin<Box<MaybeDone<BoxFuture<'_, _>>>>> = Vec::with_capacity(steps.len());
    for step in steps {
        let mut running = Box::pin(maybe_done(step.run(client).boxed()));
        // The first poll sends it.
        poll_fn(|context| {
            let _ = running.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
        sent.push(running);
    }
    let mut results = Vec::with_capacity(sent.len());
    for running in &mut sent {
        running.as_mut().await;
        results.extend(running.as_mut().take_output());
    }
    Results(results.into_iter())
}
