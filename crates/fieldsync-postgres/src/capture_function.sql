
declare
  floats text := current_setting('extra_float_digits');
  old_row jsonb;
  new_row jsonb;
  old_key text;
  new_key text;
begin
  -- Nothing here may make the writer fail, not even if the side tables were dropped.
  if to_regclass('{schema}.fieldsync_captured') is null or to_regclass('{schema}.fieldsync_doorbell') is null then
    return null;
  end if;
  if tg_op = 'TRUNCATE' then
    insert into {schema}.fieldsync_captured (log, key, op) values (tg_argv[0], '', 'T');
  else
    -- Below 1 the session rounds numbers.
    if floats::int < 1 then
      perform set_config('extra_float_digits', '1', true);
    end if;
    if tg_op <> 'INSERT' then
      old_row := to_jsonb(old);
      old_key := coalesce(old_row ->> tg_argv[1], '');
    end if;
    if tg_op <> 'DELETE' then
      new_row := to_jsonb(new);
      new_key := coalesce(new_row ->> tg_argv[1], '');
    end if;
    if floats::int < 1 then
      perform set_config('extra_float_digits', floats, true);
    end if;
    if old_key <> new_key then
      insert into {schema}.fieldsync_captured (log, key, op, old, new)
        values (tg_argv[0], old_key, 'D', old_row, null), (tg_argv[0], new_key, 'I', null, new_row);
    else
      insert into {schema}.fieldsync_captured (log, key, op, old, new)
        values (tg_argv[0], coalesce(new_key, old_key), left(tg_op, 1)::"char", old_row, new_row);
    end if;
  end if;
  if (select armed from {schema}.fieldsync_doorbell limit 1) then
    perform pg_notify('fieldsync:captured', '');
  end if;
  return null;
end
