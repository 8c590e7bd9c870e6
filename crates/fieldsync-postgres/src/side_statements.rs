//! The statements of the side tables that only PostgreSQL has: each does in one round trip what takes several elsewhere.

/// The statements, with the side tables' schema.
#[derive(Debug)]
pub(crate) struct SideStatements {
    /// The heads of some logs: other apps may have many logs in the same database. The parameter is an array of logs.
    pub(crate) heads: String,
    /// Moves a head, whose row stays locked until the end of the transaction. Returns the transaction's id with it. The
    /// parameters are the number of changes, the last tag, and the log.
    pub(crate) advance: String,
    /// Only reads it.
    pub(crate) head: String,
    /// The changes of a log, or of one of its records, among the next `$4`, up to `$5` bytes; and in each row what tells
    /// whether the position is in range: the ends of the log, and the tag of the change at the position.
    pub(crate) since: String,
    /// The keys that were used since a time. The parameters are arrays of principals and of keys, and the time.
    pub(crate) find_keys: String,
    /// Locks a head, and selects the oldest changes and the head. The lock keeps other nodes from trimming the same log, and
    /// holds the deleted rows and the mark together. The parameters are the log and the most rows.
    pub(crate) trim_candidates: String,
    /// Whether a change exists. The parameters are the log, the offset, and the tag.
    pub(crate) has_change: String,
    /// Whether a key was used. The parameters are the principal and the key.
    pub(crate) has_key: String,
}

impl SideStatements {
    pub(crate) fn new(render: &dyn Fn(&str) -> String) -> Self {
        Self {
            heads: render(
                "select log, epoch, last, last_tag from fieldsync_heads where log = any($1::text[])",
            ),
            advance: render(
                "update fieldsync_heads set last = last + $1, last_tag = $2 where log = $3 \
                 returning epoch, last, last_tag, pg_current_xact_id()::text",
            ),
            head: render(
                "select epoch, last, last_tag, pg_current_xact_id_if_assigned()::text from fieldsync_heads \
                 where log = $1",
            ),
            since: render(
                r#"select h.epoch, h.last, h.last_tag, h.trimmed, h.trimmed_tag,
                          (select at_position.tag from fieldsync_changes at_position
                           where at_position.log = h.log and at_position."offset" = $2),
                          c."offset", c.tag, c.id, c.action, c.after, c.former, c.at, c.who, c.idempotency_key
                   from fieldsync_heads h left join lateral
                     (select * from
                       (select *, sum(octet_length(after) + octet_length(former)) over (order by "offset"
                                    rows between unbounded preceding and 1 preceding) as bytes_before
                        from fieldsync_changes where log = h.log and "offset" > $2
                          and "offset" <= least($2, 1::bigint << 62) + $4 and ($3::text is null or id = $3)) c
                      where bytes_before is null or bytes_before < $5) c on true
                   where h.log = $1 order by c."offset""#,
            ),
            find_keys: render(
                r#"select k.principal, k.key, k.fingerprint, k.log, k.id, k.epoch, k."offset", k.tag, k.record
                   from fieldsync_keys k join unnest($1::text[], $2::text[]) as wanted (principal, key)
                   on k.principal = wanted.principal and k.key = wanted.key where k.at > $3"#,
            ),
            trim_candidates: render(
                r#"select c."offset", c.tag, c.at, h.last
                   from (select * from fieldsync_heads where log = $1 for update) h
                   join fieldsync_changes c on c.log = h.log and c."offset" > h.trimmed
                   order by c."offset" limit $2"#,
            ),
            has_change: render(
                r#"select from fieldsync_changes where log = $1 and "offset" = $2 and tag = $3"#,
            ),
            has_key: render("select from fieldsync_keys where principal = $1 and key = $2"),
        }
    }
}
