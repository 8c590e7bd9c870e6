//! Notifications: hints from one node to the others that a log has grown.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::broker::error::BrokerError;

/// Tells other nodes that the log of a collection has grown. It is only a hint: a node that receives it reads the
/// store.
///
/// Its text, for brokers that carry text, is `1 <epoch> <offset> <collection>`. The first word is the version of the
/// format.
///
/// ```
/// use fieldsync::backend::Notification;
///
/// let notification: Notification = "1 7 42 users".parse()?;
/// assert_eq!((notification.offset, notification.to_string()), (42, "1 7 42 users".into()));
/// assert!("2 something of a later version".parse::<Notification>().is_err());
/// # Ok::<(), fieldsync::backend::BrokerError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notification {
    /// The name of the collection.
    pub collection: Arc<str>,
    /// The epoch of the log.
    pub epoch: u64,
    /// The last offset of the log.
    pub offset: u64,
}

/// The version of the text format.
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
        read().ok_or_else(|| {
            BrokerError("not a notification of the form \"1 <epoch> <offset> <collection>\"".into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_is_parsed_from_its_text() {
        for collection in ["users", "naïve names", "1 2 3"] {
            let notification = Notification {
                collection: collection.into(),
                epoch: u64::MAX,
                offset: u64::MAX - 1,
            };
            assert_eq!(
                notification.to_string().parse::<Notification>().unwrap(),
                notification
            );
        }
    }

    #[test]
    fn other_text_is_an_error() {
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
