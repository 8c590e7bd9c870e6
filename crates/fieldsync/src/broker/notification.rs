//! Notifications: hints that a log has grown.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::broker::error::BrokerError;

/// Tells other nodes that a collection's log has grown. It is a hint to look: whoever hears it reads the store.
///
/// As text, for brokers that carry text, it is `1 <epoch> <offset> <collection>`. The first word is the format.
///
/// ```
/// use fieldsync::backend::Notification;
///
/// let notice: Notification = "1 7 42 users".parse()?;
/// assert_eq!((notice.offset, notice.to_string()), (42, "1 7 42 users".into()));
/// assert!("2 something of a later version".parse::<Notification>().is_err());
/// # Ok::<(), fieldsync::backend::BrokerError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notification {
    /// The collection.
    pub collection: Arc<str>,
    /// The log's epoch.
    pub epoch: u64,
    /// The log's last offset.
    pub offset: u64,
}

/// The format of a notice as text.
const FORMAT: &str = "1";

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            collection,
            epoch,
            offset,
        } = self;
        write!(f, "{FORMAT} {epoch} {offset} {collection}")
    }
}

impl FromStr for Notification {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        let mut words = text.splitn(4, ' ');
        let mut read = || {
            let format = words.next()?;
            let (epoch, offset) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let collection = words.next().filter(|name| !name.is_empty())?.into();
            (format == FORMAT).then_some(Self {
                collection,
                epoch,
                offset,
            })
        };
        read().ok_or_else(|| BrokerError("not a notice of this version".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_as_it_was_written() {
        for collection in ["users", "naïve names", "1 2 3"] {
            let notice = Notification {
                collection: collection.into(),
                epoch: u64::MAX,
                offset: u64::MAX - 1,
            };
            assert_eq!(notice.to_string().parse::<Notification>().unwrap(), notice);
        }
    }

    #[test]
    fn what_is_no_notice_is_not_read() {
        for text in [
            "",
            "1",
            "1 2",
            "1 2 3",
            "1 2 3 ",
            "2 2 3 users",
            "1 -2 3 users",
            "1 2 18446744073709551616 users",
            "{}",
        ] {
            assert!(text.parse::<Notification>().is_err(), "{text:?}");
        }
    }
}
