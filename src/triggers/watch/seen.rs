//! The objects that a watch has seen, in 24 bytes each.
//!
//! Two sorted arrays: a large one, and a tail for new records of at most a thirty-second of its size. A full tail is merged
//! into the large array, from the back and in place, so that neither a rehash nor a doubling ever needs twice the memory:
//! a million objects take 24 MB and never more than 25. Each record has a mark: the current listing contains the object.

use super::hash::SPARE_BIT;
use crate::model::{ObjectKey, SeenObject};

/// The tail may always grow to this size, about two pages of a listing.
const SMALL_TAIL: usize = 2_048;

/// The tail is at most this fraction of the large array. A larger one is slower to search, a smaller one is merged more often.
const TAIL_SHARE: usize = 32;

const MARK: u64 = SPARE_BIT;

/// A key in two halves (a `u128` would align the record to 16 bytes, and so make it 32), and the version with the mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Record {
    high: u64,
    low: u64,
    version_and_mark: u64,
}

impl Record {
    fn new(seen: SeenObject, mark: u64) -> Record {
        let bytes = seen.key.0;
        debug_assert_eq!(seen.version.0 & MARK, 0, "versions have the bit of the mark clear");
        #[expect(clippy::cast_possible_truncation, reason = "the halves of the key, on purpose")]
        let (high, low) = ((bytes >> 64) as u64, bytes as u64);
        Record { high, low, version_and_mark: (seen.version.0 & !MARK) | mark }
    }

    fn key(&self) -> u128 {
        (u128::from(self.high) << 64) | u128::from(self.low)
    }

    fn is_marked(&self) -> bool {
        self.version_and_mark & MARK != 0
    }
}

/// The result of looking up a listed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::triggers) enum Lookup {
    /// Its key is not in the set.
    New,
    /// It is in the set with another version.
    Changed,
    /// It is in the set with this version.
    Known,
    /// The current listing contained it before.
    Repeated,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::triggers) struct SeenSet {
    main: Vec<Record>,
    tail: Vec<Record>,
}

impl SeenSet {
    /// Takes over the objects in the store, reusing their memory: both records have the same layout, and two copies would not
    /// fit on a small machine.
    pub(in crate::triggers) fn from_snapshot(objects: Vec<SeenObject>) -> SeenSet {
        let mut main: Vec<Record> = objects.into_iter().map(|seen| Record::new(seen, 0)).collect();
        if !main.is_sorted_by(|a, b| a.key() < b.key()) {
            main.sort_unstable_by_key(Record::key);
            main.dedup_by_key(|record| record.key());
        }
        SeenSet { main, tail: Vec::new() }
    }

