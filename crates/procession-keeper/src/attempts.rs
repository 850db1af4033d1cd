//! The table of attempts that are not over: by place, for events, and by key, for messages.

use std::collections::HashMap;

use procession_core::id::AttemptKey;

use crate::events::AttemptId;
use crate::supervise::Attempt;

/// Places are used again, their names never.
#[derive(Default)]
pub(crate) struct Attempts {
    places: Vec<Place>,
    free: Vec<u32>,
    by_key: HashMap<AttemptKey, AttemptId>,
}

#[derive(Default)]
struct Place {
    generation: u32,
    attempt: Option<Box<Attempt>>,
}

impl Attempts {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(crate) fn contains(&self, key: AttemptKey) -> bool {
        self.by_key.contains_key(&key)
    }

    pub(crate) fn find(&self, key: AttemptKey) -> Option<AttemptId> {
        self.by_key.get(&key).copied()
    }

    /// The name of the place that the next [`Attempts::insert`] fills.
    pub(crate) fn reserve(&mut self) -> AttemptId {
        let index = self.free.last().copied().unwrap_or_else(|| {
            self.places.push(Place::default());
            let index = self.places.len() as u32 - 1;
            self.free.push(index);
            index
        });
        AttemptId { index, generation: self.places[index as usize].generation }
    }

    pub(crate) fn insert(&mut self, id: AttemptId, attempt: Attempt) {
        self.by_key.insert(attempt.key(), id);
        let reserved = self.free.pop();
        debug_assert_eq!(reserved, Some(id.index));
        self.places[id.index as usize].attempt = Some(Box::new(attempt));
    }

    /// `None` for one that is over: its events may still be under way.
    pub(crate) fn get_mut(&mut self, id: AttemptId) -> Option<&mut Attempt> {
        let place =
            self.places.get_mut(id.index as usize).filter(|place| place.generation == id.generation)?;
        place.attempt.as_deref_mut()
    }

    pub(crate) fn remove(&mut self, id: AttemptId) -> Option<Attempt> {
        let place =
            self.places.get_mut(id.index as usize).filter(|place| place.generation == id.generation)?;
        let attempt = place.attempt.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.index);
        self.by_key.remove(&attempt.key());
        Some(*attempt)
    }

    pub(crate) fn ids(&self) -> Vec<AttemptId> {
        self.by_key.values().copied().collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Attempt> {
        self.places.iter().filter_map(|place| place.attempt.as_deref())
    }
}
