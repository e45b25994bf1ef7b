//! Where the hooks would be called: this firelink was built without them.

use super::Reactor;
use super::clocks::Clocks;
use crate::control::commands::status;
use crate::engine::Story;
use crate::model::Elapsed;
use crate::store::StoredRun;
use crate::triggers::cron::Zone;

#[derive(Default)]
pub(super) struct Callers {}

impl Callers {
    pub fn status(&self, _zone: Zone) -> Vec<status::Hook> {
        Vec::new()
    }

    pub fn next_wake(&self) -> Option<Elapsed> {
        None
    }
}

impl<C: Clocks> Reactor<C> {
    pub(super) fn set_up_callers(&mut self) {}

    pub(super) fn tell_callers(&mut self, _story: &Story, _ended: &[StoredRun]) {}

    pub(super) fn ping_if_due(&mut self) {}

    pub(super) fn callers_are_done(&mut self) -> bool {
        true
    }
}
