//! The unique indexes of a table, as conditions under which a new row collides with another.

use fieldsync_sql::Dialect as _;
use rusqlite::Connection;

use crate::bare_sql::without_quotes;
use crate::dialect::Sqlite;
use crate::replaced_nulls::{TableColumn, WhereNull};

/// A unique index, or the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UniqueIndex {
    /// Whether the row `x` collides with the row `new`, as SQL.
    pub(crate) collides: String,
    /// The columns on which it depends. `None` if it has an expression or a generated column: then it may be any.
    pub(crate) columns: Option<Vec<String>>,
}

/// The key and the unique indexes of a table.
pub(crate) fn read(
    connection: &Connection,
    table: &str,
    key: &[String],
    columns: &[TableColumn],
) -> rusqlite::Result<Vec<UniqueIndex>> {
    let parts = key.iter().map(|name| (Some(name.clone()), None)).collect();
    let mut indexes = Index::new(parts, None, columns).conditions();
    let sql = "select name, partial from pragma_index_list(?1) where \"unique\" order by name";
    let mut statement = connection.prepare(sql)?;
    let found = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (name, is_partial) in found.collect::<rusqlite::Result<Vec<(String, bool)>>>()? {
        for index in Index::read(connection, &name, is_partial, columns)?.conditions() {
            if !indexes.contains(&index) {
                indexes.push(index);
            }
        }
    }
    Ok(indexes)
}

/// The column of a part of an index, if it is not an expression, and the part's collation. A key has that of its columns.
type Part = (Option<String>, Option<String>);

/// An index as the catalog has it.
struct Index<'a> {
    parts: Vec<Part>,
    /// Of an index with an expression or a condition.
    definition: Option<Definition>,
    /// Whether it depends on its columns alone, and on none that is generated.
    is_simple: bool,
    columns: &'a [TableColumn],
}

impl<'a> Index<'a> {
    fn new(parts: Vec<Part>, definition: Option<Definition>, columns: &'a [TableColumn]) -> Self {
        let is_plain = |(name, _): &Part| {
            let name = name.as_ref();
            let column = name.and_then(|name| columns.iter().find(|column| column.name == *name));
            column.is_some_and(|column| !column.is_generated)
        };
        Self {
            is_simple: definition.is_none() && parts.iter().all(is_plain),
            parts,
            definition,
            columns,
        }
    }

    fn read(
        connection: &Connection,
        name: &str,
        is_partial: bool,
        columns: &'a [TableColumn],
    ) -> rusqlite::Result<Self> {
        let sql = "select name, coll from pragma_index_xinfo(?1) where key order by seqno";
        let mut statement = connection.prepare(sql)?;
        let parts = statement.query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let parts: Vec<Part> = parts.collect::<rusqlite::Result<_>>()?;
        if !is_partial && parts.iter().all(|(column, _)| column.is_some()) {
            return Ok(Self::new(parts, None, columns));
        }
        let sql = "select sql from sqlite_schema where type = 'index' and name = ?1";
        let sql: Option<String> = connection.query_row(sql, [name], |row| row.get(0))?;
        let definition = sql.as_deref().and_then(Definition::parse);
        Ok(Self {
            is_simple: false,
            ..Self::new(parts, definition, columns)
        })
    }

    /// When a row collides with the new one, and when it does with what REPLACE makes of the new row's nulls.
    fn conditions(&self) -> Vec<UniqueIndex> {
        let replaced: Vec<&TableColumn> = self
            .columns
            .iter()
            .filter(|column| match column.where_null {
                WhereNull::Stays => false,
                WhereNull::Becomes(_) => !self.is_simple,
                WhereNull::BecomesUnknown => !self.is_simple || self.has(&column.name),
            })
            .collect();
        let mut conditions = vec![self.condition(&[], None)];
        if !replaced.is_empty() {
            let nulls = replaced
                .iter()
                .map(|column| format!("new.{} is null", Sqlite::quote(&column.name)));
            let nulls = format!("({})", nulls.collect::<Vec<_>>().join(" or "));
            conditions.push(self.condition(&replaced, Some(nulls)));
        }
        conditions
    }

