//! The credit rule: how a job's dependencies have ended since its previous run consumed their ends.

use super::Condition;
use crate::model::Outcome;

/// The credits of one job: how each dependency ended last, since the job's previous run consumed it. One byte a dependency,
/// and 8 bytes for a job that has none.
///
/// The latest end counts: an upstream's failure holds until its next success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credits(Option<Box<Ends>>);

/// The ends, with the counts that a verdict needs: it is computed at each end of each dependency, and a job may have
/// thousands of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ends {
    slots: Box<[Option<Outcome>]>,
    ended: usize,
    succeeded: usize,
    first_failed: Option<usize>,
}

impl Ends {
    fn set(&mut self, slot: usize, credit: Option<Outcome>) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let was = std::mem::replace(place, credit);
        self.ended = self.ended + usize::from(credit.is_some()) - usize::from(was.is_some());
        self.succeeded = self.succeeded + usize::from(has_succeeded(credit)) - usize::from(has_succeeded(was));
        if has_failed(credit) {
            self.first_failed = Some(self.first_failed.map_or(slot, |first| first.min(slot)));
        } else if self.first_failed == Some(slot) {
            let others = self.ended > self.succeeded;
            let next = || self.slots[slot..].iter().position(|credit| has_failed(*credit)).map(|after| slot + after);
            self.first_failed = if others { next() } else { None };
        }
    }
}

fn has_succeeded(credit: Option<Outcome>) -> bool {
    credit.is_some_and(Outcome::is_success)
}

fn has_failed(credit: Option<Outcome>) -> bool {
    credit.is_some_and(|outcome| !outcome.is_success())
}

/// The state of a job's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every dependency is satisfied.
    Satisfied,
    /// Some have not ended yet, or not in the way the condition asks.
    Waiting,
    /// The condition can't be met by these ends; the slot is that of the failed dependency, if one decides.
    Closed(Option<usize>),
}

impl Credits {
    /// None of `dependencies` has ended yet.
    #[must_use]
    pub fn new(dependencies: usize) -> Credits {
        let ends = || Ends { slots: vec![None; dependencies].into(), ended: 0, succeeded: 0, first_failed: None };
        Credits((dependencies > 0).then(|| Box::new(ends())))
    }

    /// The dependency in this slot has ended a run.
    pub fn set(&mut self, slot: usize, outcome: Outcome) {
        if let Some(ends) = &mut self.0 {
            ends.set(slot, Some(outcome));
        }
    }

    /// How the dependency in this slot ended, if it has since the credits were consumed.
    #[must_use]
    pub fn get(&self, slot: usize) -> Option<Outcome> {
        self.slots().get(slot).copied().flatten()
    }

    /// A run of the job starts: clears all credits.
    pub fn consume(&mut self) {
        *self = Credits::new(self.slots().len());
    }

    /// Clears the credit of one dependency.
    pub fn clear(&mut self, slot: usize) {
        if let Some(ends) = &mut self.0 {
            ends.set(slot, None);
        }
    }

