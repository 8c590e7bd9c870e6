-- The end of each log. A log belongs to a table, and has its name. The row's lock makes offset order equal commit order.
create table if not exists fieldsync_heads (
  log {key} not null primary key,
  -- A random number, made with the row.
  epoch {integer} not null,
  last {integer} not null default 0,
  last_tag {integer} not null default 0,
  -- The last change that was trimmed.
  trimmed {integer} not null default 0,
  trimmed_tag {integer} not null default 0,
  -- The position at which the capture of changes was last interrupted.
  interrupted {integer} not null default 0,
  interrupted_tag {integer} not null default 0{heads}
){options};

-- The app's tables that have a log.
create table if not exists fieldsync_tables (
  -- The table's name, with its schema where the database has schemas.
  log {key} not null primary key,
  -- 1 if fieldsync created the table.
  is_ours {integer} not null default 0,
  -- The table's triggers as capture last saw them.
  capture {text}
){options};

create table if not exists fieldsync_changes (
  log {key} not null,
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
  primary key (log, "offset")
){options};

create table if not exists fieldsync_keys (
  principal {key} not null,
  "key" {key} not null,
  fingerprint {text} not null,
  log {key} not null,
  id {id} not null,
  epoch {integer} not null,
  "offset" {integer} not null,
  tag {integer} not null,
  at {integer} not null,
  primary key (principal, "key")
){options};

create index {if_not_exists}"fieldsync_keys_at" on fieldsync_keys (at);

-- Random keys that are made once, and that all nodes share.
create table if not exists fieldsync_secrets (
  name {key} not null primary key,
  -- In hexadecimal digits.
  secret {text} not null
){options};
