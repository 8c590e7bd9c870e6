//! `fieldsync ddl`: the SQL that fieldsync would run.

use crate::arguments::DdlOptions;
use crate::database::{Database, explain};
use crate::tables::{Service, fit, selected};

pub(crate) async fn ddl(options: &DdlOptions) -> Result<(), String> {
    let selection = &options.selection;
    let database = Database::open(&selection.dsn, selection.side_schema.as_deref()).await?;
    let sql = if options.drop {
        database.drop_ddl().await
    } else {
        let is_captured = options.capture.is_on()?;
        let mut tables = selected(&database, selection).await?;
        let service = Service {
            is_captured,
            is_read_only: false,
        };
        let sql = fit(&database, &mut tables, service).await;
        for table in tables.iter().filter(|table| !table.description.is_view) {
            if let Err(reason) = &table.collection {
                eprintln!("left out: {}: {reason}", table.description.qualified_name());
            }
        }
        sql
    };
    print!(
        "{}",
        sql.map_err(|error| explain("can't make the SQL", &error))?
    );
    Ok(())
}
