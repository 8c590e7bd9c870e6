
declare
  floats text := current_setting('extra_float_digits');
  old_row json;
  new_row json;
  old_ids json;
  new_ids json;
  old_key text;
  new_key text;
  -- An escape in a column of type json may stand for no character.
  escape text := chr(92) || 'u';
  select_ids text;
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
      old_row := row_to_json(old);
      old_ids := old_row;
    end if;
    if tg_op <> 'DELETE' then
      new_row := row_to_json(new);
      new_ids := new_row;
    end if;
    if position(escape in old_row::text) > 0 or position(escape in new_row::text) > 0 then
      -- Only the key columns, without what can't be read.
      select 'select json_build_object(' || string_agg(format('%L, ($1).%I', name, name), ', ') || ')' into select_ids
        from (select case when tg_argv[n] like 'utc:%' then substr(tg_argv[n], 5) else tg_argv[n] end as name
          from generate_series(1, tg_nargs - 1) n) names;
      if tg_op <> 'INSERT' then
        execute select_ids into old_ids using old;
      end if;
      if tg_op <> 'DELETE' then
        execute select_ids into new_ids using new;
      end if;
    end if;
    if tg_op <> 'INSERT' then
      old_key := coalesce(old_ids ->> tg_argv[1], '');
      if tg_nargs > 2 or tg_argv[1] like 'utc:%' then
        select string_agg(part, ',' order by n) into old_key from (select n, replace(replace(coalesce(case when tg_argv[n] like 'utc:%'
            then to_json((old_ids ->> substr(tg_argv[n], 5))::timestamptz at time zone 'UTC') #>> '{}'
            else old_ids ->> tg_argv[n] end, ''), '%', '%25'), ',', '%2C') as part
          from generate_series(1, tg_nargs - 1) n) p;
      end if;
    end if;
    if tg_op <> 'DELETE' then
      new_key := coalesce(new_ids ->> tg_argv[1], '');
      if tg_nargs > 2 or tg_argv[1] like 'utc:%' then
        select string_agg(part, ',' order by n) into new_key from (select n, replace(replace(coalesce(case when tg_argv[n] like 'utc:%'
            then to_json((new_ids ->> substr(tg_argv[n], 5))::timestamptz at time zone 'UTC') #>> '{}'
            else new_ids ->> tg_argv[n] end, ''), '%', '%25'), ',', '%2C') as part
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
