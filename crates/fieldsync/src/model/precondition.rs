//! Preconditions of edits (RFC 9110, section 13.1).

use crate::model::canonical::CanonicalHasher;

/// A condition on the current record (RFC 9110, section 13.1).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precondition {
    /// `If-Match: *`: the record exists.
    Exists,
    /// `If-Match`: the record's strong entity tag is one of these, quotes included.
    Matches(Vec<String>),
    /// `If-None-Match`: the record's entity tag is none of these, quotes included.
    MatchesNone(Vec<String>),
    /// `If-None-Match: *`: the record does not exist.
    Absent,
}

impl Precondition {
    /// Whether the precondition holds for a record with this entity tag. `None` stands for a record that does not
    /// exist.
    #[must_use]
    pub fn holds(&self, tag: Option<&str>) -> bool {
        let matches = |tags: &[String]| tag.is_some_and(|tag| tags.iter().any(|one| one == tag));
        match self {
            Self::Exists => tag.is_some(),
            Self::Absent => tag.is_none(),
            Self::Matches(tags) => matches(tags),
            Self::MatchesNone(tags) => !matches(tags),
        }
    }

    /// Writes the precondition into an edit's fingerprint.
    pub(crate) fn identify(&self, hasher: &mut CanonicalHasher) {
        let (name, tags) = match self {
            Self::Exists => ("exists", None),
            Self::Matches(tags) => ("matches", Some(tags)),
            Self::MatchesNone(tags) => ("matches-none", Some(tags)),
            Self::Absent => ("absent", None),
        };
        hasher.text(name);
        if let Some(tags) = hasher.option(tags) {
            hasher.list(tags.len());
            tags.iter().for_each(|tag| hasher.text(tag));
        }
    }
}
