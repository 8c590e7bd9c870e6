//! Values between the shared code and `tokio-postgres`. Parameters are text or `bigint`; columns are these or times.

use std::borrow::Cow;
use std::error::Error;

use fieldsync_sql::{Row as SqlRow, SqlValue};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};

use crate::time::Time;

/// A parameter of a statement: one value, or an array with a value per row.
#[derive(Debug, Clone)]
pub(crate) enum Parameter<'a> {
    Integer(i64),
    Integers(Vec<i64>),
    Text(Option<Cow<'a, str>>),
    Texts(Vec<Option<Cow<'a, str>>>),
}

impl<'a> Parameter<'a> {
    pub(crate) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(Some(text.into()))
    }

    pub(crate) fn texts(texts: impl IntoIterator<Item: Into<Cow<'a, str>>>) -> Self {
        Self::Texts(texts.into_iter().map(|text| Some(text.into())).collect())
    }

    /// An array of the values of a column, which all have its type.
    pub(crate) fn column(values: impl IntoIterator<Item = SqlValue<'a>>) -> Self {
        let (mut integers, mut texts) = (Vec::new(), Vec::new());
        for value in values {
            match value {
                SqlValue::Integer(number) => integers.push(number),
                value => texts.push(text_of(value)),
            }
        }
        if texts.is_empty() {
            Self::Integers(integers)
        } else {
            Self::Texts(texts)
        }
    }

    /// An array for each column of these rows.
    pub(crate) fn columns<const N: usize>(rows: Vec<[SqlValue<'a>; N]>) -> Vec<Self> {
        let mut columns: [Vec<SqlValue<'a>>; N] = std::array::from_fn(|_| Vec::new());
        for row in rows {
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        columns.into_iter().map(Self::column).collect()
    }

    pub(crate) fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Integer(number) => number,
            Self::Integers(numbers) => numbers,
            Self::Text(text) => text,
            Self::Texts(texts) => texts,
        }
    }
}

impl<'a> From<SqlValue<'a>> for Parameter<'a> {
    fn from(value: SqlValue<'a>) -> Self {
        match value {
            SqlValue::Integer(number) => Self::Integer(number),
            value => Self::Text(text_of(value)),
        }
    }
}

fn text_of(value: SqlValue<'_>) -> Option<Cow<'_, str>> {
    match value {
        SqlValue::Text(text) => Some(text),
        // The dialect encodes everything but integers as text.
        _ => None,
    }
}

/// Text of a database that may not know its encoding: `Err` with other bytes than UTF-8.
pub(crate) struct AnyText<'a>(pub(crate) Result<&'a str, &'a [u8]>);

impl<'a> FromSql<'a> for AnyText<'a> {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(str::from_utf8(bytes).map_err(|_| bytes)))
    }

    fn accepts(kind: &Type) -> bool {
        <&str as FromSql<'_>>::accepts(kind)
    }
}

/// A row as PostgreSQL returns it.
pub(crate) struct PostgresRow<'a>(pub(crate) &'a Row);

impl SqlRow for PostgresRow<'_> {
    fn value(&self, column: usize) -> Result<SqlValue<'_>, Box<dyn Error + Send + Sync>> {
        let row = self.0;
        let value = match row.columns().get(column).map(|column| column.type_()) {
            Some(&Type::INT8) => row
                .try_get(column)
                .map(|number: Option<i64>| number.map(SqlValue::Integer)),
            Some(&Type::TIMESTAMPTZ | &Type::TIMESTAMP) => row
                .try_get(column)
                .map(|time: Option<Time>| time.map(|time| SqlValue::text(time.to_string()))),
            _ => {
                let text: Option<AnyText<'_>> = row.try_get(column)?;
                let text = text.map(|text| text.0).transpose();
                let text = text.map_err(|bytes| format!("not UTF-8: {}", bytes.escape_ascii()))?;
                Ok(text.map(SqlValue::text))
            }
        };
        Ok(value?.unwrap_or(SqlValue::Null))
    }
}
