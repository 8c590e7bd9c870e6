//! The statements of the side tables, whole. Each parameter occurs once, in ascending order.

use crate::dialect::{Dialect, ValueKind};
use crate::idempotency;
use crate::log::CHANGE_COLUMNS;
use crate::side_tables::SideSchema;

/// The statements of the side tables in the driver's dialect. A driver uses those that suit its database.
#[derive(Debug)]
pub struct LogStatements {
    /// The ends of a log, for [`log_bounds`](crate::log_bounds). The parameter is the log.
    pub bounds: String,
    /// The same, with a lock on the head.
    pub lock_bounds: String,
    /// The heads of all logs: the log, then what [`head`](crate::head) reads.
    pub heads: String,
    /// Moves a head, and returns it for [`head`](crate::head) if the database has RETURNING. The parameters are the number of
    /// changes, the last tag, and the log.
    pub advance: String,
    /// The tag of a change. The parameters are the log and the offset.
    pub tag_at: String,
    /// The changes after an offset, for [`change`](crate::change). The parameters are the log, the offset, and the
    /// most rows.
    pub changes: String,
    /// The change with an offset. The parameters are the log and the offset.
    pub change_at: String,
    /// The changes of a record after an offset. The parameters are the log, the offset, and the id.
    pub record_changes: String,
    /// Appends changes: [`change_values`](crate::change_values), as [`Dialect::values`] takes them.
    pub append: String,
    /// The oldest changes of a log: offset, tag, and time. The parameters are the log, the offset up to which the log
    /// was trimmed, and the most rows.
    pub trim_candidates: String,
    /// The sizes of the changes after an offset: offset and bytes, for [`LogSizes`](crate::LogSizes). The parameters are the log, the offset,
    /// and the most rows.
    pub sizes: String,
    /// Deletes the changes up to an offset. The parameters are the log and the offset.
    pub trim: String,
    /// Moves the position up to which a log was trimmed. The parameters are the offset, the tag, and the log.
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
    /// The key of cursors, for [`cursor_key`](crate::cursor_key).
    pub cursor_key: String,
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
    pub(crate) fn new<D: Dialect>(side: &SideSchema) -> Self {
        let render = |sql: &str| side.render::<D>(sql);
        let select_changes = format!("select {} ", names::<D>(&CHANGE_COLUMNS));
        let changes = |rest: &str| {
            format!(
                "{select_changes}{}",
                render(&format!("from fieldsync_changes {rest}"))
            )
        };
        let bounds = render(
            "select epoch, last, last_tag, trimmed, trimmed_tag, interrupted, interrupted_tag from fieldsync_heads where log = $1",
        );
        let keys = names::<D>(&idempotency::COLUMNS);
        let [principal, key, others @ ..] = idempotency::COLUMNS.map(D::quote);
        let replace = D::replace_on_conflict(&[principal, key], &others);
        Self {
            lock_bounds: format!("{bounds}{}", D::FOR_UPDATE),
            bounds,
            heads: render("select log, epoch, last, last_tag from fieldsync_heads"),
            advance: render(if D::LAST_INSERT_ID.is_none() {
                "update fieldsync_heads set last = last + $1, last_tag = $2 where log = $3 returning epoch, last, last_tag"
            } else {
                "update fieldsync_heads set last = last + $1, last_tag = $2 where log = $3"
            }),
            tag_at: render(r#"select tag from fieldsync_changes where log = $1 and "offset" = $2"#),
            changes: changes(r#"where log = $1 and "offset" > $2 order by "offset" limit $3"#),
            change_at: changes(r#"where log = $1 and "offset" = $2"#),
            record_changes: changes(
                r#"where log = $1 and "offset" > $2 and id = $3 order by "offset""#,
            ),
            append: format!(
                "{} (log, {}) {}",
                render("insert into fieldsync_changes"),
                names::<D>(&CHANGE_COLUMNS),
                D::values(&CHANGE_KINDS)
            ),
            trim_candidates: render(
                r#"select "offset", tag, at from fieldsync_changes where log = $1 and "offset" > $2 order by "offset" limit $3"#,
            ),
            sizes: render(&format!(
                r#"select "offset", cast(octet_length(after) as {}) + octet_length(former) from fieldsync_changes
                   where log = $1 and "offset" > $2 order by "offset" limit $3"#,
                D::SIDE_TABLE_TYPES.integer
            )),
            trim: render(r#"delete from fieldsync_changes where log = $1 and "offset" <= $2"#),
            mark_trimmed: render(
                "update fieldsync_heads set trimmed = $1, trimmed_tag = $2 where log = $3",
            ),
            find_key: format!(
                "select {} {}",
                names::<D>(&idempotency::COLUMNS[..8]),
                render(r#"from fieldsync_keys where principal = $1 and "key" = $2 and at > $3"#)
            ),
            remember: format!(
                "{} ({keys}) {} {replace}",
                render("insert into fieldsync_keys"),
                D::values(&KEY_KINDS)
            ),
            forget: render(
                r#"delete from fieldsync_keys where (principal, "key") in
                   (select principal, "key" from fieldsync_keys where at <= $1 order by at limit $2)"#,
            ),
            cursor_key: render("select secret from fieldsync_secrets where name = 'cursors'"),
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
        let statements = LogStatements::new::<TestDialect>(&SideSchema::default());
        assert_eq!(
            statements.record_changes,
            "select `offset`, `tag`, `id`, `action`, `after`, `former`, `at`, `who`, `idempotency_key` from fieldsync_changes \
             where log = ? and `offset` > ? and id = ? order by `offset`"
        );
        assert_eq!(
            statements.lock_bounds,
            "select epoch, last, last_tag, trimmed, trimmed_tag, interrupted, interrupted_tag from fieldsync_heads where log = ? for update"
        );
        assert!(!statements.advance.contains("returning"));
        let end =
            "on duplicate key update `fingerprint` = values(`fingerprint`), `log` = values(`log`)";
        assert!(statements.remember.contains(end), "{}", statements.remember);
    }
}
