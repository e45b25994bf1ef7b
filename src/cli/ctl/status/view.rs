//! `status` as text: a line for each job that fits 80 columns, then active runs, notification targets and warnings. Pure.

use std::time::Duration;

use crate::cli::terminal::{Colour, Terminal};
use crate::control::commands::status::{Job, JobWord, NotifyTarget, Status};
use crate::cron::parse_rfc3339;
use crate::model::{RunView, StateWord, WallTime};
use crate::text::is_unprintable;

/// The width of columns.
const NAME: usize = 22;
const TRIGGER: usize = 10;
const STATE: usize = 8;
const LAST: usize = 18;
const TARGET: usize = 30;

/// A page for `--watch`.
pub(super) struct Page {
    pub lines: Vec<String>,
    /// True if it shows a time in seconds.
    pub ticks: bool,
}

/// The whole status, of any length.
pub(super) fn page(status: &Status, terminal: Terminal, now: WallTime) -> String {
    let mut view = View { terminal, now, ticks: false };
    let jobs: Vec<&Job> = status.jobs.iter().collect();
    let mut lines = view.head(status);
    lines.push(String::new());
    lines.extend(view.jobs(&jobs, status.jobs.len()));
    if !status.active.is_empty() {
        lines.push(String::new());
        lines.extend(view.active(&status.active, status.active.len()));
    }
    if !status.notify.is_empty() {
        lines.push(String::new());
        lines.extend(view.targets(&status.notify));
    }
    for warning in warnings(status) {
        lines.push(String::new());
        lines.extend(view.warning(&warning));
    }
    lines.join("\n") + "\n"
}

/// The part that fits a screen of this height: warnings, active runs, and the most relevant jobs.
pub(super) fn screen(status: &Status, terminal: Terminal, height: usize, now: WallTime) -> Page {
    let mut view = View { terminal, now, ticks: false };
    let mut lines = view.head(status);
    let mut wrong: Vec<String> = warnings(status).iter().flat_map(|warning| view.warning(warning)).collect();
    wrong.truncate(height / 4);
    // Reserved: the table's head, its last line, and the empty lines between the parts.
    let room = height.saturating_sub(lines.len() + wrong.len() + 4);
    let active = status.active.len().min(room / 3);
    let active = if active == 0 { Vec::new() } else { view.active(&status.active, active) };
    let room = room.saturating_sub(if active.is_empty() { 0 } else { active.len() + 1 });
    // Healthy targets are left out on a small screen; the failing ones are among the warnings.
    let targets = if status.notify.len() < room / 4 { view.targets(&status.notify) } else { Vec::new() };
    let room = room.saturating_sub(if targets.is_empty() { 0 } else { targets.len() + 1 });
    let mut jobs: Vec<&Job> = status.jobs.iter().collect();
    if jobs.len() > room {
        // A stable sort keeps the order of the file.
        jobs.sort_by_cached_key(|job| (rank(job), job.next_at.as_deref().and_then(instant)));
        jobs.truncate(room.saturating_sub(1));
    }
    lines.push(String::new());
    lines.extend(view.jobs(&jobs, status.jobs.len()));
    for part in [active, targets, wrong] {
        if !part.is_empty() {
            lines.push(String::new());
            lines.extend(part);
        }
    }
    lines.truncate(height);
    Page { lines, ticks: view.ticks }
}

fn rank(job: &Job) -> u8 {
    let failed = job.last_run.as_ref().is_some_and(|run| colour_of(run.state) == Colour::Red);
    match job.state {
        JobWord::Running => 0,
        JobWord::Pending => 1,
        JobWord::Idle if failed => 2,
        JobWord::Idle if job.next_at.is_some() => 3,
        JobWord::Idle => 4,
    }
}

/// The daemon's warnings, and those about failing targets.
fn warnings(status: &Status) -> Vec<String> {
    let failing = status.notify.iter().filter_map(|target| Some((target, target.last_error.as_ref()?)));
    let failing =
        failing.map(|(target, error)| format!("{}: the last request of this {} failed: {error}", target.to, target.kind));
    status.warnings.iter().cloned().chain(failing).collect()
}

