//! Values as they pass between the shared code and a driver.

use std::borrow::Cow;
use std::error::Error;

use fieldsync::backend::StoreError;

/// A value that a driver binds to a parameter or reads from a column.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlValue<'a> {
    /// Null.
    Null,
    /// An integer.
    Integer(i64),
    /// A double.
    Real(f64),
    /// Text.
    Text(Cow<'a, str>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> SqlValue<'a> {
    /// Text.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    /// Text, or null for `None`.
    pub fn optional_text(text: Option<impl Into<Cow<'a, str>>>) -> Self {
        text.map_or(Self::Null, Self::text)
    }
}

impl SqlValue<'_> {
    /// The value, without a borrow.
    #[must_use]
    pub fn into_owned(self) -> SqlValue<'static> {
        match self {
            Self::Null => SqlValue::Null,
            Self::Integer(number) => SqlValue::Integer(number),
            Self::Real(number) => SqlValue::Real(number),
            Self::Text(text) => SqlValue::Text(text.into_owned().into()),
            Self::Bytes(bytes) => SqlValue::Bytes(bytes.into_owned().into()),
        }
    }
}

impl From<i64> for SqlValue<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

/// A row of a result, as the driver has it.
pub trait Row {
    /// The value of a column; the first column is number 0.
    ///
    /// # Errors
    /// If the driver cannot read the value.
    fn value(&self, column: usize) -> Result<SqlValue<'_>, Box<dyn Error + Send + Sync>>;
}

/// A row of a side table. Its errors name the table and the column.
pub(crate) struct SideTableRow<'r, R: ?Sized> {
    row: &'r R,
    table: &'static str,
    /// The names of the columns, from `first` on.
    columns: &'static [&'static str],
    first: usize,
}

impl<'r, R: Row + ?Sized> SideTableRow<'r, R> {
    pub(crate) fn new(
        row: &'r R,
        table: &'static str,
        columns: &'static [&'static str],
        first: usize,
    ) -> Self {
        Self {
            row,
            table,
            columns,
            first,
        }
    }

    /// The error for a value that fieldsync does not write.
    #[cold]
    pub(crate) fn unreadable(&self, column: usize) -> StoreError {
        let (table, column) = (self.table, self.columns[column]);
        let error = format!("table {table}, column {column}: not a value that fieldsync writes");
        StoreError::Backend(error.into())
    }

    #[inline]
    pub(crate) fn value(&self, column: usize) -> Result<SqlValue<'r>, StoreError> {
        self.row
            .value(self.first + column)
            .map_err(StoreError::Backend)
    }

    #[inline]
    pub(crate) fn integer(&self, column: usize) -> Result<i64, StoreError> {
        match self.value(column)? {
            SqlValue::Integer(number) => Ok(number),
            _ => Err(self.unreadable(column)),
        }
    }

    #[inline]
    pub(crate) fn text(&self, column: usize) -> Result<Cow<'r, str>, StoreError> {
        self.optional_text(column)?
            .ok_or_else(|| self.unreadable(column))
    }

    #[inline]
    pub(crate) fn optional_text(&self, column: usize) -> Result<Option<Cow<'r, str>>, StoreError> {
        match self.value(column)? {
            SqlValue::Null => Ok(None),
            SqlValue::Text(text) => Ok(Some(text)),
            _ => Err(self.unreadable(column)),
        }
    }
}
