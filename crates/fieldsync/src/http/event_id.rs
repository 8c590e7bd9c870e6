//! The id of a server-sent event: where each topic of its stream can go on.

use std::fmt;
use std::sync::Arc;

/// The longest place that an id has if there are several: a header has room for all of them.
const MAX_PLACE_BYTES: usize = 128;

/// A topic that has no place yet.
const NOWHERE: &str = "-";

/// A topic whose place had no room.
const LOST: &str = "~";

/// Where each topic of a stream can go on. Its text has them in the order of the topics, separated by commas. One that equals the one
/// before is empty, so that it is about one cursor per collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventId(Vec<TopicPlace>);

/// Where a topic can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopicPlace {
    /// Nothing of it was sent.
    Nowhere,
    /// Something of it was sent, and its place had no room in the id.
    Lost,
    At(Arc<str>),
}

impl EventId {
    /// The id of a stream with this number of topics, which start with a snapshot.
    pub(crate) fn new(topics: usize) -> Self {
        Self(vec![TopicPlace::Nowhere; topics])
    }

    /// Reads the id of a stream with this number of topics. `None` if it was that of another stream.
    pub(crate) fn read(text: &str, topics: usize) -> Option<Self> {
        let mut places: Vec<TopicPlace> = Vec::new();
        for place in text.split(',') {
            places.push(match place {
                "" => places.last()?.clone(),
                NOWHERE if topics > 1 => TopicPlace::Nowhere,
                LOST if topics > 1 => TopicPlace::Lost,
                place => TopicPlace::At(place.into()),
            });
        }
        (places.len() == topics).then_some(Self(places))
    }

    /// The place of each topic.
    pub(crate) fn places(&self) -> impl Iterator<Item = &TopicPlace> {
        self.0.iter()
    }

    /// Moves the topic with this number.
    pub(crate) fn move_to(&mut self, number: usize, place: &Arc<str>) {
        let fits = self.0.len() == 1 || place.len() <= MAX_PLACE_BYTES;
        self.0[number] = if fits {
            TopicPlace::At(Arc::clone(place))
        } else {
            TopicPlace::Lost
        };
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, place) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str(",")?;
                if self.0[number - 1] == *place {
                    continue;
                }
            }
            f.write_str(match place {
                TopicPlace::Nowhere => NOWHERE,
                TopicPlace::Lost => LOST,
                TopicPlace::At(place) => place,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, places: &[&str]) {
        let id = EventId::read(text, places.len()).unwrap();
        let expected = places.iter().map(|place| match *place {
            NOWHERE => TopicPlace::Nowhere,
            LOST => TopicPlace::Lost,
            place => TopicPlace::At(place.into()),
        });
        assert_eq!(id.0, expected.collect::<Vec<_>>());
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn an_id_has_the_places_of_all_topics_and_equal_ones_once() {
        check("a", &["a"]);
        check("a,,b", &["a", "a", "b"]);
        check("-,,b,-,~", &["-", "-", "b", "-", "~"]);
        for (text, topics) in [("a", 2), ("a,b", 1), ("", 1), (",a", 2), ("", 0)] {
            assert_eq!(EventId::read(text, topics), None, "{text:?}");
        }
    }
}
