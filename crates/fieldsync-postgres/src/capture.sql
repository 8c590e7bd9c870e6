-- What the triggers capture, until an engine logs it.
create table if not exists {schema}.fieldsync_captured (
  seq bigint generated always as identity primary key,
  xid xid8 not null default pg_current_xact_id(),
  -- The log of the table.
  log text not null,
  -- The record's id as text. Empty for TRUNCATE.
  key text not null,
  -- I, U, D or T.
  op "char" not null,
  at timestamptz not null default transaction_timestamp(),
  -- As JSON. Not every value of the type json can be jsonb.
  old json,
  new json
);
create index if not exists fieldsync_captured_key on {schema}.fieldsync_captured (log, key);
create index if not exists fieldsync_captured_xid on {schema}.fieldsync_captured (xid);

-- Whether the next writer notifies the engines, because all of them sleep. One row.
create table if not exists {schema}.fieldsync_doorbell (armed boolean not null);
insert into {schema}.fieldsync_doorbell select false where not exists (select from {schema}.fieldsync_doorbell);
