//! A map that forgets what was not used for the longest time once what it holds costs too much.
//!
//! Invariant: `cost` is the sum over `kept`, and `order` names each key of `kept` once, by its last use.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// The map. A cost is whatever its owner counts in.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    kept: HashMap<K, Kept<V>>,
    order: BTreeMap<u64, K>,
    tick: u64,
    cost: u64,
    cost_max: u64,
}

#[derive(Debug)]
struct Kept<V> {
    value: V,
    cost: u64,
    tick: u64,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    pub(crate) fn new(cost_max: u64) -> Self {
        Self { kept: HashMap::new(), order: BTreeMap::new(), tick: 0, cost: 0, cost_max }
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    pub(crate) fn cost_max(&self) -> u64 {
        self.cost_max
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.kept.contains_key(&key)
    }

    /// Finds a value, which counts as a use.
    pub(crate) fn get(&mut self, key: K) -> Option<&V> {
        self.tick += 1;
        let kept = self.kept.get_mut(&key)?;
        self.order.remove(&kept.tick);
        kept.tick = self.tick;
        self.order.insert(self.tick, key);
        Some(&kept.value)
    }

    /// Keeps a value as the latest used, in place of an earlier one.
    pub(crate) fn insert(&mut self, key: K, value: V, cost: u64) {
        self.remove(key);
        self.tick += 1;
        self.cost += cost;
        self.kept.insert(key, Kept { value, cost, tick: self.tick });
        self.order.insert(self.tick, key);
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let kept = self.kept.remove(&key)?;
        self.order.remove(&kept.tick);
        self.cost -= kept.cost;
        Some(kept.value)
    }

    /// Takes out the oldest if `more` does not fit beside what is kept; to be called until there is none.
    pub(crate) fn evict_for(&mut self, more: u64) -> Option<(K, V)> {
        if self.cost.saturating_add(more) <= self.cost_max {
            return None;
        }
        let (_, key) = self.order.first_key_value()?;
        let key = *key;
        self.remove(key).map(|value| (key, value))
    }

    /// Keeps a value and forgets as many as it takes; a value that costs too much is not kept.
    pub(crate) fn keep(&mut self, key: K, value: V, cost: u64) {
        self.remove(key);
        if cost > self.cost_max {
            return;
        }
        while self.evict_for(cost).is_some() {}
        self.insert(key, value, cost);
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what was used last is kept, within the budget. Method: random work against a list.

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_latest_used_are_kept_within_the_budget(
            work in prop::collection::vec((0..8u8, prop::option::of(0..5u64)), 0..60),
        ) {
            let mut recent = Recent::new(10);
            // Oldest first.
            let mut model: Vec<(u8, u64)> = Vec::new();
            for (key, insert) in work {
                let at = model.iter().position(|(k, _)| *k == key);
                match insert {
                    Some(cost) => {
                        recent.keep(key, cost, cost);
                        at.map(|at| model.remove(at));
                        while model.iter().map(|(_, cost)| cost).sum::<u64>() + cost > 10 {
                            model.remove(0);
                        }
                        model.push((key, cost));
                    }
                    None => {
                        prop_assert_eq!(recent.get(key).copied(), at.map(|at| model[at].1));
                        if let Some(at) = at {
                            let used = model.remove(at);
                            model.push(used);
                        }
                    }
                }
                prop_assert_eq!(recent.cost(), model.iter().map(|(_, cost)| cost).sum::<u64>());
                prop_assert_eq!(recent.len(), model.len());
                prop_assert_eq!(recent.order.values().copied().collect::<Vec<_>>(),
                    model.iter().map(|(key, _)| *key).collect::<Vec<_>>());
            }
        }
    }
}
