//! Whether changes that the engine did not make are captured, and what that takes.

use fieldsync::Collection;
use fieldsync::backend::{CaptureChoice, SchemaMismatch};

use crate::catalog::TableInfo;

/// Whether changes of the table are captured. `is_ours`: whether fieldsync created the table.
pub(crate) fn has_capture(
    collection: &Collection,
    table: &TableInfo,
    is_ours: bool,
) -> Result<bool, SchemaMismatch> {
    match collection.capture_choice() {
        Some(choice) => Ok(choice == CaptureChoice::On),
        None if is_ours => Ok(true),
        None => Err(SchemaMismatch {
            table: collection.table_name().to_owned(),
            column: None,
            found: "an existing table, and no choice about capture".to_owned(),
            expected: expected_choice(&table.capture),
        }),
    }
}

/// Explains both choices, and prints what `.capture()` would run.
fn expected_choice(ddl: &[String]) -> String {
    let mut text = "one of two calls on the collection:\n  \
        .capture() announces every change of the table, also those of the database itself and of other programs; it creates triggers.\n  \
        .without_capture() announces only the engine's own changes, and leaves the table as it is."
        .to_owned();
    if !ddl.is_empty() {
        text += "\n.capture() would run:";
        for statement in ddl {
            text += "\n";
            text += statement;
            text += ";";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_explained_with_the_statements_that_capture_runs() {
        let without = expected_choice(&[]);
        assert!(without.ends_with("leaves the table as it is."), "{without}");
        let with = expected_choice(&["create trigger a".into(), "create trigger b".into()]);
        let end = ".capture() would run:\ncreate trigger a;\ncreate trigger b;";
        assert_eq!(with, format!("{without}\n{end}"));
    }
}
