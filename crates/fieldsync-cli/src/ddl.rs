//! `fieldsync ddl`: the SQL that fieldsync would run.

use crate::arguments::DdlOptions;
use crate::check::with_capture;
use crate::database::{Database, explain};
use crate::tables::selected;

pub(crate) async fn ddl(options: &DdlOptions) -> Result<(), String> {
    let selection = &options.selection;
    let database = Database::open(&selection.dsn, selection.side_schema.as_deref()).await?;
    let sql = if options.drop {
        database.drop_ddl().await
    } else {
        let is_captured = options.capture.is_on()?;
        let tables = selected(&database, selection).await?;
        let collections = with_capture(&tables);
        let collections: Vec<_> = match is_captured {
            true => collections,
            false => collections
                .into_iter()
                .map(|one| one.without_capture())
                .collect(),
        };
        database.ddl(&collections).await
    };
    print!(
        "{}",
        sql.map_err(|error| explain("can't make the SQL", &error))?
    );
    Ok(())
}