struct View {
    terminal: Terminal,
    now: WallTime,
    ticks: bool,
}

impl View {
    fn head(&mut self, status: &Status) -> Vec<String> {
        let dot = if self.terminal.unicode { " · " } else { "  " };
        let up = instant(&status.started_at).map_or_else(String::new, |at| format!("{dot}up {}", self.span(self.now.since(at))));
        let jobs = status.jobs.len();
        let running = status.active.iter().filter(|run| run.state == StateWord::Running).count();
        let head = format!(
            "firelink {}{dot}pid {}{up}{dot}{jobs} job{}, {running} running",
            status.version,
            status.pid,
            if jobs == 1 { "" } else { "s" }
        );
        let config = self.fit(&status.config, self.terminal.width);
        vec![self.terminal.paint(Colour::Bold, &self.fit(&head, self.terminal.width)), self.terminal.paint(Colour::Dim, &config)]
    }

    fn jobs(&mut self, jobs: &[&Job], of: usize) -> Vec<String> {
        let name = jobs.iter().map(|job| job.name.chars().count()).max().unwrap_or(3).clamp(3, NAME);
        let head = format!(
            "{:<name$}  {:<TRIGGER$}  {:<STATE$}  {:<LAST$}  {}",
            "JOB",
            "TRIGGER",
            "STATE",
            "LAST",
            self.fit("NEXT / WAITING FOR", self.rest(name))
        );
        let mut lines = vec![self.terminal.paint(Colour::Bold, head.trim_end())];
        lines.extend(jobs.iter().map(|job| self.job(job, name)));
        if jobs.len() < of {
            let more = format!("and {} more; `ctl status` shows all", of - jobs.len());
            lines.push(self.terminal.paint(Colour::Dim, &more));
        }
        lines
    }

    /// The width of the last column.
    fn rest(&self, name: usize) -> usize {
        self.terminal.width.saturating_sub(name + TRIGGER + STATE + LAST + 8).max(8)
    }

    fn job(&mut self, job: &Job, name: usize) -> String {
        let (state, colour) = match (job.enabled, job.paused, job.state) {
            (false, ..) => ("disabled", Colour::Dim),
            (true, true, _) => ("paused", Colour::Yellow),
            (true, false, JobWord::Running) => ("running", Colour::Cyan),
            (true, false, JobWord::Pending) => ("pending", Colour::Yellow),
            (true, false, JobWord::Idle) => ("idle", Colour::Plain),
        };
        let (last, last_colour) = self.last(job.last_run.as_ref());
        let next = match (&job.next_at, job.waiting_for.is_empty()) {
            (_, false) => job.waiting_for.join(", "),
            (Some(at), true) => self.next(at),
            (None, true) => "-".into(),
        };
        let cells = [
            (self.fit(&job.name, name), name, Colour::Plain),
            (job.trigger.to_string(), TRIGGER, Colour::Plain),
            (state.to_owned(), STATE, colour),
            (last, LAST, last_colour),
            (self.fit(&next, self.rest(name)), 0, Colour::Plain),
        ];
        self.line(&cells)
    }

    /// Cells, padded outside of their colour sequences.
    fn line(&self, cells: &[(String, usize, Colour)]) -> String {
        let mut line = String::new();
        for (text, width, colour) in cells {
            line.push_str(&self.terminal.paint(*colour, text));
            let missing = width.saturating_sub(text.chars().count());
            line.push_str(&" ".repeat(missing + 2));
        }
        line.trim_end().to_owned()
    }

    fn last(&mut self, run: Option<&RunView>) -> (String, Colour) {
        let Some(run) = run else { return ("-".into(), Colour::Dim) };
        let word = run.state.as_str();
        let since = if run.state.is_end() { run.ended_at.as_deref() } else { run.started_at.as_deref() };
        let text = match since.and_then(instant) {
            Some(at) if run.state.is_end() => format!("{word} {} ago", self.span(self.now.since(at))),
            Some(at) => format!("{word} {}", self.span(self.now.since(at))),
            None => word.to_owned(),
        };
        (self.fit(&text, LAST), colour_of(run.state))
    }

