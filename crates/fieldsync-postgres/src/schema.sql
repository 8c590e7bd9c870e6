-- The log's ends, one row a collection. Its lock makes offset order commit order.
create table if not exists fieldsync_heads (
  collection text not null primary key,
  -- A random number, made with the row.
  epoch bigint not null,
  last bigint not null default 0,
  last_tag bigint not null default 0,
  -- The last change that was forgotten.
  trimmed bigint not null default 0,
  trimmed_tag bigint not null default 0
);

create table if not exists fieldsync_changes (
  collection text not null,
  "offset" bigint not null,
  tag bigint not null,
  id text not null,
  action text not null,
  after text not null,
  former text not null,
  -- Microseconds since 1970.
  at bigint not null,
  who text,
  idempotency_key text,
  primary key (collection, "offset")
);

create table if not exists fieldsync_keys (
  principal text not null,
  key text not null,
  fingerprint text not null,
  collection text not null,
  id text not null,
  epoch bigint not null,
  "offset" bigint not null,
  tag bigint not null,
  -- Null after a delete.
  record text,
  at bigint not null,
  primary key (principal, key)
);

create index if not exists fieldsync_keys_at on fieldsync_keys (at);
