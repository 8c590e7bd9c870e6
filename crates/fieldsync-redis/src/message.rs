//! A notice as it stands on the channel: `1 <epoch> <offset> <collection>`. The first word is the format; what is of
//! another one, or of none, is not for this node.

use fieldsync::Notice;

const FORMAT: &str = "1";

pub(crate) fn write(notice: &Notice) -> String {
    let Notice {
        collection,
        epoch,
        offset,
    } = notice;
    format!("{FORMAT} {epoch} {offset} {collection}")
}

pub(crate) fn read(message: &[u8]) -> Option<Notice> {
    let mut words = std::str::from_utf8(message).ok()?.splitn(4, ' ');
    if words.next()? != FORMAT {
        return None;
    }
    let (epoch, offset) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let collection = words.next().filter(|name| !name.is_empty())?.into();
    Some(Notice {
        collection,
        epoch,
        offset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for collection in ["users", "naïve names", "1 2 3"] {
            let (epoch, offset) = (u64::MAX, u64::MAX - 1);
            let notice = Notice {
                collection: collection.into(),
                epoch,
                offset,
            };
            assert_eq!(read(write(&notice).as_bytes()), Some(notice));
        }
    }

    #[test]
    fn what_is_none_is_not_read() {
        for message in [
            &b""[..],
            b"1",
            b"1 2",
            b"1 2 3",
            b"1 2 3 ",
            b"2 2 3 users",
            b"1 -2 3 users",
            b"1 2 18446744073709551616 users",
            b"1 2 3 \xff",
            b"{}",
        ] {
            assert_eq!(read(message), None, "{message:?}");
        }
    }
}
