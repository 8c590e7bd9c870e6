//! The SQL of the triggers that note each write of a table in `fieldsync_captured`. It runs inside other programs, so it is the
//! SQL of 2013: no JSON, no upsert, no RETURNING.

use fieldsync_sql::{Dialect as _, SqlValue};

use crate::dialect::Sqlite;
use crate::unique_indexes::UniqueIndex;

/// A table whose writes are noted.
pub(crate) struct CapturedTable<'a> {
    pub(crate) name: &'a str,
    /// The key columns.
    pub(crate) key: &'a [String],
    /// Their values are noted in the columns `o1` and `n1`, `o2` and `n2`, and so on.
    pub(crate) columns: &'a [String],
    pub(crate) unique: &'a [UniqueIndex],
}

/// A trigger: its name, and the statement that creates it as the catalog returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trigger {
    pub(crate) name: String,
    pub(crate) sql: String,
}

impl CapturedTable<'_> {
    /// The triggers of the table, by their names.
    pub(crate) fn triggers(&self) -> Vec<Trigger> {
        let key = |row: &str| self.key_of(row);
        let (deleted, inserted) = (self.noted("D", "old"), self.noted("I", "new"));
        // Two keys that are the same under the column's collation are still two keys.
        let same_key = format!("{} collate binary is {}", key("old"), key("new"));
        let other_key = format!("{} collate binary is not {}", key("old"), key("new"));
        let (mut insert_collides, mut update_collides) = (Vec::new(), Vec::new());
        for index in self.unique {
            let noted = self.noted_from("R", "x");
            insert_collides.push(format!("{noted} where {}", index.collides));
            let others = format!("{} collate binary is not {}", key("x"), key("old"));
            update_collides.push(format!("{noted} where {others} and ({})", index.collides));
        }
        let before_update = format!("before update{}", self.unique_columns());
        let both = [deleted.clone(), inserted.clone()];
        vec![
            self.trigger("ad", "after delete", "", &[deleted]),
            self.trigger("ai", "after insert", "", &[inserted]),
            self.trigger("ak", "after update", &other_key, &both),
            self.trigger("au", "after update", &same_key, &[self.updated()]),
            // REPLACE deletes rows without firing a trigger, unless the connection has `recursive_triggers`.
            self.trigger("bi", "before insert", "", &insert_collides),
            self.trigger("bu", &before_update, "", &update_collides),
        ]
    }

    fn trigger(&self, ending: &str, event: &str, when: &str, statements: &[String]) -> Trigger {
        let name = format!("fieldsync_{}_{ending}", self.name);
        let (quoted, table) = (Sqlite::quote(&name), Sqlite::quote(self.name));
        let when = match when {
            "" => String::new(),
            condition => format!(" when {condition}"),
        };
        let statements: String = statements.iter().map(|sql| format!("  {sql};\n")).collect();
        Trigger {
            sql: format!("CREATE TRIGGER {quoted} {event} on {table}{when} begin\n{statements}end"),
            name,
        }
    }

    /// The columns whose update may make a row collide with another: `of …`, or nothing for all columns.
    fn unique_columns(&self) -> String {
        let mut columns: Vec<&str> = Vec::new();
        for index in self.unique {
            let Some(names) = &index.columns else {
                return String::new();
            };
            columns.extend(names.iter().map(String::as_str));
        }
        columns.sort_unstable();
        columns.dedup();
        let columns: Vec<String> = columns.into_iter().map(Sqlite::quote).collect();
        format!(" of {}", columns.join(", "))
    }

    /// Notes a whole row: its old values for a delete, its new ones for an insert.
    fn noted(&self, operation: &str, row: &str) -> String {
        let side = if row == "new" { "n" } else { "o" };
        format!(
            "insert into fieldsync_captured (tbl, op, key{}) values ({})",
            self.numbered(&[side]),
            self.values(operation, row)
        )
    }

    /// Notes whole rows of the table.
    fn noted_from(&self, operation: &str, alias: &str) -> String {
        format!(
            "insert into fieldsync_captured (tbl, op, key{}) select {} from {} {alias}",
            self.numbered(&["o"]),
            self.values(operation, alias),
            Sqlite::quote(self.name)
        )
    }

    /// Notes the values that an update changed. A column that it did not change has null on both sides.
    fn updated(&self) -> String {
        let mut values = String::new();
        for (before, after) in [("old", "new"), ("new", "old")] {
            for column in self.columns {
                let name = Sqlite::quote(column);
                // The integer 1 equals the real 1.0, and a column without a type has both.
                values += &format!(
                    ", case when {before}.{name} collate binary is not {after}.{name} or typeof({before}.{name}) <> typeof({after}.{name}) then {before}.{name} end"
                );
            }
        }
        format!(
            "insert into fieldsync_captured (tbl, op, key{}{}) values ({}, 'U', {}{values})",
            self.numbered(&["o"]),
            self.numbered(&["n"]),
            self.literal(),
            self.key_of("new")
        )
    }

    fn values(&self, operation: &str, row: &str) -> String {
        let columns = self.columns.iter();
        let columns = columns.map(|name| format!(", {row}.{}", Sqlite::quote(name)));
        format!(
            "{}, '{operation}', {}{}",
            self.literal(),
            self.key_of(row),
            columns.collect::<String>()
        )
    }

    /// The key of a row: the value of a single column, or the text of an id of several.
    fn key_of(&self, row: &str) -> String {
        let part = |name: &String| format!("{row}.{}", Sqlite::quote(name));
        match self.key {
            [name] => part(name),
            names => {
                let text = |name| {
                    let part = part(name);
                    format!("replace(replace(cast({part} as text), '%', '%25'), ',', '%2C')")
                };
                let parts: Vec<_> = names.iter().map(text).collect();
                format!("({})", parts.join(" || ',' || "))
            }
        }
    }

    /// `, o1, o2, …`
    fn numbered(&self, sides: &[&str]) -> String {
        let numbers = 1..=self.columns.len();
        numbers
            .flat_map(|number| sides.iter().map(move |side| format!(", {side}{number}")))
            .collect()
    }

    fn literal(&self) -> String {
        Sqlite::literal(&SqlValue::text(self.name))
    }
}
