//! What is to be sent and got, in order of urgency, within limits of number and bytes.
//!
//! What somebody waits for goes before uploads, and these before reading ahead. A less urgent job never
//! begins while a more urgent one could but for room; and some room is left to the more urgent always:
//! uploads take at most three quarters of the places, reading ahead no more than half. Besides, uploads and
//! downloads have a width each: fewer at a time are begun when they fail, since over a narrow line many at once would
//! all be too slow for their deadlines. What waits for its own width alone holds nobody else back.
//!
//! Invariants: `places` names each job of `waiting` once; `in_flight` counts what was taken and is not done.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use host::Monotonic;

/// How urgent a job is; the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Class {
    /// Somebody waits for it.
    Demand,
    /// Room in the staging area waits for it.
    Upload,
    /// It may be wanted soon.
    Ahead,
}

const CLASSES: [Class; 3] = [Class::Demand, Class::Upload, Class::Ahead];

type Place = (Class, Monotonic, u64);

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue<J> {
    /// By urgency, then by when it may begin, then by when it came.
    waiting: BTreeMap<Place, (J, u64)>,
    places: HashMap<J, Place>,
    came: u64,
    in_flight: usize,
    in_flight_bytes: u64,
    in_flight_max: usize,
    in_flight_bytes_max: u64,
    uploads: Lane,
    downloads: Lane,
}

/// How many run in one direction, and how many may.
#[derive(Debug)]
struct Lane {
    running: usize,
    width: usize,
}

/// A job that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken<J> {
    pub(crate) job: J,
    pub(crate) class: Class,
    bytes: u64,
}

impl<J> Taken<J> {
    /// The bytes that it was pushed with.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl<J: Clone + Eq + Hash> Queue<J> {
    /// An empty queue of which `in_flight_max` jobs of together `in_flight_bytes_max` bytes run at a time. A job
    /// that is larger runs alone.
    pub(crate) fn new(in_flight_max: usize, in_flight_bytes_max: u64) -> Self {
        let in_flight_max = in_flight_max.max(1);
        Self {
            waiting: BTreeMap::new(),
            places: HashMap::new(),
            came: 0,
            in_flight: 0,
            in_flight_bytes: 0,
            in_flight_max,
            in_flight_bytes_max,
            uploads: Lane { running: 0, width: in_flight_max },
            downloads: Lane { running: 0, width: in_flight_max },
        }
    }

    /// Adds a job that may begin at `at`; one that is there already moves.
    pub(crate) fn push(&mut self, job: J, class: Class, bytes: u64, at: Monotonic) {
        self.remove(&job);
        let place = (class, at, self.came);
        self.came += 1;
        self.waiting.insert(place, (job.clone(), bytes));
        self.places.insert(job, place);
    }

    /// Makes a waiting job more urgent.
    pub(crate) fn promote(&mut self, job: &J, class: Class) {
        if let Some((was, at, came)) = self.places.get(job).copied()
            && class < was
            && let Some(what) = self.waiting.remove(&(was, at, came))
        {
            self.waiting.insert((class, at, came), what);
            self.places.insert(job.clone(), (class, at, came));
        }
    }

    /// Removes a waiting job; says whether it was there.
    pub(crate) fn remove(&mut self, job: &J) -> bool {
        let Some(place) = self.places.remove(job) else { return false };
        self.waiting.remove(&place);
        true
    }

    /// Takes the most urgent job that may begin, of those classes that `may`.
    pub(crate) fn take(&mut self, now: Monotonic, may: impl Fn(Class) -> bool) -> Option<Taken<J>> {
        let (class, place, bytes) = CLASSES.into_iter().find_map(|class| {
            if !may(class) || self.lane(class).running >= self.lane(class).width {
                return None;
            }
            let (place, (_, bytes)) = self.waiting.range((class, MIN, 0)..).next()?;
            (place.0 == class && place.1 <= now).then_some((class, *place, *bytes))
        })?;
        let is_too_much = self.in_flight_bytes.saturating_add(bytes) > self.in_flight_bytes_max;
        if self.in_flight >= self.room_for(class) || (is_too_much && self.in_flight > 0) {
            return None;
        }
        let (job, bytes) = self.waiting.remove(&place)?;
        self.places.remove(&job);
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        self.lane_mut(class).running += 1;
        Some(Taken { job, class, bytes })
    }

    fn room_for(&self, class: Class) -> usize {
        let max = self.in_flight_max;
        match class {
            Class::Demand => max,
            Class::Upload => max - max / 4,
            Class::Ahead => max - max / 2,
        }
    }

