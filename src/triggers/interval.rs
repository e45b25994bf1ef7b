//! `interval`: a run per period, on a fixed grid of elapsed time.

use std::sync::Arc;
use std::time::Duration;

use super::{JobContext, Keys, Trigger, TriggerType, stable_offset};
use crate::engine::timing::{Concurrency, Grid, Timing};
use crate::model::{TriggerWord, format_duration};

/// The type's line for the registry.
pub static TYPE: TriggerType = TriggerType { word: TriggerWord::Interval.as_str(), keys: &["every", "jitter"], build };

/// A shorter period is a busy loop.
const SHORTEST: Duration = Duration::from_millis(1);

#[derive(Debug, PartialEq)]
struct Interval(Arc<Grid>);

fn build(keys: &mut dyn Keys, cx: &JobContext<'_>) -> Option<Box<dyn Trigger>> {
    if !keys.has("every") {
        keys.error(keys.place("every"), "an `interval` trigger needs `every`".into(), "for example `every: 10s`".into());
        return None;
    }
    let jitter = keys.duration("jitter").unwrap_or_default();
    let period = keys.duration("every")?;
    if period < SHORTEST {
        keys.error(keys.place("every"), "an interval must be at least 1ms".into(), "for example `every: 10s`".into());
        return None;
    }
    Some(Box::new(Interval(Arc::new(Grid { period, offset: stable_offset(jitter.min(period), cx) }))))
}

impl Trigger for Interval {
    fn kind(&self) -> TriggerWord {
        TriggerWord::Interval
    }

    fn summary(&self) -> String {
        format!("interval every {}", format_duration(self.0.period))
    }

    fn words(&self) -> Option<String> {
        Some(format!("every {}", format_duration(self.0.period)))
    }

    fn default_concurrency(&self) -> Concurrency {
        Concurrency::Forbid
    }

    fn timing(&self) -> Timing {
        Timing::Every(Arc::clone(&self.0))
    }
}
