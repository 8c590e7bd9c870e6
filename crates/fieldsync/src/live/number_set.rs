//! A set of small numbers.

/// A set of small numbers, one bit each.
#[derive(Debug, Clone, Default)]
pub(crate) struct NumberSet {
    /// Those below 64: most connections have no others.
    first: u64,
    rest: Vec<u64>,
}

impl PartialEq for NumberSet {
    fn eq(&self, other: &Self) -> bool {
        let words = self.rest.len().max(other.rest.len()) + 1;
        (0..words).all(|word| self.word(word) == other.word(word))
    }
}

impl NumberSet {
    pub(crate) fn insert(&mut self, number: usize) {
        let (word, bit) = place(number);
        match word.checked_sub(1) {
            None => self.first |= bit,
            Some(index) => {
                if index >= self.rest.len() {
                    self.rest.resize(index + 1, 0);
                }
                self.rest[index] |= bit;
            }
        }
    }

    pub(crate) fn remove(&mut self, number: usize) {
        let (word, bit) = place(number);
        match word.checked_sub(1) {
            None => self.first &= !bit,
            Some(index) => {
                if let Some(word) = self.rest.get_mut(index) {
                    *word &= !bit;
                }
            }
        }
    }

    pub(crate) fn contains(&self, number: usize) -> bool {
        let (word, bit) = place(number);
        self.word(word) & bit != 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first == 0 && self.rest.iter().all(|word| *word == 0)
    }

    pub(crate) fn len(&self) -> usize {
        let words = std::iter::once(&self.first).chain(&self.rest);
        words.map(|word| word.count_ones() as usize).sum()
    }

    /// Adds the numbers of another set.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.first |= other.first;
        if self.rest.len() < other.rest.len() {
            self.rest.resize(other.rest.len(), 0);
        }
        for (word, more) in self.rest.iter_mut().zip(&other.rest) {
            *word |= more;
        }
    }

    /// The lowest number that is at least this one.
    pub(crate) fn next_from(&self, number: usize) -> Option<usize> {
        let (word, bit) = place(number);
        let below = bit - 1;
        let mut left = self.word(word) & !below;
        for word in word..=self.rest.len() {
            if left != 0 {
                return Some(word * 64 + left.trailing_zeros() as usize);
            }
            left = self.word(word + 1);
        }
        None
    }

    /// The numbers, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let number = self.next_from(from)?;
            from = number + 1;
            Some(number)
        })
    }

    fn word(&self, word: usize) -> u64 {
        match word.checked_sub(1) {
            None => self.first,
            Some(index) => self.rest.get(index).copied().unwrap_or(0),
        }
    }
}

/// The word of a number, and its bit in it.
fn place(number: usize) -> (usize, u64) {
    (number / 64, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_like_a_set_of_the_standard_library(
            steps in prop::collection::vec((any::<bool>(), 0_usize..300), 0..60),
            others in prop::collection::btree_set(0_usize..300, 0..20),
        ) {
            let (mut set, mut model) = (NumberSet::default(), BTreeSet::new());
            for (is_added, number) in steps {
                if is_added {
                    set.insert(number);
                    model.insert(number);
                } else {
                    set.remove(number);
                    model.remove(&number);
                }
                prop_assert_eq!(set.contains(number), is_added);
            }
            let mut other = NumberSet::default();
            others.iter().for_each(|number| other.insert(*number));
            set.extend(&other);
            model.extend(others);
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
            for number in 0..310 {
                prop_assert_eq!(set.next_from(number), model.range(number..).next().copied());
            }
        }
    }
}
