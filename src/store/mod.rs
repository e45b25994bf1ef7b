//! State: one SQLite database in `state_dir`, written by the daemon alone, at most once per turn of its loop.
//!
//! [`Store`] is the daemon's side: it takes the engine's [`Change`](crate::engine::Change)s and commits them in one transaction, and at a start
//! gives back what an earlier daemon left. [`History`] is everybody's side: it reads past runs, with or without a
//! daemon. What the engine decided is in the database, or while turns follow each other closely in a journal beside it,
//! before any process acts on it, so that a crash at any point leaves each event with exactly one run.
//!
//! The database is in WAL mode with small pages, because flash wears: an uneventful run touches a handful of
//! kilobyte-sized pages. This room imports `model`, `engine` and `triggers` (the seen-set's records); `reactor` and the
//! command line import it.

mod apply;
mod blocks;
mod compact;
mod copy;
mod entry;
mod error;
mod history;
mod inspect;
mod journal;
mod lock;
mod maintenance;
mod prune;
mod restore;
mod row;
mod schema;
mod seen;
mod view;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use crate::engine::rules::JobRules;
use crate::model::Batch;
use crate::model::JobId;

pub use copy::bring_back;
pub use error::StoreError;
pub use history::{AttemptRow, Filter, History, MissedRow};
pub use inspect::inspect;
pub use lock::{Lock, LockError};
pub use prune::{Gone, GoneJob, Keep, PRUNE_AT_ONCE, Pruned};
pub use row::StoredRun;
pub use view::{AttemptView, log_path, split_exit};

/// The database's name within `state_dir`.
pub const DATABASE: &str = "state.db";

/// The journal's name within `state_dir`.
pub const JOURNAL: &str = "journal";

/// Counts up with every change of the shape; kept in `PRAGMA user_version`.
const VERSION: i64 = 8;

/// Changes kept in memory while the disk refuses them: some MB at most, and enough for hours of a small box's runs.
const BACKLOG: usize = 20_000;

/// What is to be committed together with a turn's changes for one watch.
#[derive(Clone, Debug)]
pub struct WatchRecord {
    /// Whose watch.
    pub job: JobId,
    /// What it found; the events are runs among the changes.
    pub batch: Batch,
}

/// How much of the state a power cut may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Survives any crash of the process; a power cut may cost the last transactions.
    #[default]
    Normal,
    /// Fsyncs every transaction.
    Full,
}

/// What tells a job's rows from those of others.
#[derive(Clone, Debug)]
pub struct JobKey {
    /// Its name.
    pub name: Arc<str>,
    /// [`Timing::mark`](crate::engine::timing::Timing::mark) of its wall deadlines.
    pub timing: i64,
}

impl From<&JobRules> for JobKey {
    fn from(rules: &JobRules) -> JobKey {
        JobKey { name: Arc::clone(&rules.name), timing: rules.timing.mark() }
    }
}

/// The daemon's hold on the database.
#[derive(Debug)]
pub struct Store {
    conn: Connection,
    path: PathBuf,
    durability: Durability,
    /// The database's id of each job of the configuration.
    job_rows: Vec<i64>,
    boot_id: String,
    /// Turns that survive a crash of the daemon and are not in the database yet.
    journal: journal::Journal,
    /// What it says.
    jotted: Vec<entry::Entry>,
    /// Changes that a failing disk has refused so far, oldest first.
    backlog: Vec<entry::Entry>,
    watch_backlog: Vec<WatchRecord>,
    /// The disk's last word, while it refuses.
    trouble: Option<String>,
    /// How long the logs of what was seen are.
    seen_lengths: seen::Lengths,
    /// The one that is being folded.
    folding: Option<compact::Folding>,
    /// Runs written since the bound on active ones was moved.
    since_bound: u32,
    /// Something was written since the log of the database was last emptied.
    checkpoint_due: bool,
    /// What a person should hear and has not been handed over.
    warnings: Vec<String>,
}

