-- What the triggers noted and no log has yet.
create table if not exists fieldsync_captured (
  seq integer primary key,
  -- The name of the log.
  tbl text not null,
  -- I, U and D: an insert, an update, a delete. R: a row that a write collides with, which REPLACE deletes.
  op text not null,
  key
);
create index if not exists fieldsync_captured_key on fieldsync_captured (tbl, key);