    /// `in 5m, 18:00`, or with the date from a day on.
    fn next(&mut self, at: &str) -> String {
        let Some(instant) = instant(at) else { return at.to_owned() };
        let wait = instant.since(self.now);
        let clock = if wait < Duration::from_secs(60) {
            at.get(11..19)
        } else if wait < Duration::from_secs(86_400) {
            at.get(11..16)
        } else {
            at.get(..10)
        };
        format!("in {}, {}", self.span(wait), clock.unwrap_or(at))
    }

    fn active(&mut self, runs: &[RunView], shown: usize) -> Vec<String> {
        let head = format!("{:>6}  {:<NAME$}  {:<STATE$}  {:<8}  ATTEMPT / WHY", "RUN", "JOB", "STATE", "FOR");
        let mut lines = vec![self.terminal.paint(Colour::Bold, &head)];
        for run in &runs[..shown] {
            let id = run.id.map_or_else(|| "-".into(), |id| id.to_string());
            let since = instant(run.started_at.as_deref().unwrap_or(&run.scheduled_at));
            let span = since.map_or_else(|| "-".into(), |at| self.span(self.now.since(at)));
            let mut text = if run.state == StateWord::Running { format!("attempt {}", run.attempt) } else { String::new() };
            if let Some(reason) = &run.reason {
                text = if text.is_empty() { reason.clone() } else { format!("{text}: {reason}") };
            }
            let rest = self.terminal.width.saturating_sub(6 + NAME + STATE + 8 + 8).max(8);
            let colour = if run.state == StateWord::Running { Colour::Cyan } else { Colour::Yellow };
            lines.push(self.line(&[
                (format!("{id:>6}"), 6, Colour::Plain),
                (self.fit(&run.job, NAME), NAME, Colour::Plain),
                (run.state.as_str().to_owned(), STATE, colour),
                (span, 8, Colour::Plain),
                (self.fit(&text, rest), 0, Colour::Plain),
            ]));
        }
        if shown < runs.len() {
            lines.push(self.terminal.paint(Colour::Dim, &format!("and {} more", runs.len() - shown)));
        }
        lines
    }

    fn targets(&mut self, targets: &[NotifyTarget]) -> Vec<String> {
        if targets.is_empty() {
            return Vec::new();
        }
        let to = targets.iter().map(|target| target.to.chars().count()).max().unwrap_or(6).clamp(6, TARGET);
        let head = format!("{:<to$}  {:<7}  {:>9}  {:>6}  {:>7}  LAST", "TARGET", "KIND", "DELIVERED", "QUEUED", "DROPPED");
        let mut lines = vec![self.terminal.paint(Colour::Bold, &head)];
        for target in targets {
            let (last, colour) = match (&target.last_error, target.last_ok_at.as_deref().and_then(instant)) {
                (Some(_), _) => ("failing".to_owned(), Colour::Red),
                (None, Some(at)) => (format!("{} ago", self.span(self.now.since(at))), Colour::Green),
                (None, None) => ("-".to_owned(), Colour::Dim),
            };
            lines.push(self.line(&[
                (self.fit(&target.to, to), to, Colour::Plain),
                (self.fit(&target.kind, 7), 7, Colour::Plain),
                (format!("{:>9}", target.delivered), 9, Colour::Plain),
                (format!("{:>6}", target.queued), 6, Colour::Plain),
                (format!("{:>7}", target.dropped), 7, if target.dropped > 0 { Colour::Yellow } else { Colour::Plain }),
                (last, 0, colour),
            ]));
        }
        lines
    }

