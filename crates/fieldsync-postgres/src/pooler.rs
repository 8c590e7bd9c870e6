//! Detects a pooler that gives the sessions of the server to one transaction after the other.

use deadpool_postgres::Object;
use tokio_postgres::SimpleQueryMessage;

/// Whether a pooler gives both connections the same session of the server, one transaction after the other. Prepared statements and
/// settings of a session would then get lost.
pub(crate) async fn shares_a_session(
    one: &Object,
    other: &Object,
) -> Result<bool, tokio_postgres::Error> {
    const SESSION: &str = "select pg_backend_pid()::text";
    let pid = |messages: Vec<SimpleQueryMessage>| {
        messages.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    };
    for _ in 0..5 {
        let of_one = pid(one.simple_query(SESSION).await?);
        other.batch_execute("begin").await?;
        let of_other = pid(other.simple_query(SESSION).await?);
        other.batch_execute("rollback").await?;
        if of_one == of_other {
            return Ok(true);
        }
    }
    Ok(false)
}
