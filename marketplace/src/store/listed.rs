//! The index of entries in memory: for each term, the places of the entries that have it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use rustc_hash::FxHashMap;

use super::{Key, Kind, Listing, Seek};
use crate::search::{Candidate, Entry, Rank, Term};

/// Where an entry stands: the highest rank first, and the first that was listed of a rank.
type Place = (Reverse<Rank>, u64);

#[derive(Debug, Default)]
pub(super) struct Listed {
    numbers: u64,
    places: FxHashMap<Key, Place>,
    entries: BTreeMap<(Kind, Place), (Key, Entry)>,
    terms: FxHashMap<(Kind, Term), BTreeSet<Place>>,
}

impl Listed {
    /// Lists a record anew. An entry keeps its number, so that changing it gains no place among its equals.
    pub(super) fn put(&mut self, Listing { subject, entry }: Listing) {
        let before = self.places.remove(&subject);
        if let Some(place) = before {
            let (_, entry) = self.entries.remove(&(subject.kind, place)).expect("what has a place has an entry");
            for term in entry.terms() {
                let term = (subject.kind, term.clone());
                if let Some(places) = self.terms.get_mut(&term) {
                    places.remove(&place);
                    if places.is_empty() {
                        self.terms.remove(&term);
                    }
                }
            }
        }
        let Some(entry) = entry else { return };
        let number = before.map_or_else(|| self.fresh(), |(_, number)| number);
        let place = (Reverse(entry.rank), number);
        for term in entry.terms() {
            self.terms.entry((subject.kind, term.clone())).or_default().insert(place);
        }
        self.places.insert(subject, place);
        self.entries.insert((subject.kind, place), (subject, entry));
    }

    fn fresh(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn seek(&self, seek: &Seek) -> Vec<Candidate> {
        let whole = (seek.kind, (Reverse(Rank::MAX), 0))..=(seek.kind, (Reverse(Rank::default()), u64::MAX));
        // The list with the fewest entries leads; the others are looked up for each of its entries.
        let postings = |terms: &Vec<Term>| -> Vec<&BTreeSet<Place>> {
            terms.iter().filter_map(|term| self.terms.get(&(seek.kind, term.clone()))).collect()
        };
        let lists: Vec<_> = seek.terms.iter().map(postings).collect();
        let lead = lists.iter().min_by_key(|list| list.iter().map(|places| places.len()).sum::<usize>());
        let places: Box<dyn Iterator<Item = Place> + '_> = match lead {
            None => Box::new(self.entries.range(whole).map(|((_, place), _)| *place)),
            Some(list) => Box::new(Merged(list.iter().map(|places| places.iter().peekable()).collect())),
        };
        let fits = |place: &Place| lists.iter().all(|list| list.iter().any(|places| places.contains(place)));
        let found = places.filter(fits).skip(seek.offset as usize).take(seek.limit as usize);
        found.filter_map(|place| self.entries.get(&(seek.kind, place))).map(candidate).collect()
    }
}

fn candidate((key, entry): &(Key, Entry)) -> Candidate {
    Candidate { id: key.id, rank: entry.rank, title: entry.title().into(), text: entry.text().into() }
}

/// Several lists in one order, each place once.
struct Merged<'a>(Vec<std::iter::Peekable<std::collections::btree_set::Iter<'a, Place>>>);

impl Iterator for Merged<'_> {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        let first = self.0.iter_mut().filter_map(|list| list.peek().copied()).min().copied()?;
        for list in &mut self.0 {
            list.next_if(|place| **place == first);
        }
        Some(first)
    }
}
