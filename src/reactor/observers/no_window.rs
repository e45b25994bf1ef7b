//! Where the window would be: this firelink was built without it.

use super::Reactor;
use super::clocks::Clocks;
use crate::control::commands::events::Happened;

#[derive(Default)]
pub(super) struct Window {}

impl Window {
    pub fn is_followed(&self) -> bool {
        false
    }

    pub fn tell(&self, _happened: &Happened, _line: &str) {}

    pub fn trouble(&self) -> Option<String> {
        None
    }
}

impl<C: Clocks> Reactor<C> {
    pub(super) fn open_window(&mut self) {}
}
