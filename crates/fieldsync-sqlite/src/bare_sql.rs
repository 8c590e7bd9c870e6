//! SQL without what is in quotes, to look for words in it.

/// The SQL in lower case, with comments, literals and quoted names replaced by underscores. Positions stay the same.
pub(crate) fn without_quotes(sql: &str) -> String {
    let mut bare = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let begin = first.len_utf8();
        let end = match first {
            '\'' | '"' | '`' => Some(first.to_string()),
            '[' => Some("]".to_owned()),
            '-' if rest.starts_with("--") => Some("\n".to_owned()),
            '/' if rest.starts_with("/*") => Some("*/".to_owned()),
            _ => None,
        };
        let length = match end {
            Some(end) => {
                let at = rest[begin..].find(&end);
                at.map_or(rest.len(), |at| begin + at + end.len())
            }
            None => begin,
        };
        match first {
            _ if length > begin || begin > 1 => bare.extend(std::iter::repeat_n('_', length)),
            letter => bare.push(letter.to_ascii_lowercase()),
        }
        rest = &rest[length..];
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_literals_and_quoted_names_are_left_out() {
        for (sql, bare) in [
            ("id INTEGER AUTOINCREMENT", "id integer autoincrement"),
            ("a default 'auto', b", "a default ______, b"),
            ("a 'it''s auto' b", "a ____________ b"),
            ("\"auto\" [auto] `auto`", "______ ______ ______"),
            ("a -- auto\nb /* auto */ c", "a ________b __________ c"),
            ("a 'ä", "a ___"),
            ("ä(", "__("),
        ] {
            assert_eq!(without_quotes(sql), bare, "{sql}");
            assert_eq!(bare.len(), sql.len());
        }
    }
}
