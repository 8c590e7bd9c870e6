//! Where a position lies relative to a change log: the check that every store makes before it reads changes.

use crate::model::cursor::{Position, ResetReason};

/// The two ends of a collection's change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// The position after the last change.
    pub head: Position,
    /// The position up to which changes were trimmed. Its offset is 0 if none were.
    pub trimmed: Position,
    /// The position at which the capture of changes was last interrupted: what happened to the table before it is not known. Its
    /// offset is 0 if it never was.
    pub interrupted: Position,
}

impl LogBounds {
    /// Checks whether the log can be read from a position: `None` if it can, otherwise why not.
    ///
    /// `tag_at` reads the tag of the change with the offset `since.offset`. It is called only if that offset lies between
    /// the two ends, and returns `None` if the log has no such change.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use fieldsync::ResetReason;
    /// use fieldsync::backend::{LogBounds, Position};
    ///
    /// let at = |offset, tag| Position { epoch: 1, offset, tag };
    /// let log = LogBounds { head: at(9, 90), trimmed: at(3, 30), interrupted: at(0, 0) };
    /// let locate = |since| log.locate(since, || Ok::<_, Infallible>(Some(50)));
    /// assert_eq!(locate(at(9, 90)), Ok(None));
    /// assert_eq!(locate(at(5, 50)), Ok(None));
    /// assert_eq!(locate(at(2, 20)), Ok(Some(ResetReason::Trimmed)));
    /// assert_eq!(locate(at(5, 51)), Ok(Some(ResetReason::Restored)));
    /// ```
    ///
    /// # Errors
    /// Those of `tag_at`.
    pub fn locate<E>(
        &self,
        since: Position,
        tag_at: impl FnOnce() -> Result<Option<u32>, E>,
    ) -> Result<Option<ResetReason>, E> {
        let Self {
            head,
            trimmed,
            interrupted,
        } = self;
        if since.epoch != head.epoch {
            return Ok(Some(ResetReason::Epoch));
        }
        if since.offset > head.offset {
            return Ok(Some(ResetReason::Restored));
        }
        if since.offset < interrupted.offset {
            return Ok(Some(ResetReason::Capture));
        }
        if since.offset < trimmed.offset {
            return Ok(Some(ResetReason::Trimmed));
        }
        let tag = if since.offset == head.offset {
            Some(head.tag)
        } else if since.offset == trimmed.offset {
            Some(trimmed.tag)
        } else if since.offset == interrupted.offset {
            Some(interrupted.tag)
        } else {
            tag_at()?
        };
        // A restored log that has grown again has other tags.
        Ok((tag != Some(since.tag)).then_some(ResetReason::Restored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, offset: u64, tag: u32) -> Position {
        Position { epoch, offset, tag }
    }

    #[track_caller]
    fn check(since: Position, tag: Option<u32>, expected: Option<ResetReason>) {
        let log = LogBounds {
            head: at(1, 9, 90),
            trimmed: at(1, 3, 30),
            interrupted: at(1, 0, 0),
        };
        assert_eq!(log.locate(since, || Ok::<_, ()>(tag)), Ok(expected));
    }

    #[test]
    fn a_position_of_the_log_is_in_range() {
        check(at(1, 9, 90), None, None);
        check(at(1, 3, 30), None, None);
        check(at(1, 5, 50), Some(50), None);
    }

    #[test]
    fn a_position_out_of_range_has_a_reason() {
        check(at(2, 5, 50), Some(50), Some(ResetReason::Epoch));
        check(at(1, 10, 100), None, Some(ResetReason::Restored));
        check(at(1, 9, 91), None, Some(ResetReason::Restored));
        check(at(1, 5, 51), Some(50), Some(ResetReason::Restored));
        check(at(1, 5, 50), None, Some(ResetReason::Restored));
        check(at(1, 3, 31), None, Some(ResetReason::Restored));
        check(at(1, 2, 20), None, Some(ResetReason::Trimmed));
    }

    #[test]
    fn a_position_before_an_interruption_of_capture_is_out_of_range() {
        let log = LogBounds {
            head: at(1, 9, 90),
            trimmed: at(1, 3, 30),
            interrupted: at(1, 6, 60),
        };
        let check = |since, expected| {
            assert_eq!(log.locate(since, || Ok::<_, ()>(Some(50))), Ok(expected));
        };
        check(at(1, 2, 20), Some(ResetReason::Capture));
        check(at(1, 5, 50), Some(ResetReason::Capture));
        check(at(1, 6, 60), None);
        check(at(1, 6, 61), Some(ResetReason::Restored));
        check(at(1, 7, 50), None);
    }

    #[test]
    fn an_error_of_the_tag_lookup_is_returned() {
        let log = LogBounds {
            head: at(1, 9, 90),
            trimmed: at(1, 3, 30),
            interrupted: at(1, 0, 0),
        };
        assert_eq!(log.locate(at(1, 5, 50), || Err("broken")), Err("broken"));
    }
}
