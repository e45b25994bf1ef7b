//! Files that the helper process is to look at, and why.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::helper::{MAX_PATHS_BYTES, Request};
use crate::model::ObjectVersion;
use crate::triggers::AskId;

/// The most files of one request.
const MAX_FILES: usize = 500;

/// What is to become of a file that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A scan has found it.
    Listed,
    /// inotify has reported that it is complete.
    Complete,
    /// inotify has reported that it was created: a link is complete at once.
    Created,
    /// It is ready if it still has this version.
    Unchanged(ObjectVersion),
    /// It becomes an event.
    Emit,
}

/// Those that wait, and those that the process was asked for. Paths are relative to the root.
#[derive(Default)]
pub(super) struct Looks {
    waiting: VecDeque<(Purpose, PathBuf)>,
    asked: Option<(AskId, VecDeque<(Purpose, PathBuf)>)>,
}

impl Looks {
    pub fn add(&mut self, purpose: Purpose, path: PathBuf) {
        self.waiting.push_back((purpose, path));
    }

    /// The next request, unless one is on its way: to be confirmed by [`Looks::asked`].
    pub fn next_request(&mut self, root: &Path) -> Option<(Request, VecDeque<(Purpose, PathBuf)>)> {
        if self.asked.is_some() || self.waiting.is_empty() {
            return None;
        }
        let (mut paths, mut asked, mut bytes) = (Vec::new(), VecDeque::new(), 0);
        while paths.len() < MAX_FILES
            && let Some((purpose, path)) = self.waiting.pop_front()
        {
            let absolute = root.join(&path);
            bytes += Request::cost_of(&absolute);
            if bytes > MAX_PATHS_BYTES && !paths.is_empty() {
                self.waiting.push_front((purpose, path));
                break;
            }
            paths.push(absolute);
            asked.push_back((purpose, path));
        }
        Some((Request::Stat(paths), asked))
    }

    pub fn asked(&mut self, ask: AskId, files: VecDeque<(Purpose, PathBuf)>) {
        self.asked = Some((ask, files));
    }

    pub fn is_asked(&self, ask: AskId) -> bool {
        self.asked.as_ref().is_some_and(|(asked, _)| *asked == ask)
    }

    /// The file that the next answer is about.
    pub fn next_answered(&mut self) -> Option<(Purpose, PathBuf)> {
        self.asked.as_mut()?.1.pop_front()
    }

    /// The request is over; what was not answered.
    pub fn finish(&mut self) -> VecDeque<(Purpose, PathBuf)> {
        self.asked.take().map(|(_, left)| left).unwrap_or_default()
    }

    /// Nobody answers: what was asked is to be asked again.
    pub fn take_back(&mut self) {
        for file in self.finish().into_iter().rev() {
            self.waiting.push_front(file);
        }
    }

    /// True if a file waits for this.
    pub fn has(&self, what: Purpose) -> bool {
        let asked = self.asked.iter().flat_map(|(_, files)| files);
        self.waiting.iter().chain(asked).any(|(purpose, _)| *purpose == what)
    }
}