    /// The number of objects.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.main.len() + self.tail.len()
    }

    /// Starts a listing: clears all marks.
    pub(in crate::triggers) fn begin_listing(&mut self) {
        for record in self.main.iter_mut().chain(&mut self.tail) {
            record.version_and_mark &= !MARK;
        }
    }

    /// Looks a listed object up, and marks it if its key is in the set.
    pub(in crate::triggers) fn look_up(&mut self, seen: SeenObject) -> Lookup {
        let Some(record) = self.find(seen.key) else { return Lookup::New };
        if record.is_marked() {
            return Lookup::Repeated;
        }
        record.version_and_mark |= MARK;
        if record.version_and_mark & !MARK == seen.version.0 { Lookup::Known } else { Lookup::Changed }
    }

    /// True if the object is in the set with this version.
    pub(in crate::triggers) fn knows(&mut self, seen: SeenObject) -> bool {
        self.find(seen.key).is_some_and(|record| record.version_and_mark & !MARK == seen.version.0)
    }

    /// Adds objects that are in the store, marked.
    pub(in crate::triggers) fn insert(&mut self, objects: &[SeenObject]) {
        let mut fresh = Vec::with_capacity(objects.len());
        for seen in objects {
            match self.find(seen.key) {
                Some(record) => *record = Record::new(*seen, MARK),
                None => fresh.push(Record::new(*seen, MARK)),
            }
        }
        fresh.sort_unstable_by_key(Record::key);
        fresh.dedup_by_key(|record| record.key());
        merge(&mut self.tail, &fresh);
        if self.tail.len() > SMALL_TAIL.max(self.main.len() / TAIL_SHARE) {
            self.merge_tail();
        }
    }

    /// After a complete listing: up to `limit` keys that it did not contain, from the index `cursor` on, which advances. They
    /// stay in the set until [`SeenSet::remove_unlisted`].
    pub(in crate::triggers) fn next_unlisted(&mut self, cursor: &mut usize, limit: usize) -> Vec<ObjectKey> {
        self.merge_tail();
        let mut gone = Vec::new();
        while *cursor < self.main.len() && gone.len() < limit {
            let record = &self.main[*cursor];
            if !record.is_marked() {
                gone.push(ObjectKey(record.key()));
            }
            *cursor += 1;
        }
        gone
    }

    /// Removes the keys before `cursor` that the listing did not contain.
    #[cfg(any(test, feature = "s3"))]
    pub(in crate::triggers) fn remove_unlisted(&mut self, cursor: usize) {
        debug_assert!(self.tail.is_empty(), "next_unlisted has merged the tail");
        let mut place = 0;
        self.main.retain(|record| {
            place += 1;
            record.is_marked() || place > cursor
        });
        if self.main.capacity() > self.main.len() + self.main.len() / TAIL_SHARE + SMALL_TAIL {
            self.main.shrink_to_fit();
        }
    }

    /// Removes these keys.
    pub(in crate::triggers) fn remove(&mut self, keys: &[ObjectKey]) {
        if keys.is_empty() {
            return;
        }
        let mut keys: Vec<u128> = keys.iter().map(|key| key.0).collect();
        keys.sort_unstable();
        for records in [&mut self.main, &mut self.tail] {
            records.retain(|record| keys.binary_search(&record.key()).is_err());
        }
    }

    fn find(&mut self, key: ObjectKey) -> Option<&mut Record> {
        let key = key.0;
        for records in [&mut self.main, &mut self.tail] {
            if let Ok(at) = records.binary_search_by_key(&key, Record::key) {
                return records.get_mut(at);
            }
        }
        None
    }

    fn merge_tail(&mut self) {
        merge(&mut self.main, &self.tail);
        self.tail.clear();
        // Releases the memory of a tail that was large once.
        self.tail.shrink_to(SMALL_TAIL);
    }
}

