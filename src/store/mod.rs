//! State: one SQLite database in `state_dir`, written by the daemon alone, at most once per turn of its loop.
//!
//! [`Store`] is the daemon's handle: it commits the engine's [`Change`](crate::engine::Change)s in one transaction, and at a
//! start restores the state of an earlier daemon. [`History`] reads past runs, with or without a daemon. The engine's
//! decisions are in the database, or while turns follow each other closely in a journal beside it (a write-ahead log of
//! turns, see [`Store::append`]), before any process acts on them, so that a crash at any point leaves each event with exactly
//! one run.
//!
//! The database is in WAL mode with small pages, because flash wears: an uneventful run touches a handful of
//! kilobyte-sized pages. This room imports `model`, `cron` (instants as text), `engine`, `files` and `logs`.

mod apply;
mod blocks;
mod compact;
mod copy;
mod dir;
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
use crate::files::Dir;
use crate::model::Batch;
use crate::model::JobId;

pub use copy::{bring_back, copy_failed};
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

/// Changes kept in memory while writes fail: some MB at most, and enough for hours of a small box's runs.
const BACKLOG: usize = 20_000;

/// The part of a watch's seen-set that is committed together with a turn's changes.
#[derive(Clone, Debug)]
pub struct WatchRecord {
    /// The watch's job.
    pub job: JobId,
    /// Objects seen and gone; its events are runs among the changes.
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

/// Identifies a job's row: the name, and a hash that changes with its schedule.
#[derive(Clone, Debug)]
pub struct JobKey {
    /// The job's name.
    pub name: Arc<str>,
    /// [`Timing::mark`](crate::engine::timing::Timing::mark) of its wall deadlines.
    pub timing: i64,
}

impl From<&JobRules> for JobKey {
    fn from(rules: &JobRules) -> JobKey {
        JobKey { name: Arc::clone(&rules.name), timing: rules.timing.mark() }
    }
}

/// The daemon's handle of the database.
#[derive(Debug)]
pub struct Store {
    conn: Connection,
    dir: Arc<Dir>,
    path: PathBuf,
    durability: Durability,
    /// The row id of each job of the configuration.
    job_rows: Vec<i64>,
    boot_id: String,
    journal: journal::Journal,
    /// The entries in the journal, oldest first: not in the database yet.
    journaled: Vec<entry::Entry>,
    /// The entries of transactions that failed, oldest first.
    backlog: Vec<entry::Entry>,
    watch_backlog: Vec<WatchRecord>,
    /// The error of the last transaction, if it failed.
    trouble: Option<String>,
    /// The length of each watch's seen log.
    seen_lengths: seen::Lengths,
    compaction: Option<compact::Compaction>,
    /// New runs since the bound on active ones was stored.
    since_bound: u32,
    /// Something was written since the last complete checkpoint of SQLite's WAL.
    checkpoint_due: bool,
    /// Not taken yet by [`Store::take_warnings`].
    warnings: Vec<String>,
}

/// An opened store.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// To be logged: for example that a damaged database was set aside.
    pub warnings: Vec<String>,
}

impl Store {
    /// Frees SQLite's page cache and prepared statements, and the journal's buffer, which grow during a start.
    pub fn trim(&mut self) {
        self.journal.trim();
        self.conn.flush_prepared_statement_cache();
        if let Err(error) = self.conn.release_memory() {
            log::debug!("SQLite keeps its memory: {error}");
        }
    }

    /// Opens or creates the database in `dir`, which exists, and replays the journal of a daemon that crashed.
    /// `boot_id` identifies the boot of the machine.
    ///
    /// A damaged database is renamed to `state.db.damaged-` and the time, and a new one created. [`Store::restore`] does the
    /// same when it finds damage that opening does not touch.
    ///
    /// # Errors
    /// When it was written by a newer firelink, and those of the file system and of SQLite.
    pub fn open(dir: &Path, durability: Durability, boot_id: String) -> Result<Opened, StoreError> {
        let path = dir.join(DATABASE);
        let mut warnings = Vec::new();
        let dir = Dir::open(dir).map(Arc::new).map_err(|error| schema::not_opened(&path, &error))?;
        let open = || schema::open(&dir, durability).and_then(|conn| journal::replay(&conn, dir.path()).map(|()| conn));
        let conn = match open() {
            Err(StoreError::Damaged { message }) => {
                warnings.push(damage_warning(&message, &schema::set_aside(&path)?));
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
            journal: journal::Journal::new(Arc::clone(&dir)),
            dir,
            journaled: Vec::new(),
            backlog: Vec::new(),
            watch_backlog: Vec::new(),
            trouble: None,
            seen_lengths: seen::Lengths::new(),
            compaction: None,
            since_bound: 0,
            checkpoint_due: true,
            warnings: Vec::new(),
        };
        Ok(Opened { store, warnings })
    }

    /// For an orderly stop: checkpoints and removes the journal. If the checkpoint fails, the journal stays for recovery.
    pub fn close(&mut self) {
        if self.catch_up().is_ok() {
            self.journal.close();
        }
    }

    /// The state directory.
    #[must_use]
    pub fn dir(&self) -> Arc<Dir> {
        Arc::clone(&self.dir)
    }

    /// The database's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Warnings since the last call, to be logged: for example that [`Store::restore`] found damage.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Renames the damaged database and creates a new one in its place.
    fn replace_damaged(&mut self, message: &str) -> Result<(), StoreError> {
        // Closed first, or its last checkpoint would go into the new file.
        let placeholder = Connection::open_in_memory().map_err(|error| StoreError::from_sqlite("use memory", &error))?;
        drop(std::mem::replace(&mut self.conn, placeholder));
        self.compaction = None;
        let aside = schema::set_aside(&self.path)?;
        self.conn = schema::open(&self.dir, self.durability)?;
        self.warnings.push(damage_warning(message, &aside));
        Ok(())
    }

    /// Changes which transactions are fsynced.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn set_durability(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.catch_up()?;
        self.durability = durability;
        schema::set_durability(&self.conn, durability).map_err(|error| StoreError::from_sqlite("set the durability", &error))
    }

    /// The error of the last transaction, if it failed, and the number of changes that wait. Jobs run meanwhile.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn row_of(&self, job: JobId) -> i64 {
        self.job_rows.get(job.index()).copied().unwrap_or_default()
    }

    /// The job of a row, if it is configured.
    #[must_use]
    pub fn job_of(&self, row: i64) -> Option<JobId> {
        // Called a few times at a start only: not worth the memory of a map.
        let index = self.job_rows.iter().position(|known| *known == row)?;
        u32::try_from(index).ok().map(JobId)
    }
}

fn damage_warning(message: &str, aside: &Path) -> String {
    format!(
        "the state database was damaged ({message}); it was set aside as {} and a new one created: the history and the objects \
         seen by watches are lost",
        aside.display()
    )
}

fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}
