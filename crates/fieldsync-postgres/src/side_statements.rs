//! The statements of the side tables that only PostgreSQL has: each does in one round trip what takes several elsewhere.

/// The statements, with the side tables' schema.
#[derive(Debug)]
pub(crate) struct SideStatements {
    /// The heads of some logs: other apps may have many logs in the same database. The parameter is an array of logs.
    pub(crate) heads: String,
    /// Locks heads until the end of the transaction, in their order. Returns the transaction's id with them. The parameter is
    /// an array of logs.
    pub(crate) lock_heads: String,
    /// The same with those of the records that this transaction's edits have changed elsewhere.
    pub(crate) lock_heads_of_effects: String,
    /// Only reads the heads.
    pub(crate) heads_of: String,
    /// Moves the heads, which are locked. The parameters are arrays of logs, offsets, and tags.
    pub(crate) advance: String,
    /// The changes of a log of the epoch `$6`, or of one of its records if there are at most `$4`, among the next `$4`, up to `$5` bytes; and in each row what tells
    /// whether the position is in range: the ends of the log, and the tag of the change at the position.
    pub(crate) since: String,
    /// The keys that were used since a time. The parameters are arrays of principals and of keys, and the time.
    pub(crate) find_keys: String,
    /// Locks a head, and selects the oldest changes and the head. The lock keeps other nodes from trimming the same log, and
    /// holds the deleted rows and the mark together. The parameters are the log and the most rows.
    pub(crate) trim_candidates: String,
    /// The change with an offset, after the epoch of the log. The parameters are the log and the offset.
    pub(crate) change_at: String,
    /// Those of capture.
    pub(crate) capture: CaptureStatements,
    /// Whether a change exists. The parameters are the log, the offset, and the tag.
    pub(crate) has_change: String,
    /// Whether a key was used. The parameters are the principal and the key.
    pub(crate) has_key: String,
}

/// How statements are planned that use captured rows, from now on in this transaction. Nothing of the app's should run after it.
pub(crate) const BY_INDEX: &str = "set local enable_seqscan = off; set local jit = off";
/// How they are planned otherwise.
pub(crate) const AS_CONFIGURED: &str =
    "set local enable_seqscan to default; set local jit to default";

impl SideStatements {
    pub(crate) fn new(render: &dyn Fn(&str) -> String) -> Self {
        Self {
            heads: render(
                "select log, epoch, last, last_tag from fieldsync_heads where log = any($1::text[])",
            ),
            lock_heads: render(
                "select log, epoch, last, last_tag, pg_current_xact_id()::text from fieldsync_heads \
                 where log = any($1::text[]) order by log for update",
            ),
            lock_heads_of_effects: render(
                "select log, epoch, last, last_tag, pg_current_xact_id()::text from fieldsync_heads \
                 where log = any($1::text[]) \
                   or log in (select log from fieldsync_captured where xid = pg_current_xact_id()) \
                 order by log for update",
            ),
            heads_of: render(
                "select log, epoch, last, last_tag, pg_current_xact_id_if_assigned()::text \
                 from fieldsync_heads where log = any($1::text[])",
            ),
            advance: render(
                "update fieldsync_heads h set last = v.last, last_tag = v.tag \
                 from unnest($1::text[], $2::bigint[], $3::bigint[]) as v(log, last, tag) \
                 where h.log = v.log",
            ),
            since: render(
                r#"select h.epoch, h.last, h.last_tag, h.trimmed, h.trimmed_tag, h.interrupted, h.interrupted_tag,
                          (select at_position.tag from fieldsync_changes at_position
                           where at_position.log = h.log and at_position."offset" = $2),
                          c."offset", c.tag, c.id, c.action, c.after, c.former, c.at, c.who, c.idempotency_key
                   from fieldsync_heads h left join lateral
                     (select * from
                       (select *, sum(octet_length(after) + octet_length(former)) over (order by "offset"
                                    rows between unbounded preceding and 1 preceding) as bytes_before
                        from fieldsync_changes where log = h.log and "offset" > $2
                          and "offset" <= least($2, 1::bigint << 62) + $4 and h.epoch = $6
                          and ($3::text is null or id = $3 and h.last <= least($2, 1::bigint << 62) + $4)) c
                      where bytes_before is null or bytes_before < $5) c on true
                   where h.log = $1 order by c."offset""#,
            ),
            find_keys: render(
                r#"select k.principal, k.key, k.fingerprint, k.log, k.id, k.epoch, k."offset", k.tag
                   from fieldsync_keys k join unnest($1::text[], $2::text[]) as wanted (principal, key)
                   on k.principal = wanted.principal and k.key = wanted.key where k.at > $3"#,
            ),
            trim_candidates: render(
                r#"select c."offset", c.tag, c.at, h.last, h.epoch
                   from (select * from fieldsync_heads where log = $1 for update) h
                   join fieldsync_changes c on c.log = h.log and c."offset" > h.trimmed
                   order by c."offset" limit $2"#,
            ),
            change_at: render(
                r#"select h.epoch, c."offset", c.tag, c.id, c.action, c.after, c.former, c.at, c.who, c.idempotency_key
                   from fieldsync_heads h join fieldsync_changes c on c.log = h.log
                   where h.log = $1 and c."offset" = $2"#,
            ),
            capture: CaptureStatements::new(render),
            has_change: render(
                r#"select from fieldsync_changes where log = $1 and "offset" = $2 and tag = $3"#,
            ),
            has_key: render("select from fieldsync_keys where principal = $1 and key = $2"),
        }
    }
}