    /// Wrapped at spaces.
    fn warning(&self, text: &str) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in self.clean(&format!("warning: {text}")).split(' ') {
            match lines.last_mut() {
                Some(line) if line.chars().count() + 1 + word.chars().count() <= self.terminal.width => {
                    line.push(' ');
                    line.push_str(word);
                }
                Some(_) => lines.push(format!("  {word}")),
                None => lines.push(word.to_owned()),
            }
        }
        lines.iter().map(|line| self.terminal.paint(Colour::Yellow, line)).collect()
    }

    /// Two units from an hour to a day, else one: `5s`, `5m`, `5h12m`, `3d`.
    fn span(&mut self, span: Duration) -> String {
        let secs = span.as_secs();
        match secs {
            0..60 => {
                self.ticks = true;
                format!("{secs}s")
            }
            60..3_600 => format!("{}m", secs / 60),
            3_600..86_400 => format!("{}h{:02}m", secs / 3_600, secs / 60 % 60),
            _ => format!("{}d", secs / 86_400),
        }
    }

    fn fit(&self, text: &str, width: usize) -> String {
        self.terminal.cut(&self.clean(text), width)
    }

    /// Without characters that the terminal would interpret, or can't show.
    fn clean(&self, text: &str) -> String {
        text.chars().map(|c| if is_unprintable(c) || (!self.terminal.unicode && !c.is_ascii()) { '?' } else { c }).collect()
    }
}

fn colour_of(state: StateWord) -> Colour {
    match state {
        StateWord::Succeeded => Colour::Green,
        StateWord::Failed | StateWord::TimedOut | StateWord::Lost => Colour::Red,
        StateWord::Running => Colour::Cyan,
        StateWord::Pending | StateWord::Cancelled | StateWord::Skipped | StateWord::Missed => Colour::Yellow,
    }
}