    /// A job that was taken is done, well or not.
    pub(crate) fn done(&mut self, taken: &Taken<J>) {
        self.in_flight -= 1;
        self.in_flight_bytes -= taken.bytes;
        self.lane_mut(taken.class).running -= 1;
    }

    fn lane(&self, class: Class) -> &Lane {
        match class {
            Class::Upload => &self.uploads,
            Class::Demand | Class::Ahead => &self.downloads,
        }
    }

    fn lane_mut(&mut self, class: Class) -> &mut Lane {
        match class {
            Class::Upload => &mut self.uploads,
            Class::Demand | Class::Ahead => &mut self.downloads,
        }
    }

    /// A job of this class came to nothing: half as many in its direction at a time, but one.
    pub(crate) fn narrow(&mut self, class: Class) {
        let lane = self.lane_mut(class);
        lane.width = (lane.width / 2).max(1);
    }

    /// A job of this class was done: one more in its direction at a time, up to all that there is room for.
    pub(crate) fn widen(&mut self, class: Class) {
        let max = self.in_flight_max;
        let lane = self.lane_mut(class);
        lane.width = (lane.width + 1).min(max);
    }

    /// How many jobs of a class may run at a time.
    pub(crate) fn width(&self, class: Class) -> usize {
        self.lane(class).width.min(self.room_for(class))
    }

    /// When the next job may begin that may not yet, of those classes that `may`.
    pub(crate) fn next_at(&self, now: Monotonic, may: impl Fn(Class) -> bool) -> Option<Monotonic> {
        let later = self.waiting.keys().filter(|(class, at, _)| *at > now && may(*class));
        later.map(|(_, at, _)| *at).min()
    }

    /// How many jobs of a class wait.
    pub(crate) fn waiting(&self, class: Class) -> usize {
        let of_class = self.waiting.range((class, MIN, 0)..);
        of_class.take_while(|(place, _)| place.0 == class).count()
    }

    /// How many jobs run, and their bytes.
    pub(crate) fn in_flight(&self) -> (usize, u64) {
        (self.in_flight, self.in_flight_bytes)
    }
}

const MIN: Monotonic = Monotonic::from_start(std::time::Duration::ZERO);

#[cfg(test)]
mod tests {
    //! Goal: the urgent goes first, the limits hold, nothing is lost. Method: cases, and random work against a
    //! list that is searched from one end to the other.

    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Monotonic {
        Monotonic::from_start(Duration::from_millis(ms))
    }

    fn any(_: Class) -> bool {
        true
    }

    #[test]
    fn the_urgent_goes_first_and_the_rest_as_it_came() {
        let mut queue = Queue::new(100, u64::MAX);
        for (job, class) in [
            ("ahead", Class::Ahead),
            ("up 1", Class::Upload),
            ("read 1", Class::Demand),
            ("up 2", Class::Upload),
            ("read 2", Class::Demand),
        ] {
            queue.push(job, class, 1, at(0));
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.take(at(0), any).map(|t| t.job)).collect();
        assert_eq!(order, ["read 1", "read 2", "up 1", "up 2", "ahead"]);
    }

    #[test]
    fn what_is_read_ahead_becomes_urgent_when_somebody_waits_for_it() {
        let mut queue = Queue::new(1, u64::MAX);
        queue.push("a", Class::Ahead, 1, at(0));
        queue.push("u", Class::Upload, 1, at(0));
        queue.promote(&"a", Class::Demand);
        assert_eq!(queue.take(at(0), any).unwrap().job, "a");
    }

    #[test]
    fn uploads_and_reading_ahead_leave_places_for_those_who_wait() {
        let mut queue = Queue::new(8, u64::MAX);
        for n in 0..20 {
            queue.push(n, Class::Ahead, 1, at(0));
            queue.push(n + 100, Class::Upload, 1, at(0));
        }
        let took = |queue: &mut Queue<i32>| std::iter::from_fn(|| queue.take(at(0), any)).count();
        assert_eq!(took(&mut queue), 6);
        for n in 0..20 {
            queue.push(n + 200, Class::Demand, 1, at(0));
        }
        assert_eq!(took(&mut queue), 2);
        let mut ahead = Queue::new(8, u64::MAX);
        for n in 0..20 {
            ahead.push(n, Class::Ahead, 1, at(0));
        }
        assert_eq!(took(&mut ahead), 4);
    }

