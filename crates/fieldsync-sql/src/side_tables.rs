//! The tables `fieldsync_…`: the ends of the logs, the changes, and the idempotency keys.

use fieldsync::backend::SchemaMismatch;

use crate::dialect::Dialect;
use crate::render::render;

/// The schema of the side tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SideSchema(Option<String>);

/// A side table that exists, or one of its indexes.
#[derive(Debug, Clone)]
pub struct FoundSideTable {
    /// The name.
    pub name: String,
    /// The columns.
    pub columns: Vec<String>,
}

impl SideSchema {
    /// A schema by its name, or none for a database without schemas.
    #[must_use]
    pub fn new(name: Option<String>) -> Self {
        Self(name)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// SQL in the dialect: quotes the names in double quotes, writes the parameters `$1`, and qualifies the names that begin
    /// with `fieldsync_` and are not in quotes.
    #[must_use]
    pub fn render<D: Dialect>(&self, sql: &str) -> String {
        let qualifier = self.0.as_deref().map(D::quote);
        let qualifier = qualifier.map_or_else(String::new, |schema| schema + ".");
        render::<D>(sql, &qualifier)
    }
}

/// The statements that create the side tables, if any is missing; and how those that exist do not fit.
pub(crate) fn side_tables<D: Dialect>(
    side: &SideSchema,
    found: &[FoundSideTable],
) -> (Vec<String>, Vec<SchemaMismatch>) {
    let sql = declarations::<D>();
    let (mut missing, mut wrong) = (Vec::new(), Vec::new());
    for statement in sql.split(';').map(str::trim) {
        let Some((name, columns)) = declared(statement) else {
            continue;
        };
        match found.iter().find(|table| table.name == name) {
            None => missing.push(side.render::<D>(statement)),
            Some(table) => wrong.extend(unfit(table, &columns)),
        }
    }
    (missing, wrong)
}

/// The statements in standard SQL, with the dialect's types.
fn declarations<D: Dialect>() -> String {
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
    sql
}

/// The name of the table or index that a statement creates, and the table's columns.
fn declared(statement: &str) -> Option<(&str, Vec<&str>)> {
    let mut lines = statement.lines().map(str::trim);
    let create = lines.find(|line| line.starts_with("create "))?;
    let mut words = create.split_whitespace();
    let name = words.find(|word| word.trim_matches('"').starts_with("fieldsync_"))?;
    let columns = lines.filter(|line| !line.starts_with("--") && !line.starts_with(')'));
    let columns = columns.filter(|line| !line.starts_with("primary key"));
    let columns = columns.filter_map(|line| line.split_whitespace().next());
    let columns = columns.map(|column| column.trim_matches('"'));
    Some((name.trim_matches('"'), columns.collect()))
}

fn unfit(table: &FoundSideTable, columns: &[&str]) -> Vec<SchemaMismatch> {
    let is_missing = |column: &&&str| !table.columns.iter().any(|found| found == **column);
    let missing = columns.iter().filter(is_missing);
    missing
        .map(|column| SchemaMismatch {
            table: table.name.clone(),
            column: Some((*column).to_owned()),
            found: "no such column".to_owned(),
            expected:
                "the side tables of this version of fieldsync; drop those of another version, \
                       and every window gets a snapshot"
                    .to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dialect::TestDialect;

    #[test]
    fn side_tables_are_declared_in_the_dialect() {
        let (sql, wrong) = side_tables::<TestDialect>(&SideSchema::default(), &[]);
        assert_eq!(wrong, []);
        let sql = sql.join(";");
        for part in [
            "epoch bigint not null,",
            "`offset` bigint not null,",
            "`key` varchar(255) not null,",
            "idempotency_key longtext,",
            "primary key (principal, `key`)\n) engine=innodb;",
            "create index `fieldsync_keys_at` on fieldsync_keys",
        ] {
            assert!(sql.contains(part), "{part} in {sql}");
        }
        assert!(!sql.contains(['{', '}', '"', '$']), "{sql}");
    }

    #[test]
    fn side_tables_live_in_their_schema() {
        let side = SideSchema::new(Some("sync".to_owned()));
        let (sql, _) = side_tables::<TestDialect>(&side, &[]);
        assert!(
            sql[0].contains("create table if not exists `sync`.fieldsync_heads ("),
            "{}",
            sql[0]
        );
        assert!(sql[4].contains("create index `fieldsync_keys_at` on `sync`.fieldsync_keys"));
        assert_eq!(side.name(), Some("sync"));
    }

    #[test]
    fn what_exists_is_checked_and_not_created_again() {
        let found = |name: &str, columns: &[&str]| FoundSideTable {
            name: name.to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        };
        let old = [
            found("fieldsync_keys_at", &["at"]),
            found("fieldsync_tables", &["log", "is_ours", "capture"]),
            found(
                "fieldsync_heads",
                &[
                    "collection",
                    "epoch",
                    "last",
                    "last_tag",
                    "trimmed",
                    "trimmed_tag",
                    "interrupted",
                    "interrupted_tag",
                ],
            ),
        ];
        let (sql, wrong) = side_tables::<TestDialect>(&SideSchema::default(), &old);
        assert_eq!(sql.len(), 3);
        let wrong: Vec<_> = wrong
            .iter()
            .map(|one| (&*one.table, one.column.as_deref()))
            .collect();
        assert_eq!(wrong, [("fieldsync_heads", Some("log"))]);
    }
}
