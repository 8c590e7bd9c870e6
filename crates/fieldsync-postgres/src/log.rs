//! The change logs: appending, reading, forgetting. Each read is one statement, and so one consistent look.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;
use fieldsync::{
    Action, Advance, BASE_REACH, Backlog, Change, Position, RecordId, RecordKey, ResetReason,
    Retention, StoreError, Timestamp,
};
use tokio_postgres::Row;

use crate::columns::{id_from_text, id_to_text};
use crate::error::Failure;

/// The most changes, and the most idempotency keys, that one transaction forgets.
pub(crate) const TRIM_STEP: usize = 1000;
/// A page of changes ends when it has so many bytes of JSON.
pub(crate) const PAGE_BYTES: i64 = 1024 * 1024;

pub(crate) fn no_log(collection: &str) -> StoreError {
    StoreError::Backend(
        format!("collection {collection} has no row in fieldsync_heads; restart to make it").into(),
    )
}

/// PostgreSQL's integers are signed: an epoch has the same bits, an offset never gets that far.
pub(crate) fn position(epoch: i64, offset: i64, tag: i64) -> Position {
    Position {
        epoch: epoch.cast_unsigned(),
        offset: offset.cast_unsigned(),
        tag: tag as u32,
    }
}

/// The ends of all logs.
pub(crate) async fn heads(client: &Object) -> Result<HashMap<String, Position>, Failure> {
    let sql = "select collection, epoch, last, last_tag from fieldsync_heads";
    let statement = client.prepare_cached(sql).await?;
    let mut heads = HashMap::new();
    for row in client.query(&statement, &[]).await? {
        let place = position(row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        heads.insert(row.try_get(0)?, place);
    }
    Ok(heads)
}

/// Moves a log's end; its row stays locked until the end of the transaction. Tells the transaction's id with it.
pub(crate) const ADVANCE: &str = "update fieldsync_heads set last = last + $2, last_tag = $3 where collection = $1 \
                                  returning epoch, last, last_tag, pg_current_xact_id()::text";
/// Just reads it.
pub(crate) const HEAD: &str = "select epoch, last, last_tag, pg_current_xact_id_if_assigned()::text from fieldsync_heads \
                               where collection = $1";

/// What [`ADVANCE`] and [`HEAD`] tell.
pub(crate) struct Head {
    pub(crate) end: Position,
    /// The transaction's id, if it has one.
    pub(crate) id: Option<String>,
}

pub(crate) fn head(rows: &[Row], advance: &Advance) -> Result<Head, Failure> {
    let row = rows.first().ok_or_else(|| no_log(&advance.collection))?;
    Ok(Head {
        end: position(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?),
        id: row.try_get(3)?,
    })
}

pub(crate) const APPEND: &str = "insert into fieldsync_changes \
     (collection, \"offset\", tag, id, action, after, former, at, who, idempotency_key) \
     select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], \
                          $8::bigint[], $9::text[], $10::text[])";

/// The columns of [`APPEND`].
#[derive(Default)]
pub(crate) struct Columns {
    pub(crate) collections: Vec<String>,
    pub(crate) offsets: Vec<i64>,
    pub(crate) tags: Vec<i64>,
    pub(crate) ids: Vec<String>,
    pub(crate) actions: Vec<&'static str>,
    pub(crate) after: Vec<String>,
    pub(crate) former: Vec<String>,
    pub(crate) at: Vec<i64>,
    pub(crate) who: Vec<Option<String>>,
    pub(crate) keys: Vec<Option<String>>,
}

pub(crate) fn columns(changes: &[Arc<Change>]) -> Result<Columns, Failure> {
    let mut columns = Columns::default();
    for change in changes {
        columns.collections.push(change.key.collection.to_string());
        columns.offsets.push(change.position.offset.cast_signed());
        columns.tags.push(change.position.tag.into());
        columns.ids.push(id_to_text(change.key.id));
        columns.actions.push(match change.action {
            Action::Create => "create",
            Action::Update => "update",
            Action::Delete => "delete",
        });
        columns.after.push(serde_json::to_string(&change.after)?);
        columns.former.push(serde_json::to_string(&change.former)?);
        columns.at.push(change.at.as_micros());
        columns.who.push(change.who.clone());
        columns.keys.push(change.idempotency_key.clone());
    }
    Ok(columns)
}

/// The changes of a collection, or of one of its records, among the next so many of the log, up to a page's bytes; and in each
/// row what tells whether the place is in the log: the log's ends, and the tag of the change there.
pub(crate) const SINCE: &str = "select h.epoch, h.last, h.last_tag, h.trimmed, h.trimmed_tag, \
            (select at_place.tag from fieldsync_changes at_place \
             where at_place.collection = h.collection and at_place.\"offset\" = $2), \
            c.\"offset\", c.tag, c.id, c.action, c.after, c.former, c.at, c.who, c.idempotency_key \
     from fieldsync_heads h left join lateral \
       (select * from \
         (select *, sum(octet_length(after) + octet_length(former)) over (order by \"offset\" \
                      rows between unbounded preceding and 1 preceding) as bytes_before \
          from fieldsync_changes where collection = h.collection and \"offset\" > $2 \
            and \"offset\" <= least($2, 1::bigint << 62) + $4 and ($3::text is null or id = $3)) c \
        where bytes_before is null or bytes_before < $5) c on true \
     where h.collection = $1 order by c.\"offset\"";

/// The next changes after a place, or why it is not in the log.
pub(crate) async fn changes(
    client: &Object,
    collection: &Arc<str>,
    since: Position,
    limit: usize,
) -> Result<Backlog, Failure> {
    let statement = client.prepare_cached(SINCE).await?;
    let (offset, limit) = (
        since.offset.cast_signed(),
        i64::try_from(limit.max(1)).unwrap_or(i64::MAX),
    );
    let (name, everything) = (&**collection, None::<&str>);
    let rows = client
        .query(
            &statement,
            &[&name, &offset, &everything, &limit, &PAGE_BYTES],
        )
        .await?;
    if let Some(reason) = lost(&rows, collection, since)? {
        return Ok(Backlog::Lost(reason));
    }
    let head: i64 = rows[0].try_get(1)?;
    let head = head.cast_unsigned();
    let (mut changes, mut last) = (Vec::new(), since.offset);
    for row in &rows {
        let Some((change, _)) = change(row, collection, since.epoch)? else {
            break;
        };
        last += 1;
        if change.position.offset != last {
            // Somebody deleted rows of the log.
            return Ok(Backlog::Lost(ResetReason::Restored));
        }
        changes.push(change);
    }
    if changes.is_empty() && last < head {
        return Ok(Backlog::Lost(ResetReason::Restored));
    }
    Ok(Backlog::Changes {
        changes,
        more: last < head,
    })
}

/// The changes of one record after a place, from the rows of [`SINCE`].
pub(crate) fn changes_of(
    rows: &[Row],
    key: &RecordKey,
    since: Position,
) -> Result<Backlog, Failure> {
    if let Some(reason) = lost(rows, &key.collection, since)? {
        return Ok(Backlog::Lost(reason));
    }
    let head = rows
        .first()
        .map(|row| row.try_get::<_, i64>(1))
        .transpose()?;
    let distance = head.unwrap_or_default().cast_unsigned() - since.offset;
    let (mut changes, mut bytes) = (Vec::new(), 0);
    for row in rows {
        if let Some((change, size)) = change(row, &key.collection, since.epoch)? {
            bytes += size;
            changes.push(change);
        }
    }
    if distance > BASE_REACH || bytes >= PAGE_BYTES as usize {
        return Ok(Backlog::Lost(ResetReason::Trimmed));
    }
    Ok(Backlog::Changes {
        changes,
        more: false,
    })
}

/// Why a place is not in the log, if it is not.
fn lost(rows: &[Row], collection: &str, since: Position) -> Result<Option<ResetReason>, Failure> {
    let row = rows.first().ok_or_else(|| no_log(collection))?;
    let head = position(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let trimmed = position(row.try_get(0)?, row.try_get(3)?, row.try_get(4)?);
    if since.epoch != head.epoch {
        return Ok(Some(ResetReason::Epoch));
    }
    if since.offset > head.offset {
        return Ok(Some(ResetReason::Restored));
    }
    if since.offset < trimmed.offset {
        return Ok(Some(ResetReason::Trimmed));
    }
    let tag = if since.offset == head.offset {
        Some(head.tag)
    } else if since.offset == trimmed.offset {
        Some(trimmed.tag)
    } else {
        row.try_get::<_, Option<i64>>(5)?.map(|tag| tag as u32)
    };
    Ok((tag != Some(since.tag)).then_some(ResetReason::Restored))
}

/// One row of the log, and how many bytes of JSON it has; none in the row that stands for no change.
fn change(
    row: &Row,
    collection: &Arc<str>,
    epoch: u64,
) -> Result<Option<(Change, usize)>, Failure> {
    let Some(offset) = row.try_get::<_, Option<i64>>(6)? else {
        return Ok(None);
    };
    let unreadable = |column: &str| {
        StoreError::Backend(
            format!("table fieldsync_changes, column {column}: not as fieldsync wrote it").into(),
        )
    };
    let action = match row.try_get::<_, &str>(9)? {
        "create" => Action::Create,
        "update" => Action::Update,
        "delete" => Action::Delete,
        _ => return Err(unreadable("action").into()),
    };
    let (after, former): (&str, &str) = (row.try_get(10)?, row.try_get(11)?);
    let id: RecordId = id_from_text(row.try_get(8)?).ok_or_else(|| unreadable("id"))?;
    let change = Change {
        position: position(epoch.cast_signed(), offset, row.try_get(7)?),
        key: RecordKey {
            collection: Arc::clone(collection),
            id,
        },
        action,
        after: serde_json::from_str(after)?,
        former: serde_json::from_str(former)?,
        at: Timestamp::from_micros(row.try_get(12)?).ok_or_else(|| unreadable("at"))?,
        who: row.try_get(13)?,
        idempotency_key: row.try_get(14)?,
    };
    Ok(Some((change, after.len() + former.len())))
}

/// Forgets of one log what is beyond the retention, at most so many changes; how many, and whether there are more.
pub(crate) async fn trim(
    client: &Object,
    collection: &str,
    retention: Retention,
    most: usize,
) -> Result<(usize, bool), Failure> {
    // The head row's lock keeps a second node out that trims, and the deleted rows and the mark together.
    let sql = "select c.\"offset\", c.tag, c.at, h.last \
         from (select * from fieldsync_heads where collection = $1 for update) h \
         join fieldsync_changes c on c.collection = h.collection and c.\"offset\" > h.trimmed \
         order by c.\"offset\" limit $2";
    let oldest = ago(retention.age);
    let statement = client.prepare_cached(sql).await?;
    let rows = client
        .query(&statement, &[&collection, &(most as i64 + 1)])
        .await?;
    let (mut last, mut forgotten, mut more) = (None, 0, false);
    for row in &rows {
        let (offset, head): (i64, i64) = (row.try_get(0)?, row.try_get(3)?);
        let beyond_count = head.cast_unsigned().saturating_sub(retention.count);
        if offset.cast_unsigned() > beyond_count && row.try_get::<_, i64>(2)? > oldest {
            break;
        }
        if forgotten == most {
            more = true;
            break;
        }
        forgotten += 1;
        last = Some((offset, row.try_get::<_, i64>(1)?));
    }
    let Some((offset, tag)) = last else {
        return Ok((0, more));
    };
    let sql = "delete from fieldsync_changes where collection = $1 and \"offset\" <= $2";
    let statement = client.prepare_cached(sql).await?;
    client.execute(&statement, &[&collection, &offset]).await?;
    let sql = "update fieldsync_heads set trimmed = $2, trimmed_tag = $3 where collection = $1";
    let statement = client.prepare_cached(sql).await?;
    client
        .execute(&statement, &[&collection, &offset, &tag])
        .await?;
    Ok((forgotten, more))
}

/// The time that long ago, in microseconds since 1970.
pub(crate) fn ago(age: Duration) -> i64 {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Timestamp::now().as_micros().saturating_sub(micros)
}
