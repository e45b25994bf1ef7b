//! Webhooks and dead man's switches: who is called when something happens, or while all is well.
//!
//! The loop puts a [`Letter`] into the queue of each hook that wants it and goes on; a task a hook, on the other thread,
//! delivers them in order. A hook that is slow or down has its own queue, bounded, which drops its oldest and says so: it
//! delays neither the loop nor another hook. With webhooks alone nothing runs before the first letter.
//!
//! Letters live in memory: a crash loses those that were not delivered. That the daemon is gone is what a ping is for.
//! The loop itself makes the pings, so a loop that hangs falls silent.
//!
//! An address is a secret: its path may be a token. Only scheme and host are ever shown.

mod client;
mod deliver;
mod letter;
mod post;

use std::io;
use std::sync::Arc;

use globset::GlobMatcher;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::config::{Calls, Hook, Tell};
use crate::control::commands::status;
use crate::cron::Zone;
use crate::model::{Elapsed, StateWord, WallTime};
use crate::triggers::Mailbox;
use client::Client;
pub use letter::Letter;
use post::Post;

impl Hook {
    /// True if it wants to hear of this, whichever job it happens to.
    #[must_use]
    pub fn is_told_of(&self, what: Tell) -> bool {
        matches!(&self.calls, Calls::Event { on, .. } if on.contains(&what))
    }
}

/// Every hook of the configuration.
pub struct Notifier {
    mailbox: Mailbox,
    client: Option<Arc<Client>>,
    callees: Vec<Callee>,
    /// Deliveries are named by this and a number.
    prefix: String,
    next: u64,
}

/// One hook, and the task that calls it once there was something to say.
struct Callee {
    post: Arc<Post>,
    jobs: Vec<GlobMatcher>,
    next_ping: Option<Elapsed>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Callee {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Callee {
    fn new(hook: &Hook, now: Elapsed) -> Callee {
        let (jobs, next_ping) = match &hook.calls {
            Calls::Event { jobs, .. } => (jobs.iter().map(globset::Glob::compile_matcher).collect(), None),
            Calls::Ping { .. } => (Vec::new(), Some(now)),
        };
        Callee { post: Arc::new(Post::new(hook.clone())), jobs, next_ping, task: None }
    }

    fn wants(&self, job: &str, state: StateWord, recovered: bool) -> bool {
        let hook = &self.post.hook;
        (hook.is_told_of(Tell::State(state)) || recovered && hook.is_told_of(Tell::Recovered))
            && (self.jobs.is_empty() || self.jobs.iter().any(|glob| glob.is_match(job)))
    }
}

impl Notifier {
    /// No hooks yet. `mailbox` is posted to whenever a hook has nothing left to do at the daemon's end.
    #[must_use]
    pub fn new(mailbox: Mailbox, started: WallTime) -> Notifier {
        Notifier { mailbox, client: None, callees: Vec::new(), prefix: format!("{:x}", started.as_nanos()), next: 1 }
    }

    /// The hooks as they are from now on.
    pub fn set_hooks(&mut self, hooks: &[Hook], now: Elapsed) {
        let mut old = std::mem::take(&mut self.callees);
        for hook in hooks {
            let same = old.iter().position(|callee| callee.post.hook == *hook);
            self.callees.push(same.map_or_else(|| Callee::new(hook, now), |index| old.remove(index)));
        }
        for gone in &old {
            gone.post.tell_undelivered("is not called any more");
        }
        if let Some(client) = &self.client {
            client.forget_roots();
        }
    }

    /// True if any hook wants to hear of it.
    #[must_use]
    pub fn wants(&self, job: &str, state: StateWord, recovered: bool) -> bool {
        self.callees.iter().any(|callee| callee.wants(job, state, recovered))
    }

    /// Puts the letter into the queue of each hook that wants it.
    pub fn tell(&mut self, job: &str, letter: Letter, mut runtime: impl FnMut() -> io::Result<Handle>) {
        for index in 0..self.callees.len() {
            if self.callees[index].wants(job, letter.state(), letter.recovered()) {
                let id = format!("{}-{}", self.prefix, self.next);
                self.next += 1;
                self.callees[index].post.put(letter.clone().named(id));
                self.start(index, &mut runtime);
            }
        }
    }

    /// When the next ping is due.
    #[must_use]
    pub fn next_ping(&self) -> Option<Elapsed> {
        self.callees.iter().filter_map(|callee| callee.next_ping).min()
    }

    /// Sends the pings that are due, or lets them pass if the daemon is not well.
    pub fn ping_due(&mut self, now: Elapsed, well: bool, mut runtime: impl FnMut() -> io::Result<Handle>) {
        for index in 0..self.callees.len() {
            let callee = &mut self.callees[index];
            let Calls::Ping { every } = callee.post.hook.calls else { continue };
            let Some(due) = callee.next_ping.filter(|due| *due <= now) else { continue };
            // On the grid, without those that were slept through.
            let next = due + every;
            callee.next_ping = Some(if next > now { next } else { now + every });
            if well {
                callee.post.put(Letter::ping());
                self.start(index, &mut runtime);
            }
        }
    }

    fn start(&mut self, index: usize, runtime: &mut impl FnMut() -> io::Result<Handle>) {
        let callee = &mut self.callees[index];
        if callee.task.is_some() {
            return;
        }
        match runtime() {
            Ok(runtime) => {
                let client = Arc::clone(self.client.get_or_insert_with(|| Arc::new(Client::new())));
                callee.task = Some(runtime.spawn(deliver::work(Arc::clone(&callee.post), client, self.mailbox.clone())));
            }
            Err(error) => {
                callee.post.failed(format!("the thread that calls can't be started: {error}"));
                log::error!(
                    "{}: the thread that calls can't be started: {error}; it is tried again with the next event",
                    callee.post.shown
                );
            }
        }
    }

    /// The daemon ends: nothing is tried again from now on.
    pub fn close(&self) {
        self.callees.iter().for_each(|callee| callee.post.close());
    }

    /// True while nothing waits and nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.callees.iter().all(|callee| callee.post.queued() == 0)
    }

    /// Logs what the daemon's end leaves undelivered.
    pub fn tell_undelivered(&self) {
        self.callees.iter().for_each(|callee| callee.post.tell_undelivered("the daemon ends"));
    }

    /// How each hook stands.
    #[must_use]
    pub fn status(&self, zone: Zone) -> Vec<status::Hook> {
        self.callees.iter().map(|callee| callee.post.status(zone)).collect()
    }
}