    #[test]
    fn uploads_that_fail_leave_the_line_to_fewer_and_those_that_are_done_to_more() {
        let mut queue = Queue::new(8, u64::MAX);
        for n in 0..100 {
            queue.push(n, Class::Upload, 1, at(0));
        }
        let mut round = |fail: bool| {
            let taken: Vec<_> = std::iter::from_fn(|| queue.take(at(0), any)).collect();
            assert_eq!(taken.len(), queue.width(Class::Upload));
            for taken in &taken {
                queue.done(taken);
                if fail { queue.narrow(Class::Upload) } else { queue.widen(Class::Upload) }
            }
            taken.len()
        };
        assert_eq!([true, true, false, false, false, false].map(&mut round), [6, 1, 1, 2, 4, 6]);
    }

    #[test]
    fn what_waits_for_its_own_width_holds_nobody_else_back() {
        let mut queue = Queue::new(8, u64::MAX);
        (0..3).for_each(|_| queue.narrow(Class::Demand));
        for (job, class) in
            [("read 1", Class::Demand), ("read 2", Class::Demand), ("up", Class::Upload)]
        {
            queue.push(job, class, 1, at(0));
        }
        let first = queue.take(at(0), any).unwrap();
        assert_eq!(first.job, "read 1");
        assert_eq!(queue.take(at(0), any).unwrap().job, "up");
        assert_eq!(queue.take(at(0), any), None);
        queue.done(&first);
        assert_eq!(queue.take(at(0), any).unwrap().job, "read 2");
    }

    #[test]
    fn a_large_job_is_not_overtaken_by_less_urgent_small_ones() {
        let mut queue = Queue::new(8, 10);
        queue.push("small", Class::Demand, 6, at(0));
        let small = queue.take(at(0), any).unwrap();
        queue.push("large", Class::Demand, 6, at(0));
        queue.push("tiny", Class::Ahead, 1, at(0));
        assert_eq!(queue.take(at(0), any), None);
        queue.done(&small);
        assert_eq!(queue.take(at(0), any).unwrap().job, "large");
        assert_eq!(queue.take(at(0), any).unwrap().job, "tiny");
        queue.push("huge", Class::Demand, 1000, at(0));
        assert_eq!(queue.take(at(0), any), None);
    }

    #[test]
    fn a_job_waits_for_its_time_and_for_its_class() {
        let mut queue = Queue::new(8, 10);
        queue.push("later", Class::Demand, 1, at(5));
        queue.push("now", Class::Upload, 1, at(0));
        let no_uploads = |class| class != Class::Upload;
        assert_eq!(queue.take(at(0), no_uploads), None);
        assert_eq!(queue.next_at(at(0), no_uploads), Some(at(5)));
        assert_eq!(queue.take(at(0), any).unwrap().job, "now");
        assert_eq!(queue.take(at(5), any).unwrap().job, "later");
    }

    proptest! {
        #[test]
        fn what_is_taken_is_what_a_search_finds(
            work in prop::collection::vec((0..3u8, 0..6u8, 0..3usize, 1..5u64, 0..20u64), 0..80),
        ) {
            let (max, bytes_max) = (4, 8);
            let mut queue = Queue::new(max, bytes_max);
            // (job, class, bytes, at), in the order in which they came.
            let mut model: Vec<(u8, Class, u64, u64)> = Vec::new();
            let mut flying: Vec<Taken<u8>> = Vec::new();
            for (now, (what, job, class, bytes, delay)) in (0..).zip(work) {
                match what {
                    0 => {
                        model.retain(|(there, ..)| *there != job);
                        model.push((job, CLASSES[class], bytes, now + delay));
                        queue.push(job, CLASSES[class], bytes, at(now + delay));
                    }
                    1 => {
                        let used: u64 = flying.iter().map(|taken| taken.bytes).sum();
                        let due = model.iter().filter(|(.., at)| *at <= now);
                        let first = due.min_by_key(|(_, class, _, at)| (*class, *at)).copied();
                        let want = first.filter(|(_, class, bytes, _)| {
                            flying.len() < queue.room_for(*class)
                                && (flying.is_empty() || used + bytes <= bytes_max)
                        });
                        let taken = queue.take(at(now), any);
                        prop_assert_eq!(taken.as_ref().map(|taken| taken.job), want.map(|want| want.0));
                        model.retain(|(there, ..)| want.is_none_or(|want| want.0 != *there));
                        flying.extend(taken);
                    }
                    _ => if let Some(taken) = flying.pop() {
                        queue.done(&taken);
                    },
                }
                let used: u64 = flying.iter().map(|taken| taken.bytes).sum();
                prop_assert_eq!(queue.in_flight(), (flying.len(), used));
                prop_assert_eq!(CLASSES.map(|class| queue.waiting(class)).iter().sum::<usize>(), model.len());
            }
        }
    }
}