fn instant(text: &str) -> Option<WallTime> {
    parse_rfc3339(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Attempt, RunId, TriggerWord};

    const NOW: &str = "2026-11-25T12:00:00+01:00";

    fn plain(width: usize) -> Terminal {
        Terminal { colour: false, unicode: false, width, height: None }
    }

    fn run(job: &str, state: StateWord, started: &str, ended: Option<&str>) -> RunView {
        RunView {
            id: Some(RunId(12)),
            job: job.into(),
            state,
            trigger: TriggerWord::Cron,
            event: None,
            scheduled_at: started.into(),
            started_at: Some(started.into()),
            ended_at: ended.map(Into::into),
            attempt: Attempt(1),
            exit_code: None,
            signal: None,
            reason: None,
            log: None,
        }
    }

    fn job(name: &str, state: JobWord, next_at: Option<&str>, last_run: Option<RunView>, waiting_for: &[&str]) -> Job {
        Job {
            name: name.into(),
            trigger: TriggerWord::Cron,
            enabled: true,
            paused: false,
            state,
            next_at: next_at.map(Into::into),
            last_run,
            waiting_for: waiting_for.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    fn status(jobs: Vec<Job>, active: Vec<RunView>) -> Status {
        Status {
            version: "0.1.0".into(),
            pid: 7,
            started_at: "2026-11-25T09:55:00+01:00".into(),
            config: "/etc/firelink.yaml".into(),
            jobs,
            active,
            warnings: vec!["backup: the bucket does not answer".into()],
            state_error: None,
            notify: Vec::new(),
        }
    }

    #[test]
    fn a_page_tells_times_from_now_and_fits_eighty_columns() {
        let ended = run("backup", StateWord::Succeeded, "2026-11-25T11:00:00+01:00", Some("2026-11-25T11:01:00+01:00"));
        let running = run("copy", StateWord::Running, "2026-11-25T11:59:55+01:00", None);
        let jobs = vec![
            job("backup", JobWord::Idle, Some("2026-11-25T18:00:00+01:00"), Some(ended), &[]),
            job("copy", JobWord::Running, Some("2026-11-25T12:00:30+01:00"), Some(running.clone()), &[]),
            job("monthly", JobWord::Idle, Some("2026-12-01T00:00:00+01:00"), None, &[]),
            job("report", JobWord::Idle, None, None, &["backup", "copy", "a-job-with-a-long-name"]),
        ];
        let text = page(&status(jobs, vec![running]), plain(80), instant(NOW).unwrap());
        let expected = "firelink 0.1.0  pid 7  up 2h05m  4 jobs, 1 running
/etc/firelink.yaml

JOB      TRIGGER     STATE     LAST                NEXT / WAITING FOR
backup   cron        idle      succeeded 59m ago   in 6h00m, 18:00
copy     cron        running   running 5s          in 30s, 12:00:30
monthly  cron        idle      -                   in 5d, 2026-12-01
report   cron        idle      -                   backup, copy, a-job-with-a-l~

   RUN  JOB                     STATE     FOR       ATTEMPT / WHY
    12  copy                    running   5s        attempt 1

warning: backup: the bucket does not answer
";
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.len() <= 80));
    }

    fn target(to: &str, kind: &str, last_ok_at: Option<&str>, last_error: Option<&str>) -> NotifyTarget {
        NotifyTarget {
            to: to.into(),
            kind: kind.into(),
            last_ok_at: last_ok_at.map(Into::into),
            last_error: last_error.map(Into::into),
            delivered: 12,
            queued: 2,
            dropped: 0,
        }
    }

    #[test]
    fn targets_are_listed_and_failing_ones_are_warnings() {
        let mut status = status(Vec::new(), Vec::new());
        status.warnings.clear();
        status.notify = vec![
            target("https://example.org", "webhook", Some("2026-11-25T11:59:00+01:00"), None),
            target("https://a-host-with-a-name-that-is-long.example.org", "ping", None, Some("no answer within 10s")),
            target("http://10.0.0.1:8080", "webhook", None, None),
        ];
        let text = page(&status, plain(80), instant(NOW).unwrap());
        let (_, targets) = text.split_once("WAITING FOR\n\n").unwrap();
        let expected = "\
TARGET                          KIND     DELIVERED  QUEUED  DROPPED  LAST
https://example.org             webhook         12       2        0  1m ago
https://a-host-with-a-name-th~  ping            12       2        0  failing
http://10.0.0.1:8080            webhook         12       2        0  -

warning: https://a-host-with-a-name-that-is-long.example.org: the last request
  of this ping failed: no answer within 10s
";
        assert_eq!(targets, expected);
        for (height, shown) in [(12, false), (24, true)] {
            let lines = screen(&status, plain(80), height, instant(NOW).unwrap()).lines;
            assert_eq!(lines.iter().any(|line| line.starts_with("TARGET")), shown, "{lines:#?}");
            assert!(lines.len() <= height && lines.iter().any(|line| line.contains("the last request")), "{lines:#?}");
        }
    }

    #[test]
    fn a_screen_shows_first_what_a_person_looks_for_and_never_overflows() {
        let failed = run("bad", StateWord::Failed, "2026-11-25T11:00:00+01:00", Some("2026-11-25T11:01:00+01:00"));
        let mut jobs: Vec<Job> = (0..500).map(|n| job(&format!("job{n}"), JobWord::Idle, None, None, &[])).collect();
        jobs.push(job("bad", JobWord::Idle, None, Some(failed), &[]));
        jobs.push(job("soon", JobWord::Idle, Some("2026-11-25T12:05:00+01:00"), None, &[]));
        jobs.push(job("busy", JobWord::Running, None, None, &[]));
        let active = (0..40).map(|_| run("busy", StateWord::Running, "2026-11-25T10:00:00+01:00", None)).collect();
        let status = status(jobs, active);
        for height in [6, 10, 24, 60] {
            for width in [40, 80, 200] {
                let page = screen(&status, plain(width), height, instant(NOW).unwrap());
                assert!(page.lines.len() <= height, "{height}: {:#?}", page.lines);
            }
        }
        let page = screen(&status, plain(80), 24, instant(NOW).unwrap());
        let order: Vec<&str> = page.lines[4..8].iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(order, ["busy", "bad", "soon", "job0"], "{:#?}", page.lines);
        assert!(page.lines.iter().any(|line| line.contains("warning")) && page.lines.iter().any(|line| line.contains("more;")));
        assert!(!page.ticks, "nothing in it is shown in seconds");
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_written() {
        let mut status = status(vec![job("a", JobWord::Pending, None, None, &["\x1b]0;evil\x07 and ünï"])], Vec::new());
        status.config = "/tmp/\x1b[31m.yaml".into();
        status.warnings = vec!["\x1b[2J".into()];
        let text = page(&status, plain(80), instant(NOW).unwrap());
        assert!(text.chars().all(|c| c == '\n' || (c.is_ascii() && !c.is_ascii_control())), "{text:?}");
    }
}
