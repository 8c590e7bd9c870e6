//! What carries notices between the nodes of an app.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

/// Tells other nodes that a collection's log has grown. It is a hint to look: whoever hears it reads the store.
///
/// As text, for brokers that carry text, it is `1 <epoch> <offset> <collection>`. The first word is the format.
///
/// ```
/// use fieldsync::Notice;
///
/// let notice: Notice = "1 7 42 users".parse()?;
/// assert_eq!((notice.offset, notice.to_string()), (42, "1 7 42 users".into()));
/// assert!("2 something of a later version".parse::<Notice>().is_err());
/// # Ok::<(), fieldsync::BrokerError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notice {
    /// The collection.
    pub collection: Arc<str>,
    /// The log's epoch.
    pub epoch: u64,
    /// The log's last offset.
    pub offset: u64,
}

/// The format of a notice as text.
const FORMAT: &str = "1";

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            collection,
            epoch,
            offset,
        } = self;
        write!(f, "{FORMAT} {epoch} {offset} {collection}")
    }
}

impl FromStr for Notice {
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

/// A broker could not do what was asked. Never the reason of a failed edit.
#[derive(Debug, thiserror::Error)]
#[error("the broker failed")]
pub struct BrokerError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Carries notices between nodes.
///
/// Nothing depends on it but speed: a broker may lose, repeat, reorder, delay or invent notices. What it loses is found
/// by reading the heads of all collections once per poll interval.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Passes a notice to the other nodes; the own node may hear it too. May be dropped half way. The engine calls it
    /// after the commit, never in the way of a write.
    async fn publish(&self, notice: Notice) -> Result<(), BrokerError>;

    /// The notices of other nodes, from now on. The stream ends where the connection is lost, one that is dead without a
    /// word included: then the engine subscribes again, after a pause that grows and is drawn by lot.
    async fn subscribe(&self) -> Result<BoxStream<'static, Notice>, BrokerError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_as_it_was_written() {
        for collection in ["users", "naïve names", "1 2 3"] {
            let notice = Notice {
                collection: collection.into(),
                epoch: u64::MAX,
                offset: u64::MAX - 1,
            };
            assert_eq!(notice.to_string().parse::<Notice>().unwrap(), notice);
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
            assert!(text.parse::<Notice>().is_err(), "{text:?}");
        }
    }
}
