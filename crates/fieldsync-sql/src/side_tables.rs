//! The tables `fieldsync_…`: the ends of the logs, the changes, and the idempotency keys.

use crate::dialect::Dialect;
use crate::render::render;

/// The statements that create the side tables, separated by semicolons.
#[must_use]
pub fn side_tables<D: Dialect>() -> String {
    let types = D::SIDE_TABLE_TYPES;
    let if_not_exists = if types.has_index_if_not_exists {
        "if not exists "
    } else {
        ""
    };
    let mut sql = include_str!("schema.sql").to_owned();
    for (name, declaration) in [
        ("{integer}", types.integer),
        ("{text}", types.text),
        ("{key}", types.key),
        ("{id}", types.id),
        ("{heads}", types.heads),
        ("{options}", types.options),
        ("{if_not_exists}", if_not_exists),
    ] {
        sql = sql.replace(name, declaration);
    }
    render::<D>(&sql)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dialect::TestDialect;

    #[test]
    fn side_tables_are_declared_in_the_dialect() {
        let sql = side_tables::<TestDialect>();
        for part in [
            "epoch bigint not null,",
            "`offset` bigint not null,",
            "`key` varchar(255) not null,",
            "idempotency_key longtext,",
            "primary key (principal, `key`)\n) engine=innodb;",
            "create index fieldsync_keys_at on",
        ] {
            assert!(sql.contains(part), "{part} in {sql}");
        }
        assert!(!sql.contains(['{', '}', '"', '$']), "{sql}");
    }
}