    fn has(&self, column: &str) -> bool {
        self.parts
            .iter()
            .any(|(name, _)| name.as_deref() == Some(column))
    }

    /// The condition without the parts that depend on some columns.
    fn condition(&self, without: &[&TableColumn], only_if: Option<String>) -> UniqueIndex {
        let equal = |(number, (column, collation)): (usize, &Part)| {
            let collation = collation.as_ref();
            let collation = collation.map(|name| format!(" collate {}", Sqlite::quote(name)));
            let collation = collation.unwrap_or_default();
            let Some(name) = column else {
                let part = self.definition.as_ref()?.parts.get(number)?;
                // The columns of an expression have no qualifier: inside the subquery they are those of the new row.
                let new_row = self.new_row();
                return without.is_empty().then(|| {
                    format!("({part}) = (select {part} from (select {new_row})){collation}")
                });
            };
            let column = self.columns.iter().find(|column| column.name == *name);
            let is_left_out = without.iter().any(|column| column.name == *name)
                || !without.is_empty() && column.is_some_and(|column| column.is_generated);
            let quoted = Sqlite::quote(name);
            let new = match column.map(|column| &column.where_null) {
                Some(WhereNull::Becomes(default)) => format!("coalesce(new.{quoted}, {default})"),
                _ => format!("new.{quoted}"),
            };
            (!is_left_out).then(|| format!("x.{quoted} = {new}{collation}"))
        };
        let equal = self.parts.iter().enumerate().filter_map(equal);
        let condition = self.definition.as_ref();
        let condition = condition.and_then(|definition| definition.condition.as_ref());
        let condition = condition.map(|condition| format!("({condition})"));
        let all: Vec<String> = only_if.into_iter().chain(equal).chain(condition).collect();
        UniqueIndex {
            // Without any part that could be read, every row may collide. What does not is dropped later.
            collides: if all.is_empty() {
                "1".to_owned()
            } else {
                all.join(" and ")
            },
            columns: self.is_simple.then(|| {
                self.parts
                    .iter()
                    .filter_map(|(name, _)| name.clone())
                    .collect()
            }),
        }
    }

    fn new_row(&self) -> String {
        let columns = self.columns.iter();
        let columns: Vec<String> = columns
            .map(|column| format!("new.{0} as {0}", Sqlite::quote(&column.name)))
            .collect();
        columns.join(", ")
    }
}

/// The text of an index's parts and of its condition.
struct Definition {
    parts: Vec<String>,
    condition: Option<String>,
}

impl Definition {
    /// Reads `create unique index … on … (part, part) where condition`.
    fn parse(sql: &str) -> Option<Self> {
        let bare = without_quotes(sql);
        let open = bare.find('(')?;
        let (mut depth, mut begin, mut parts, mut end) = (0, open + 1, Vec::new(), None);
        for (at, letter) in bare.bytes().enumerate().skip(open) {
            match letter {
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            if depth == 0 || depth == 1 && letter == b',' {
                parts.push(part(&sql[begin..at], &bare[begin..at]));
                begin = at + 1;
            }
            if depth == 0 {
                end = Some(at + 1);
                break;
            }
        }
        let end = end?;
        let condition = bare[end..].find("where").map(|at| {
            let condition = &sql[end + at + "where".len()..];
            // The line break ends a comment.
            format!("{}\n", condition.trim())
        });
        Some(Self { parts, condition })
    }
}

/// A part without its order. The line break ends a comment.
fn part(sql: &str, bare: &str) -> String {
    let bare = bare.trim_end();
    let before_order = ["asc", "desc"].iter().find_map(|order| {
        let before = bare.strip_suffix(order)?;
        before.ends_with([' ', '\n', '\t', ')']).then_some(before)
    });
    let length = before_order.unwrap_or(bare).len();
    format!("{}\n", sql[..length].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_taken_apart() {
        let sql = "create unique index \"a(b\" on t (lower(a, ')') desc, [b,c] -- (\n, d) WHERE d > '' and a";
        let definition = Definition::parse(sql).unwrap();
        assert_eq!(definition.parts, ["lower(a, ')')\n", "[b,c] -- (\n", "d\n"]);
        assert_eq!(definition.condition.unwrap(), "d > '' and a\n");
    }
}
