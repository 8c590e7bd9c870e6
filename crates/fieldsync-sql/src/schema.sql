-- The end of each log, one row per collection. The row's lock makes offset order equal commit order.
create table if not exists fieldsync_heads (
  collection {key} not null primary key,
  -- A random number, made with the row.
  epoch {integer} not null,
  last {integer} not null default 0,
  last_tag {integer} not null default 0,
  -- The last change that was trimmed.
  trimmed {integer} not null default 0,
  trimmed_tag {integer} not null default 0{heads}
){options};

create table if not exists fieldsync_changes (
  collection {key} not null,
  "offset" {integer} not null,
  tag {integer} not null,
  id {id} not null,
  action {key} not null,
  after {text} not null,
  former {text} not null,
  -- Microseconds since 1970.
  at {integer} not null,
  who {text},
  idempotency_key {text},
  primary key (collection, "offset")
){options};

create table if not exists fieldsync_keys (
  principal {key} not null,
  "key" {key} not null,
  fingerprint {text} not null,
  collection {key} not null,
  id {id} not null,
  epoch {integer} not null,
  "offset" {integer} not null,
  tag {integer} not null,
  at {integer} not null,
  primary key (principal, "key")
){options};

create index {if_not_exists}fieldsync_keys_at on fieldsync_keys (at);
