-- The side tables. The app's own tables are made or checked in table.rs.

-- One row per collection: the end of its log, and how far it is trimmed.
create table if not exists fieldsync_heads (
    collection text primary key not null,
    epoch integer not null,
    last integer not null,
    last_tag integer not null,
    trimmed integer not null,
    trimmed_tag integer not null
) without rowid;

-- The change log. `at` is in microseconds since 1970; `after` and `former` are JSON objects.
create table if not exists fieldsync_changes (
    collection text not null,
    offset integer not null,
    tag integer not null,
    id not null,
    action text not null,
    after text not null,
    former text not null,
    at integer not null,
    who text,
    idempotency_key text,
    primary key (collection, offset)
) without rowid;

-- What became of edits with an idempotency key.
create table if not exists fieldsync_keys (
    principal text not null,
    key text not null,
    fingerprint text not null,
    collection text not null,
    id not null,
    epoch integer not null,
    offset integer not null,
    tag integer not null,
    record text,
    at integer not null,
    primary key (principal, key)
) without rowid;

create index if not exists fieldsync_keys_at on fieldsync_keys (at);
