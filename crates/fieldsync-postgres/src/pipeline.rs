//! Several statements in one round trip.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures_util::future::{BoxFuture, MaybeDone, maybe_done};
use tokio_postgres::{Error, Row};

/// A statement that was not sent yet.
pub(crate) type Statement<'a> = BoxFuture<'a, Result<Vec<Row>, Error>>;

/// Sends all of them, in this order, and then waits for their answers. After one that fails the database refuses the
/// others of the transaction.
pub(crate) async fn in_order<'a>(
    statements: impl IntoIterator<Item = Statement<'a>>,
) -> Vec<Result<Vec<Row>, Error>> {
    let mut sent: Vec<Pin<Box<MaybeDone<Statement<'a>>>>> = Vec::new();
    for statement in statements {
        let mut statement = Box::pin(maybe_done(statement));
        // The first poll sends it.
        poll_fn(|context| {
            let _ = statement.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
        sent.push(statement);
    }
    let mut answers = Vec::with_capacity(sent.len());
    for statement in &mut sent {
        statement.as_mut().await;
        answers.extend(statement.as_mut().take_output());
    }
    answers
}
