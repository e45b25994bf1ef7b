//! Exponential back-off: the delay between two attempts, for every part that retries.
//!
//! The same arithmetic serves the retries of runs, webhook deliveries, polls of a bucket or a queue and restarts of a
//! plugin. Pure: the caller counts failures and supplies the random number.

use std::time::Duration;

/// Exponents past this one only saturate: 2^31 times a millisecond is 24 days.
const MAX_EXPONENT: u32 = 31;

/// Delays that grow by a constant factor up to a maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    /// After the first failure.
    pub delay: Duration,
    /// Multiplies the delay with each further failure in a row; 1 keeps it constant.
    pub factor: u32,
    /// Upper bound before jitter. A maximum below `delay` has no effect.
    pub max: Duration,
    /// Spreads the delays of many clients.
    pub jitter: Jitter,
}

/// How a delay is varied, so that a fleet does not retry in step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Jitter {
    /// Not at all.
    #[default]
    None,
    /// Drawn evenly from the upper half of the delay ("equal jitter"): never longer than the delay itself.
    Random,
    /// Up to a tenth longer, always by the same share: where a delay repeats as a period, it must not wander.
    Stable(Spread),
}

/// A stable share of the jitter, from 0 to 1, in billionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spread(u32);

impl Spread {
    const ONE: u32 = 1_000_000_000;

    /// From a stable offset in 0 s..=1 s: the share is its length in seconds.
    #[must_use]
    pub fn from_offset(offset: Duration) -> Spread {
        Spread(u32::try_from(offset.as_nanos()).map_or(Spread::ONE, |nanos| nanos.min(Spread::ONE)))
    }

    /// The delay, up to a tenth longer.
    #[must_use]
    pub fn stretch(self, delay: Duration) -> Duration {
        let longer = delay.as_nanos().saturating_mul(u128::from(self.0)) / (10 * u128::from(Spread::ONE));
        delay.saturating_add(nanos(longer))
    }
}

impl Backoff {
    /// The delay before the next attempt after this many failures in a row; after none it is that of the first.
    ///
    /// `random` is called only for [`Jitter::Random`], so that a seeded generator advances only where its number counts.
    #[must_use]
    pub fn delay_after(&self, failures: u32, random: impl FnOnce() -> u64) -> Duration {
        let exponent = failures.saturating_sub(1).min(MAX_EXPONENT);
        let delay = self.delay.saturating_mul(self.factor.saturating_pow(exponent)).min(self.max.max(self.delay));
        match self.jitter {
            Jitter::None => delay,
            Jitter::Random => {
                let half = delay / 2;
                // Fixed-point multiplication instead of a remainder: no bias, and no division by zero.
                let span = (delay - half).as_nanos().min(u128::from(u64::MAX));
                half + nanos((u128::from(random()) * (span + 1)) >> 64)
            }
            Jitter::Stable(spread) => spread.stretch(delay),
        }
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exponential(jitter: Jitter) -> Backoff {
        Backoff { delay: Duration::from_secs(30), factor: 2, max: Duration::from_secs(600), jitter }
    }

    fn no_random() -> u64 {
        panic!("only random jitter draws a number")
    }

    #[test]
    fn the_delay_doubles_up_to_the_maximum() {
        let backoff = exponential(Jitter::None);
        for (failures, seconds) in [(0, 30), (1, 30), (2, 60), (3, 120), (4, 240), (5, 480), (6, 600), (u32::MAX, 600)] {
            assert_eq!(backoff.delay_after(failures, no_random), Duration::from_secs(seconds), "after {failures} failures");
        }
    }

    #[test]
    fn a_factor_of_one_keeps_the_delay_and_a_maximum_below_it_has_no_effect() {
        let fixed = Backoff { factor: 1, max: Duration::from_secs(1), ..exponential(Jitter::None) };
        for failures in [0, 1, 7, u32::MAX] {
            assert_eq!(fixed.delay_after(failures, no_random), Duration::from_secs(30));
        }
    }

    #[test]
    fn random_jitter_covers_the_upper_half_of_the_delay() {
        let backoff = exponential(Jitter::Random);
        assert_eq!(backoff.delay_after(2, || 0), Duration::from_secs(30));
        assert_eq!(backoff.delay_after(2, || u64::MAX), Duration::from_secs(60));
        assert_eq!(backoff.delay_after(2, || 1 << 63), Duration::from_secs(45));
    }

    #[test]
    fn stable_jitter_adds_at_most_a_tenth_also_to_the_maximum() {
        let offset = |millis| exponential(Jitter::Stable(Spread::from_offset(Duration::from_millis(millis))));
        assert_eq!(offset(1_000).delay_after(1, no_random), Duration::from_secs(33));
        assert_eq!(offset(500).delay_after(1, no_random), Duration::from_millis(31_500));
        assert_eq!(offset(0).delay_after(1, no_random), Duration::from_secs(30));
        assert_eq!(offset(9_000).delay_after(99, no_random), Duration::from_secs(660), "an offset past a second counts as one");
    }

    proptest! {
        #[test]
        fn no_delay_is_below_half_the_first_or_above_the_maximum(
            delay in 0..=u64::MAX, factor in 1..=3_u32, max in 0..=u64::MAX, failures in any::<u32>(), random in any::<u64>(),
        ) {
            let (delay, max) = (Duration::from_millis(delay), Duration::from_millis(max));
            let backoff = Backoff { delay, factor, max, jitter: Jitter::Random };
            let drawn = backoff.delay_after(failures, || random);
            prop_assert!(drawn <= max.max(delay) && drawn >= delay / 2);
        }
    }
}
