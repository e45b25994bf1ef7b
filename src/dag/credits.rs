//! The credit rule: what a job's dependencies have done since its previous run took them in.

use super::Condition;
use crate::model::Outcome;

/// How each dependency of one job ended last, since the job's previous run took it in. One byte a dependency.
///
/// The latest end counts: an upstream that failed closes the way until its next success, which opens it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credits(Box<[Option<Outcome>]>);

/// What the credits say about the job, under its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every dependency is satisfied.
    Satisfied,
    /// Some have not ended yet, or not in the way the condition asks.
    Waiting,
    /// The condition can't be met by what has ended; the slot is the dependency to blame, if one is.
    Closed(Option<usize>),
}

impl Credits {
    /// None of `dependencies` has ended yet.
    #[must_use]
    pub fn new(dependencies: usize) -> Credits {
        Credits(vec![None; dependencies].into_boxed_slice())
    }

    /// The dependency in this slot has ended a run.
    pub fn note(&mut self, slot: usize, outcome: Outcome) {
        if let Some(credit) = self.0.get_mut(slot) {
            *credit = Some(outcome);
        }
    }

    /// How the dependency in this slot ended, if it has since the last take-in.
    #[must_use]
    pub fn get(&self, slot: usize) -> Option<Outcome> {
        self.0.get(slot).copied().flatten()
    }

    /// A run of the job starts: everything that has ended is taken in.
    pub fn take_in(&mut self) {
        self.0.fill(None);
    }

    /// Forgets one dependency's end.
    pub fn clear(&mut self, slot: usize) {
        if let Some(credit) = self.0.get_mut(slot) {
            *credit = None;
        }
    }

    /// True if nothing has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The rule. `any_*` is met by the first end that meets it; it is closed once all have ended otherwise.
    #[must_use]
    pub fn verdict(&self, condition: Condition) -> Verdict {
        let all_ended = || self.0.iter().all(Option::is_some);
        let succeeded = |credit: &Option<Outcome>| credit.is_some_and(Outcome::is_success);
        let failed = |credit: &Option<Outcome>| credit.is_some_and(|outcome| !outcome.is_success());
        match condition {
            Condition::AllSuccess => match self.0.iter().position(failed) {
                Some(slot) => Verdict::Closed(Some(slot)),
                None if all_ended() => Verdict::Satisfied,
                None => Verdict::Waiting,
            },
            Condition::AllDone if all_ended() => Verdict::Satisfied,
            Condition::AnySuccess if self.0.iter().any(succeeded) => Verdict::Satisfied,
            Condition::AnyFailure if self.0.iter().any(failed) => Verdict::Satisfied,
            Condition::AnySuccess | Condition::AnyFailure if all_ended() => Verdict::Closed(None),
            Condition::AllDone | Condition::AnySuccess | Condition::AnyFailure => Verdict::Waiting,
        }
    }

    /// The slots that keep the condition from being met.
    pub fn missing(&self, condition: Condition) -> impl Iterator<Item = usize> + '_ {
        let met = matches!(self.verdict(condition), Verdict::Satisfied);
        self.0.iter().enumerate().filter_map(move |(slot, credit)| {
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
    use super::*;
    use Outcome::{Cancelled, Failed, Lost, Skipped, Succeeded, TimedOut};

    fn credits(ends: &[Option<Outcome>]) -> Credits {
        Credits(ends.into())
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
    fn everything_but_success_closes_the_way_and_the_next_success_opens_it() {
        for outcome in [Failed, TimedOut, Cancelled, Skipped, Lost] {
            let mut credits = Credits::new(1);
            credits.note(0, outcome);
            assert_eq!(credits.verdict(Condition::AllSuccess), Verdict::Closed(Some(0)), "{outcome:?}");
            credits.note(0, Succeeded);
            assert_eq!(credits.verdict(Condition::AllSuccess), Verdict::Satisfied);
            credits.take_in();
            assert_eq!(credits.verdict(Condition::AllSuccess), Verdict::Waiting);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let credits = credits(&[Some(Succeeded), None, Some(Failed)]);
        assert_eq!(credits.missing(Condition::AllSuccess).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(credits.missing(Condition::AllDone).collect::<Vec<_>>(), [1]);
        assert_eq!(credits.missing(Condition::AnyFailure).count(), 0);
    }
}