/// An opened store and what a person should hear about the opening.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// For example that a damaged database was set aside.
    pub warnings: Vec<String>,
}

impl Store {
    /// Gives back what the start has read and asked, which SQLite would keep for another time.
    pub fn trim(&mut self) {
        self.journal.forget();
        self.conn.flush_prepared_statement_cache();
        if let Err(error) = self.conn.release_memory() {
            log::debug!("SQLite keeps its memory: {error}");
        }
    }

    /// Opens or creates the database in `dir`, which exists, and brings into it what a daemon that crashed had jotted down.
    /// `boot_id` tells one boot of the machine from another.
    ///
    /// A damaged database is renamed to `state.db.damaged-` and the time, and a fresh one begun. Damage that the opening
    /// does not meet is found by [`Store::restore`].
    ///
    /// # Errors
    /// When it was written by a newer firelink, or the disk refuses.
    pub fn open(dir: &Path, durability: Durability, boot_id: String) -> Result<Opened, StoreError> {
        let path = dir.join(DATABASE);
        let mut warnings = Vec::new();
        let open = || schema::open(&path, durability).and_then(|conn| journal::replay(&conn, dir).map(|()| conn));
        let conn = match open() {
            Err(StoreError::Damaged { said }) => {
                warnings.push(damage(&said, &schema::set_aside(&path)?));
                open()?
            }
            opened => opened?,
        };
        let store = Store {
            conn,
            path,
            durability,
            job_rows: Vec::new(),
            boot_id,
            journal: journal::Journal::new(dir),
            jotted: Vec::new(),
            backlog: Vec::new(),
            watch_backlog: Vec::new(),
            trouble: None,
            seen_lengths: seen::Lengths::new(),
            folding: None,
            since_bound: 0,
            checkpoint_due: true,
            warnings: Vec::new(),
        };
        Ok(Opened { store, warnings })
    }

    /// Ends well: nothing is left beside the database. What the disk refuses stays jotted down.
    pub fn close(&mut self) {
        if self.catch_up().is_ok() {
            self.journal.close();
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a person should hear since the opening, once: that [`Store::restore`] found damage, for example.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Sets the database aside and begins a fresh one in its place.
    fn begin_afresh(&mut self, said: &str) -> Result<(), StoreError> {
        // Closed first, or its last checkpoint would go into the file that is new by then.
        let placeholder = Connection::open_in_memory().map_err(|error| StoreError::from_sqlite("use memory", &error))?;
        drop(std::mem::replace(&mut self.conn, placeholder));
        self.folding = None;
        let aside = schema::set_aside(&self.path)?;
        self.conn = schema::open(&self.path, self.durability)?;
        self.warnings.push(damage(said, &aside));
        Ok(())
    }

    /// Changes how hard commits are pressed onto the disk.
    ///
    /// # Errors
    /// What SQLite said.
    pub fn set_durability(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.catch_up()?;
        self.durability = durability;
        schema::set_durability(&self.conn, durability).map_err(|error| StoreError::from_sqlite("set the durability", &error))
    }

    /// What the disk says, while it refuses what is to be written. Runs go on in memory meanwhile.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn row_of(&self, job: JobId) -> i64 {
        self.job_rows.get(job.index()).copied().unwrap_or_default()
    }

    /// The job of a row, if the configuration has it.
    #[must_use]
    pub fn job_of(&self, row: i64) -> Option<JobId> {
        // Rows are looked up a few times at a start; a map would be kept for ever.
        let index = self.job_rows.iter().position(|known| *known == row)?;
        u32::try_from(index).ok().map(JobId)
    }
}

fn damage(said: &str, aside: &Path) -> String {
    format!(
        "the state database was damaged ({said}); it was set aside as {} and a fresh one begun: past runs and what was seen of \
         each watch are not known any more",
        aside.display()
    )
}

fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}