    /// True if nothing has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|ends| ends.ended == 0)
    }

    fn slots(&self) -> &[Option<Outcome>] {
        self.0.as_ref().map_or(&[], |ends| &ends.slots)
    }

    /// The rule. `any_*` is met by the first end that meets it; it is closed once all have ended otherwise.
    #[must_use]
    pub fn verdict(&self, condition: Condition) -> Verdict {
        let (ended, succeeded, first_failed) =
            self.0.as_ref().map_or((0, 0, None), |ends| (ends.ended, ends.succeeded, ends.first_failed));
        let all_ended = ended == self.slots().len();
        match condition {
            Condition::AllSuccess => match first_failed {
                Some(slot) => Verdict::Closed(Some(slot)),
                None if all_ended => Verdict::Satisfied,
                None => Verdict::Waiting,
            },
            Condition::AllDone if all_ended => Verdict::Satisfied,
            Condition::AnySuccess if succeeded > 0 => Verdict::Satisfied,
            Condition::AnyFailure if ended > succeeded => Verdict::Satisfied,
            Condition::AnySuccess | Condition::AnyFailure if all_ended => Verdict::Closed(None),
            Condition::AllDone | Condition::AnySuccess | Condition::AnyFailure => Verdict::Waiting,
        }
    }

    /// The slots of the dependencies that the condition still needs.
    pub fn missing(&self, condition: Condition) -> impl Iterator<Item = usize> + '_ {
        let met = matches!(self.verdict(condition), Verdict::Satisfied);
        self.slots().iter().enumerate().filter_map(move |(slot, credit)| {
            let wanted = match condition {
                Condition::AllSuccess => !credit.is_some_and(Outcome::is_success),
                Condition::AllDone => credit.is_none(),
                Condition::AnySuccess | Condition::AnyFailure => true,
            };
            (!met && wanted).then_some(slot)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Outcome::{Cancelled, Failed, Lost, Skipped, Succeeded, TimedOut};

    fn credits(ends: &[Option<Outcome>]) -> Credits {
        let mut credits = Credits::new(ends.len());
        for (slot, end) in ends.iter().enumerate() {
            end.iter().for_each(|outcome| credits.set(slot, *outcome));
        }
        credits
    }

    /// The rule of the design, computed without counts.
    fn by_definition(ends: &[Option<Outcome>], condition: Condition) -> Verdict {
        let all_ended = ends.iter().all(Option::is_some);
        let failed = ends.iter().position(|end| has_failed(*end));
        let succeeded = ends.iter().any(|end| has_succeeded(*end));
        let met = match condition {
            Condition::AllSuccess if failed.is_some() => return Verdict::Closed(failed),
            Condition::AllSuccess | Condition::AllDone => all_ended,
            Condition::AnySuccess => succeeded,
            Condition::AnyFailure => failed.is_some(),
        };
        match condition {
            _ if met => Verdict::Satisfied,
            Condition::AnySuccess | Condition::AnyFailure if all_ended => Verdict::Closed(None),
            _ => Verdict::Waiting,
        }
    }

    proptest! {
        #[test]
        fn the_counted_verdict_is_that_of_the_rule_after_any_steps(
            count in 0..6_usize,
            // A slot and its end: 6 clears the slot, 7 consumes all.
            steps in prop::collection::vec((0..6_usize, 0..8_usize), 0..40),
        ) {
            let (mut credits, mut ends) = (Credits::new(count), vec![None; count]);
            for (slot, what) in steps {
                match [Succeeded, Failed, TimedOut, Cancelled, Skipped, Lost].get(what) {
                    Some(outcome) => {
                        credits.set(slot, *outcome);
                        ends.iter_mut().skip(slot).take(1).for_each(|end| *end = Some(*outcome));
                    }
                    None if what == 6 => {
                        credits.clear(slot);
                        ends.iter_mut().skip(slot).take(1).for_each(|end| *end = None);
                    }
                    None => {
                        credits.consume();
                        ends.fill(None);
                    }
                }
                for (_, condition) in Condition::WORDS {
                    prop_assert_eq!(credits.verdict(*condition), by_definition(&ends, *condition), "{:?} {:?}", condition, ends);
                }
                prop_assert_eq!(credits.is_empty(), ends.iter().all(Option::is_none));
                prop_assert_eq!(&credits, &self::credits(&ends));
            }
        }
    }

    #[test]
    fn each_condition_is_met_waits_or_is_closed_as_the_design_says() {
        use Condition::{AllDone, AllSuccess, AnyFailure, AnySuccess};
        use Verdict::{Closed, Satisfied, Waiting};
        let (ok, bad) = (Some(Succeeded), Some(Failed));
        for (ends, all_success, any_success, all_done, any_failure) in [
            (&[None, None], Waiting, Waiting, Waiting, Waiting),
            (&[ok, None], Waiting, Satisfied, Waiting, Waiting),
            (&[bad, None], Closed(Some(0)), Waiting, Waiting, Satisfied),
            (&[ok, ok], Satisfied, Satisfied, Satisfied, Closed(None)),
            (&[ok, bad], Closed(Some(1)), Satisfied, Satisfied, Satisfied),
            (&[bad, bad], Closed(Some(0)), Closed(None), Satisfied, Satisfied),
        ] {
            let credits = credits(ends);
            assert_eq!(credits.verdict(AllSuccess), all_success, "all_success {ends:?}");
            assert_eq!(credits.verdict(AnySuccess), any_success, "any_success {ends:?}");
            assert_eq!(credits.verdict(AllDone), all_done, "all_done {ends:?}");
            assert_eq!(credits.verdict(AnyFailure), any_failure, "any_failure {ends:?}");
        }
    }

    #[test]
    fn any_end_but_success_closes_the_condition_until_the_next_success() {
        for outcome in [Failed, TimedOut, Cancelled, Skipped, Lost] {
            let mut credits = Credits::new(1);
            credits.set(0, outcome);
            assert_eq!(credits.verdict(Condition::AllSuccess), Verdict::Closed(Some(0)), "{outcome:?}");
            credits.set(0, Succeeded);
            assert_eq!(credits.verdict(Condition::AllSuccess), Verdict::Satisfied);
            credits.consume();
            assert_eq!(credits.verdict(Condition::AllSuccess), Verdict::Waiting);
        }
    }

    #[test]
    fn missing_dependencies_are_named() {
        let credits = credits(&[Some(Succeeded), None, Some(Failed)]);
        assert_eq!(credits.missing(Condition::AllSuccess).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(credits.missing(Condition::AllDone).collect::<Vec<_>>(), [1]);
        assert_eq!(credits.missing(Condition::AnyFailure).count(), 0);
    }
}
