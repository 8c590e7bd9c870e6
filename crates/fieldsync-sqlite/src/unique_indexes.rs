//! The unique indexes of a table, as conditions under which a new row collides with another.

use fieldsync_sql::Dialect as _;
use rusqlite::Connection;

use crate::bare_sql::without_quotes;
use crate::dialect::Sqlite;

/// A unique index, or the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UniqueIndex {
    /// Whether the row `x` collides with the row `new`, as SQL.
    pub(crate) collides: String,
    /// The columns on which it depends. `None` if it has an expression: then it may be any.
    pub(crate) columns: Option<Vec<String>>,
}

/// The key and the unique indexes of a table.
pub(crate) fn read(
    connection: &Connection,
    table: &str,
    key: &[String],
    columns: &[String],
) -> rusqlite::Result<Vec<UniqueIndex>> {
    let names = key.iter().map(|name| Sqlite::quote(name));
    let same: Vec<_> = names.map(|name| format!("x.{name} = new.{name}")).collect();
    let mut indexes = vec![UniqueIndex {
        collides: same.join(" and "),
        columns: Some(key.to_vec()),
    }];
    let sql = "select name, partial from pragma_index_list(?1) where \"unique\" order by name";
    let mut statement = connection.prepare(sql)?;
    let found = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for index in found.collect::<rusqlite::Result<Vec<(String, bool)>>>()? {
        let index = read_index(connection, &index.0, index.1, columns)?;
        if !indexes.contains(&index) {
            indexes.push(index);
        }
    }
    Ok(indexes)
}

fn read_index(
    connection: &Connection,
    name: &str,
    is_partial: bool,
    all_columns: &[String],
) -> rusqlite::Result<UniqueIndex> {
    let sql = "select name, coll from pragma_index_xinfo(?1) where key order by seqno";
    let mut statement = connection.prepare(sql)?;
    let parts = statement.query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let parts: Vec<(Option<String>, String)> = parts.collect::<rusqlite::Result<_>>()?;
    let is_simple = !is_partial && parts.iter().all(|(column, _)| column.is_some());
    let definition = if is_simple {
        None
    } else {
        let sql = "select sql from sqlite_schema where type = 'index' and name = ?1";
        let sql: Option<String> = connection.query_row(sql, [name], |row| row.get(0))?;
        sql.as_deref().and_then(Definition::parse)
    };
    let new_row: Vec<String> = all_columns
        .iter()
        .map(|column| format!("new.{0} as {0}", Sqlite::quote(column)))
        .collect();
    let new_row = new_row.join(", ");
    let equal = |(number, (column, collation)): (usize, &(Option<String>, String))| {
        let collation = Sqlite::quote(collation);
        match column {
            Some(column) => {
                let column = Sqlite::quote(column);
                Some(format!("x.{column} = new.{column} collate {collation}"))
            }
            // The columns of an expression have no qualifier: inside the subquery they are those of the new row.
            None => definition.as_ref()?.parts.get(number).map(|part| {
                format!("({part}) = (select {part} from (select {new_row})) collate {collation}")
            }),
        }
    };
    let equal: Vec<String> = parts.iter().enumerate().filter_map(equal).collect();
    let condition = definition.and_then(|definition| definition.condition);
    let condition = condition.map(|condition| format!("({condition})"));
    let columns = is_simple.then(|| parts.into_iter().filter_map(|(column, _)| column).collect());
    let all: Vec<String> = equal.into_iter().chain(condition).collect();
    Ok(UniqueIndex {
        // Without any part that could be read, every row may collide. What does not is dropped later.
        collides: if all.is_empty() {
            "1".to_owned()
        } else {
            all.join(" and ")
        },
        columns,
    })
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
