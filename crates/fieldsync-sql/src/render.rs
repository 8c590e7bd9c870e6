//! The side tables' SQL is written for standard SQL: names in double quotes where they may be reserved or must not be
//! qualified, and numbered parameters. This turns it into a dialect's SQL.

use crate::dialect::Dialect;

/// Quotes the names in double quotes, writes the parameters as the dialect does, and qualifies the side tables.
pub(crate) fn render<D: Dialect>(sql: &str, qualifier: &str) -> String {
    let mut rendered = String::with_capacity(sql.len());
    // Every second part was in quotes.
    for (number, part) in sql.split('"').enumerate() {
        if number % 2 == 1 {
            rendered += &D::quote(part);
        } else {
            let part = part.replace("fieldsync_", &format!("{qualifier}fieldsync_"));
            render_parameters::<D>(&part, &mut rendered);
        }
    }
    rendered
}

fn render_parameters<D: Dialect>(sql: &str, rendered: &mut String) {
    let mut parts = sql.split('$');
    rendered.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = part.split_at(digits);
        match number.parse() {
            Ok(number) => rendered.push_str(&D::parameter(number)),
            Err(_) => rendered.push('$'),
        }
        rendered.push_str(rest);
    }
}
