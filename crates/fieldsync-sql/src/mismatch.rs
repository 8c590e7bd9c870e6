//! How a table does not fit its collection, and the nearest name where one is missing.

use fieldsync::Collection;
use fieldsync::backend::SchemaMismatch;

pub(crate) fn mismatch<'a>(
    collection: &Collection,
    column: impl Into<Option<&'a str>>,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> SchemaMismatch {
    SchemaMismatch {
        table: collection.table_name().to_owned(),
        column: column.into().map(str::to_owned),
        found: found.into(),
        expected: expected.into(),
    }
}

/// `; did you mean "item"?` if one of these names is near.
pub(crate) fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    let distances = candidates.into_iter().map(|candidate| {
        (
            distance(&name.to_lowercase(), &candidate.to_lowercase()),
            candidate,
        )
    });
    match distances.min() {
        Some((distance, nearest)) if distance <= (name.chars().count() / 3).max(1) => {
            format!("; did you mean {nearest:?}?")
        }
        _ => String::new(),
    }
}

/// How many letters must be inserted, deleted, replaced, or swapped with the next to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, found) in other.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != found);
            let mut best = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *letter == other[column - 1] && one[row - 1] == *found {
                best = best.min(before_last[column - 1] + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        let check = |name: &str, nearest: Option<&str>| {
            let expected =
                nearest.map_or(String::new(), |name| format!("; did you mean {name:?}?"));
            let names = ["item", "order", "first_name", "id"];
            assert_eq!(did_you_mean(name, names), expected, "{name}");
        };
        check("itme", Some("item"));
        check("items", Some("item"));
        check("Orders", Some("order"));
        check("firstname", Some("first_name"));
        check("first_nmae", Some("first_name"));
        check("customer", None);
        assert_eq!(did_you_mean("item", []), "");
    }
}
