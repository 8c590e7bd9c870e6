//! Finds relations by their names, also in schemas that the role may not use: `to_regclass` fails there.

/// SQL in which each `oid_of(name)` is the oid of the relation with this name, as SQL and with its schema; null if there is none.
pub(crate) fn with_oids(sql: &str) -> String {
    let mut pieces = sql.split("oid_of(");
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once(')').unwrap_or((piece, ""));
        whole += &format!(
            "(select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace \
              where n.nspname = (parse_ident({name}))[1] and c.relname = (parse_ident({name}))[2]){rest}"
        );
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_becomes_its_oid() {
        let sql = with_oids("select oid_of($1) = oid_of(w.name), f(1)");
        assert!(sql.starts_with("select (select c.oid from"), "{sql}");
        assert!(sql.contains("(parse_ident(w.name))[2]), f(1)"), "{sql}");
        assert_eq!(with_oids("select 1"), "select 1");
    }
}
