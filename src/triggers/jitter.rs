//! Stable jitter: a job has the same offset at each start on a machine.

use std::time::Duration;

use super::JobContext;

/// The offset below `limit` of a job on this machine: FNV-1a over the machine's seed and the job's name, so that machines with
/// the same configuration spread out and each stays predictable.
#[must_use]
pub fn stable_offset(limit: Duration, cx: &JobContext<'_>) -> Duration {
    let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 {
        return Duration::ZERO;
    }
    let bytes = cx.machine_seed.to_le_bytes();
    let hash = bytes
        .iter()
        .chain(cx.job.as_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // FNV mixes its low bits best; a final multiply-shift spreads them over the whole range.
    let mixed = hash ^ (hash >> 32);
    let spread = (u128::from(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * u128::from(nanos)) >> 64;
    Duration::from_nanos(u64::try_from(spread).unwrap_or(0))
}
