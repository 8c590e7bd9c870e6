//! The statements of the side tables, whole. Each parameter occurs once, in ascending order.

use crate::dialect::{Dialect, ValueKind};
use crate::idempotency;
use crate::log::CHANGE_COLUMNS;
use crate::render::render;

/// The statements of the side tables in the driver's dialect. A driver uses those that suit its database.
#[derive(Debug)]
pub struct LogStatements {
    /// The ends of a log, for [`log_bounds`](crate::log_bounds). The parameter is the collection.
    pub bounds: String,
    /// The same, with a lock on the head.
    pub lock_bounds: String,
    /// The heads of all logs: the collection, then what [`head`](crate::head) reads.
    pub heads: String,
    /// Moves a head, and returns it for [`head`](crate::head) if the database has RETURNING. The parameters are the number of
    /// changes, the last tag, and the collection.
    pub advance: String,
    /// The tag of a change. The parameters are the collection and the offset.
    pub tag_at: String,
    /// The changes after an offset, for [`change`](crate::change). The parameters are the collection, the offset, and the
    /// most rows.
    pub changes: String,
    /// The change with an offset. The parameters are the collection and the offset.
    pub change_at: String,
    /// The changes of a record after an offset. The parameters are the collection, the offset, and the id.
    pub record_changes: String,
    /// Appends changes: [`change_values`](crate::change_values), as [`Dialect::values`] takes them.
    pub append: String,
    /// The oldest changes of a log: offset, tag, and time. The parameters are the collection, the offset up to which the log
    /// was trimmed, and the most rows.
    pub trim_candidates: String,
    /// Deletes the changes up to an offset. The parameters are the collection and the offset.
    pub trim: String,
    /// Moves the position up to which a log was trimmed. The parameters are the offset, the tag, and the collection.
    pub mark_trimmed: String,
    /// Looks up a key, for [`idempotency_record`](crate::idempotency_record). The parameters are the principal, the key, and
    /// [`oldest_idempotency_key`](crate::oldest_idempotency_key).
    pub find_key: String,
    /// Stores records: [`idempotency_values`](crate::idempotency_values), as [`Dialect::values`] takes them. A key that is
    /// too old is replaced.
    pub remember: String,
    /// Deletes the oldest keys. The parameters are [`oldest_idempotency_key`](crate::oldest_idempotency_key) and the most
    /// keys.
    pub forget: String,
}

const CHANGE_KINDS: [ValueKind; 10] = {
    use ValueKind::{Integer, Text};
    [
        Text, Integer, Integer, Text, Text, Text, Text, Integer, Text, Text,
    ]
};

const KEY_KINDS: [ValueKind; 9] = {
    use ValueKind::{Integer, Text};
    [
        Text, Text, Text, Text, Text, Integer, Integer, Integer, Integer,
    ]
};

impl LogStatements {
    pub(crate) fn new<D: Dialect>() -> Self {
        let changes = format!(
            "select {} from fieldsync_changes",
            names::<D>(&CHANGE_COLUMNS)
        );
        let changes = |rest: &str| format!("{changes} {}", render::<D>(rest));
        let bounds = render::<D>(
            "select epoch, last, last_tag, trimmed, trimmed_tag from fieldsync_heads where collection = $1",
        );
        let keys = names::<D>(&idempotency::COLUMNS);
        let [principal, key, others @ ..] = idempotency::COLUMNS.map(D::quote);
        let replace = D::replace_on_conflict(&[principal, key], &others);
        Self {
            lock_bounds: format!("{bounds}{}", D::FOR_UPDATE),
            bounds,
            heads: "select collection, epoch, last, last_tag from fieldsync_heads".to_owned(),
            advance: render::<D>(if D::LAST_INSERT_ID.is_none() {
                "update fieldsync_heads set last = last + $1, last_tag = $2 where collection = $3 returning epoch, last, last_tag"
            } else {
                "update fieldsync_heads set last = last + $1, last_tag = $2 where collection = $3"
            }),
            tag_at: render::<D>(
                r#"select tag from fieldsync_changes where collection = $1 and "offset" = $2"#,
            ),
            changes: changes(
                r#"where collection = $1 and "offset" > $2 order by "offset" limit $3"#,
            ),
            change_at: changes(r#"where collection = $1 and "offset" = $2"#),
            record_changes: changes(
                r#"where collection = $1 and "offset" > $2 and id = $3 order by "offset""#,
            ),
            append: format!(
                "insert into fieldsync_changes (collection, {}) {}",
                names::<D>(&CHANGE_COLUMNS),
                D::values(&CHANGE_KINDS)
            ),
            trim_candidates: render::<D>(
                r#"select "offset", tag, at from fieldsync_changes where collection = $1 and "offset" > $2 order by "offset" limit $3"#,
            ),
            trim: render::<D>(
                r#"delete from fieldsync_changes where collection = $1 and "offset" <= $2"#,
            ),
            mark_trimmed: render::<D>(
                "update fieldsync_heads set trimmed = $1, trimmed_tag = $2 where collection = $3",
            ),
            find_key: format!(
                "select {} from fieldsync_keys {}",
                names::<D>(&idempotency::COLUMNS[..8]),
                render::<D>(r#"where principal = $1 and "key" = $2 and at > $3"#)
            ),
            remember: format!(
                "insert into fieldsync_keys ({keys}) {} {replace}",
                D::values(&KEY_KINDS)
            ),
            forget: render::<D>(
                r#"delete from fieldsync_keys where (principal, "key") in
                   (select principal, "key" from fieldsync_keys where at <= $1 order by at limit $2)"#,
            ),
        }
    }
}

fn names<D: Dialect>(columns: &[&str]) -> String {
    let quoted: Vec<String> = columns.iter().map(|column| D::quote(column)).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dialect::TestDialect;

    #[test]
    fn statements_are_written_in_the_dialect() {
        let statements = LogStatements::new::<TestDialect>();
        assert_eq!(
            statements.record_changes,
            "select `offset`, `tag`, `id`, `action`, `after`, `former`, `at`, `who`, `idempotency_key` from fieldsync_changes \
             where collection = ? and `offset` > ? and id = ? order by `offset`"
        );
        assert_eq!(
            statements.lock_bounds,
            "select epoch, last, last_tag, trimmed, trimmed_tag from fieldsync_heads where collection = ? for update"
        );
        assert!(!statements.advance.contains("returning"));
        let end = "on duplicate key update `fingerprint` = values(`fingerprint`), `collection` = values(`collection`)";
        assert!(statements.remember.contains(end), "{}", statements.remember);
    }
}