/// Merges the sorted `from` into the sorted `into`; they share no key. From the back, so that each record moves once, without
/// a second array.
fn merge(into: &mut Vec<Record>, from: &[Record]) {
    let (mut left, mut right) = (into.len(), from.len());
    // Exact: amortized growth would waste more than the tail.
    into.reserve_exact(right);
    into.resize(left + right, Record::default());
    while right > 0 {
        if left > 0 && into[left - 1].key() > from[right - 1].key() {
            into[left + right - 1] = into[left - 1];
            left -= 1;
        } else {
            into[left + right - 1] = from[right - 1];
            right -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::ObjectVersion;

    fn seen(key: u128, version: u64) -> SeenObject {
        SeenObject { key: ObjectKey(key), version: ObjectVersion(version) }
    }

    /// Spreads small numbers over the whole range, as hashes are.
    fn spread(n: u128) -> u128 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }

    #[test]
    fn a_record_takes_24_bytes() {
        assert_eq!(size_of::<Record>(), 24);
    }

    #[test]
    fn a_hundred_thousand_objects_take_less_than_32_bytes_each_at_every_size() {
        let mut set = SeenSet::default();
        let mut worst = 0.0_f64;
        for page in 0..100 {
            let objects: Vec<SeenObject> = (0..1000).map(|n| seen(spread(page * 1000 + n), 1)).collect();
            set.insert(&objects);
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let per_object = ((set.main.capacity() + set.tail.capacity()) * 24) as f64 / set.len() as f64;
            if page >= 10 {
                worst = worst.max(per_object);
            }
        }
        assert_eq!(set.len(), 100_000);
        assert!(worst <= 32.0, "{worst} bytes");
    }

    #[test]
    fn a_snapshot_is_taken_over_without_a_copy() {
        assert_eq!((size_of::<SeenObject>(), align_of::<SeenObject>()), (size_of::<Record>(), align_of::<Record>()));
        let objects: Vec<SeenObject> = (1..=1_000).map(|n| seen(n, 1)).collect();
        let (place, room) = (objects.as_ptr().cast::<Record>(), objects.capacity());
        let set = SeenSet::from_snapshot(objects);
        assert_eq!((set.main.as_ptr(), set.main.capacity(), set.len()), (place, room, 1_000));
    }

    #[test]
    fn an_unsorted_snapshot_is_sorted() {
        let mut set = SeenSet::from_snapshot(vec![seen(9, 1), seen(3, 2), seen(3, 2), seen(5, 3)]);
        assert_eq!(set.len(), 3);
        set.begin_listing();
        assert_eq!(set.look_up(seen(3, 2)), Lookup::Known);
        assert_eq!(set.look_up(seen(3, 2)), Lookup::Repeated);
        assert_eq!(set.look_up(seen(5, 4)), Lookup::Changed);
        assert_eq!(set.look_up(seen(4, 4)), Lookup::New);
    }

    #[test]
    fn only_keys_before_the_cursor_are_removed() {
        let mut set = SeenSet::from_snapshot((1..=10).map(|n| seen(n, 1)).collect());
        set.begin_listing();
        set.look_up(seen(2, 1));
        let mut cursor = 0;
        let first = set.next_unlisted(&mut cursor, 3);
        assert_eq!(first, [ObjectKey(1), ObjectKey(3), ObjectKey(4)]);
        set.remove_unlisted(cursor);
        assert_eq!(set.len(), 7);
        set.begin_listing();
        assert_eq!(set.look_up(seen(5, 1)), Lookup::Known);
        assert_eq!(set.look_up(seen(4, 1)), Lookup::New);
    }

    proptest! {
        /// Listings of random objects against a plain map.
        #[test]
        fn it_agrees_with_a_plain_map(listings in prop::collection::vec(prop::collection::vec((0u128..6000, 0u64..3), 0..1500), 1..12)) {
            let mut set = SeenSet::default();
            let mut model: BTreeMap<u128, u64> = BTreeMap::new();
            for listing in listings {
                set.begin_listing();
                let mut listed: BTreeMap<u128, u64> = BTreeMap::new();
                for (n, version) in listing {
                    let key = spread(n);
                    let expected = match (listed.contains_key(&key), model.get(&key)) {
                        (true, _) => Lookup::Repeated,
                        (false, None) => Lookup::New,
                        (false, Some(known)) if *known == version => Lookup::Known,
                        (false, Some(_)) => Lookup::Changed,
                    };
                    let look_up = set.look_up(seen(key, version));
                    prop_assert_eq!(look_up, expected);
                    if look_up != Lookup::Repeated {
                        listed.insert(key, version);
                        set.insert(&[seen(key, version)]);
                    }
                }
                let mut cursor = 0;
                let mut gone = Vec::new();
                loop {
                    let chunk = set.next_unlisted(&mut cursor, 100);
                    if chunk.is_empty() { break }
                    gone.extend(chunk.into_iter().map(|key| key.0));
                }
                set.remove_unlisted(cursor);
                let expected: Vec<u128> = model.keys().copied().filter(|key| !listed.contains_key(key)).collect();
                prop_assert_eq!(gone, expected);
                model = listed;
                prop_assert_eq!(set.len(), model.len());
            }
        }
    }
}