/// The statements of capture.
///
/// The table of captured rows is nearly always empty, and its statistics say so, but one statement of another program can fill
/// it. So that a plan for the empty table does not read the full one for each batch, they run with [`BY_INDEX`], and where a
/// join would leave a choice they have a subquery that can't be merged with the query around it.
#[derive(Debug)]
pub(crate) struct CaptureStatements {
    /// What others wrote to some records. The parameters are arrays of logs and of keys.
    pub(crate) captured_by_others: String,
    /// Takes what this transaction wrote, and what others wrote to the same records and to those of the parameters.
    pub(crate) take_captured: String,
    /// The logs for which something was captured. The parameter is an array of logs.
    pub(crate) waiting: String,
    /// Whether the table was truncated, something waits for too long, or too much waits: more records than this, or for one
    /// record a tenth of that. The parameters are the log, the most records, and the retention in seconds. Records are counted
    /// only where there may be more rows than that.
    pub(crate) is_lost: String,
    /// Arms the doorbell. Two-phase commit forbids notifications.
    pub(crate) arm: String,
    /// Disarms the doorbell.
    pub(crate) disarm: String,
}

impl CaptureStatements {
    fn new(render: &dyn Fn(&str) -> String) -> Self {
        Self {
            captured_by_others: render(
                "select c.* from unnest($1::text[], $2::text[]) as w (log, key) cross join lateral \
                   (select c.log, c.key, c.old::text, c.new::text, false from fieldsync_captured c \
                    where c.log = w.log and c.key = w.key and c.op <> 'T' offset 0) c",
            ),
            take_captured: render(
                "with wanted as materialized \
                   (select log, key from fieldsync_captured where xid = pg_current_xact_id() and op <> 'T' \
                    union select log, key from unnest($1::text[], $2::text[]) as w (log, key)) \
                 delete from fieldsync_captured where ctid = any(array \
                   (select c.ctid from wanted w cross join lateral (select c.ctid from fieldsync_captured c \
                      where c.log = w.log and c.key = w.key and c.op <> 'T' offset 0) c)) \
                 returning log, key, old::text, new::text, xid = pg_current_xact_id()",
            ),
            waiting: render(
                "select w.log from unnest($1::text[]) as w (log) \
                 where exists (select from fieldsync_captured c where c.log = w.log)",
            ),
            is_lost: render(
                "select case \
                   when exists (select from fieldsync_captured where log = $1 and key = '' and op = 'T') then true \
                   when (select at from fieldsync_captured order by seq limit 1) < now() - $3::bigint * interval '1 second' \
                     then exists (select from fieldsync_captured where log = $1 and at < now() - $3::bigint * interval '1 second') \
                   when (select max(seq) - min(seq) >= $2::bigint from fieldsync_captured) \
                     then (select count(*) > $2::bigint or max(rows) > $2::bigint / 10 from \
                       (select count(*) as rows from fieldsync_captured where log = $1 group by key limit $2::bigint + 1) k) \
                   else false end",
            ),
            arm: render(
                "update fieldsync_doorbell set armed = true \
                 where not armed and current_setting('max_prepared_transactions') = '0'",
            ),
            disarm: render("update fieldsync_doorbell set armed = false where armed"),
        }
    }
}
