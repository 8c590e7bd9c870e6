//! `fieldsync check`: what can be served, and why not the rest.

use serde_json::json;

use crate::arguments::CheckOptions;
use crate::database::{Database, explain};
use crate::tables::{Service, Table, fit, selected};

/// Prints the report. `false` if something can't be served.
pub(crate) async fn check(options: &CheckOptions) -> Result<bool, String> {
    let selection = &options.selection;
    let database = Database::open(&selection.dsn, selection.side_schema.as_deref()).await?;
    let mut tables = selected(&database, selection).await?;
    let service = Service {
        is_captured: true,
        is_read_only: false,
    };
    let ddl = fit(&database, &mut tables, service).await;
    let ddl = ddl.map_err(|error| explain("can't compare the tables", &error))?;
    // A view without a key is no fault of the database's.
    let is_fault = |table: &&Table| table.collection.is_err() && !table.description.is_view;
    let (mut served, mut all) = (0, 0);
    for table in tables.iter().filter(|table| !table.description.is_view) {
        let (of_table, of_all) = table.columns();
        served += of_table;
        all += of_all;
    }
    let faults = tables.iter().filter(is_fault).count();
    let base_tables = tables
        .iter()
        .filter(|table| !table.description.is_view)
        .count();
    if options.json {
        let tables: Vec<_> = tables.iter().map(Table::to_json).collect();
        let report = json!({
            "tables": {"served": base_tables - faults, "all": base_tables},
            "columns": {"served": served, "all": all},
            "collections": tables,
            "ddl": ddl,
        });
        println!("{report:#}");
    } else {
        for table in &tables {
            print_table(table);
        }
        println!(
            "\n{} of {base_tables} tables can be served, with {served} of {all} columns.",
            base_tables - faults
        );
        let statements = ddl.lines().filter(|line| line.ends_with(';')).count();
        println!("With --capture, fieldsync would run {statements} statements: see fieldsync ddl.");
    }
    Ok(faults == 0 && served == all)
}

fn print_table(table: &Table) {
    let description = &table.description;
    let name = description.qualified_name();
    let rows = description
        .rows
        .map_or_else(String::new, |rows| format!(", {rows} rows"));
    match &table.collection {
        Err(reason) => println!("✗ {name}: {reason}"),
        Ok((collection, left_out)) => {
            let (served, all) = table.columns();
            let kind = if collection.is_writable() {
                ""
            } else {
                ", read-only"
            };
            println!(
                "✓ {name}: key {}, {served} of {all} columns{rows}{kind}",
                description.key.join(", ")
            );
            for column in left_out {
                println!(
                    "    ✗ {} ({}): {}",
                    column.column, column.sql_type, column.reason
                );
            }
        }
    }
    for effect in &description.effects {
        println!("    changes other rows: {effect}");
    }
}
