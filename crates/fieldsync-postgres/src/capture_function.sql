
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
      if tg_nargs > 2 or tg_argv[1] like 'utc:%' then
        select string_agg(part, ',' order by n) into old_key from (select n, replace(replace(coalesce(case when tg_argv[n] like 'utc:%'
            then to_jsonb((old_row ->> substr(tg_argv[n], 5))::timestamptz at time zone 'UTC') #>> '{}'
            else old_row ->> tg_argv[n] end, ''), '%', '%25'), ',', '%2C') as part
          from generate_series(1, tg_nargs - 1) n) p;
      end if;
    end if;
    if tg_op <> 'DELETE' then
      new_row := to_jsonb(new);
      new_key := coalesce(new_row ->> tg_argv[1], '');
      if tg_nargs > 2 or tg_argv[1] like 'utc:%' then
        select string_agg(part, ',' order by n) into new_key from (select n, replace(replace(coalesce(case when tg_argv[n] like 'utc:%'
            then to_jsonb((new_row ->> substr(tg_argv[n], 5))::timestamptz at time zone 'UTC') #>> '{}'
            else new_row ->> tg_argv[n] end, ''), '%', '%25'), ',', '%2C') as part
          from generate_series(1, tg_nargs - 1) n) p;
      end if;
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
