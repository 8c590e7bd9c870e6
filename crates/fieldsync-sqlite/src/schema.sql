-- The log's ends, one row a collection. Its lock makes offset order commit order.
create table if not exists fieldsync_heads (
  collection text not null primary key,
  -- A random number, made with the row.
  epoch integer not null,
  last integer not null default 0,
  last_tag integer not null default 0,
  -- The last change that was forgotten.
  trimmed integer not null default 0,
  trimmed_tag integer not null default 0,
  -- The highest id that was deleted from a table without autoincrement, which would give it again.
  last_id integer not null default 0
) without rowid;

create table if not exists fieldsync_changes (
  collection text not null,
  "offset" integer not null,
  tag integer not null,
  -- An integer or a UUID's text: no type, so that neither is turned into the other.
  id not null,
  action text not null,
  after text not null,
  former text not null,
  -- Microseconds since 1970.
  at integer not null,
  who text,
  idempotency_key text,
  primary key (collection, "offset")
) without rowid;

create table if not exists fieldsync_keys (
  principal text not null,
  key text not null,
  fingerprint text not null,
  collection text not null,
  id not null,
  epoch integer not null,
  "offset" integer not null,
  tag integer not null,
  -- Null after a delete.
  record text,
  at integer not null,
  primary key (principal, key)
) without rowid;

create index if not exists fieldsync_keys_at on fieldsync_keys (at);
