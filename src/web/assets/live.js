// What the daemon is doing, as far as this page knows: its status, kept up to date by the stream of events.
//
// An event updates the state at once. What it does not contain (the next deadline, what a job waits for, exit codes)
// comes with the next status, which is asked for a moment later and never often.

import { follow, get } from './api.js';

export const live = {
  /** The newest status, or null. */
  status: null,
  /** Jobs of the status by name. */
  jobs: new Map(),
  /** `connecting`, `live` or `lost`. */
  link: 'connecting',
  /** Why the connection is lost, if that is known. */
  error: null,
};

const watchers = new Set();
let dirty = null;
let frame = 0;

/** Calls `see(change)` after changes, at most once a frame, until `signal` aborts. */
export function watch(see, signal) {
  watchers.add(see);
  signal.addEventListener('abort', () => watchers.delete(see));
}

// `jobs`: names that changed. `all`: the status is new. `again`: the connection is new, so events may have been missed.
// `events`: the events in order.
function notify(part) {
  dirty ??= { jobs: new Set(), all: false, again: false, events: [] };
  if (part.job) dirty.jobs.add(part.job);
  if (part.all) dirty.all = true;
  if (part.again) dirty.again = true;
  if (part.event) dirty.events.push(part.event);
  frame ||= requestAnimationFrame(() => {
    const change = dirty;
    dirty = null;
    frame = 0;
    for (const see of [...watchers]) see(change);
  });
}

/** The displayed state of a job: that of an active run, else why it is held, else that of its last run. */
export function face(job) {
  if (job.state === 'running' || job.state === 'pending') return job.state;
  if (!job.enabled) return 'disabled';
  if (job.paused) return 'paused';
  return job.last_run?.state ?? 'idle';
}

let asking = null;
let again = false;

/** Fetches the status now. */
export async function refresh() {
  if (asking) {
    again = true;
    return asking;
  }
  asking = (async () => {
    do {
      again = false;
      const status = await get('status');
      // It would undo events that arrived during the request: then it is fetched again.
      live.status = status;
      live.jobs = new Map(status.jobs.map((job) => [job.name, job]));
      notify({ all: true });
    } while (again);
  })();
  try {
    await asking;
  } finally {
    asking = null;
  }
}

let soon = 0;
let lastAsked = 0;

// The status of many jobs is long: not at every event.
function refreshSoon() {
  if (soon) return;
  const every = live.jobs.size > 200 ? 10_000 : 2_000;
  const wait = Math.max(250, lastAsked + every - Date.now());
  soon = setTimeout(() => {
    soon = 0;
    lastAsked = Date.now();
    refresh().catch(() => {});
  }, wait);
}

function happened(event) {
  if (asking) again = true;
  const job = event.job && live.jobs.get(event.job);
  if (job && event.run) step(job, event);
  if (event.what === 'paused' || event.what === 'resumed') {
    for (const one of event.job ? [job] : live.jobs.values()) if (one) one.paused = event.what === 'paused';
  }
  notify({ job: event.job, event, all: event.what === 'paused' || event.what === 'resumed' });
  // The jobs may have changed: everything is fetched.
  if (event.what === 'reloaded') refresh().then(() => notify({ again: true }), () => {});
  else refreshSoon();
}

/** A run after an event, created if this is its first. */
export function moved(run, event) {
  const now = run ?? { id: event.run, job: event.job, trigger: event.trigger, scheduled_at: event.at, started_at: null, ended_at: null, attempt: 0 };
  now.state = event.state ?? now.state;
  now.reason = event.reason ?? null;
  if (event.attempt) now.attempt = event.attempt;
  if (event.what === 'started') now.started_at ??= event.at;
  if (event.what === 'ended') now.ended_at = event.at;
  return now;
}

function step(job, event) {
  const active = live.status.active;
  const known = active.find((one) => one.id === event.run);
  if (!known && event.what === 'ended' && job.last_run?.id === event.run && job.last_run.ended_at) return;
  const run = moved(known, event);
  if (!known) active.push(run);
  if (run.ended_at) active.splice(active.indexOf(run), 1);
  if (!job.last_run || run.id >= job.last_run.id) job.last_run = run;
  const mine = active.filter((one) => one.job === job.name);
  job.state = mine.some((one) => one.state === 'running') ? 'running' : mine.length ? 'pending' : 'idle';
}

function link(word) {
  if (live.link === word) return;
  live.link = word;
  notify({ all: true });
}

let stream = null;
let stopped = false;

/** Waits for the first status; fails when the daemon can't be reached. */
export function ready(signal) {
  if (stopped) connect();
  return new Promise((done, failed) => {
    const look = () => {
      if (live.status) done();
      else if (live.link === 'lost') failed(live.error ?? new Error('the connection is lost'));
    };
    look();
    watch(look, signal);
  });
}

function connect() {
  const lost = (error) => {
    live.error = error;
    link('lost');
  };
  stopped = false;
  if (live.link === 'lost') live.link = 'connecting';
  stream = new AbortController();
  follow(() => 'events', {
    signal: stream.signal,
    open: () => {
      link('live');
      refresh().then(() => notify({ again: true }), lost);
    },
    lost,
    event: (message) => happened(message.data),
  }).catch((error) => {
    stopped = true;
    lost(error);
  });
}

/** Starts to follow events, except while the page is hidden. */
export function start() {
  connect();
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) {
      stream?.abort();
      stream = null;
    } else if (!stream) {
      connect();
    }
  });
  // Deadlines and warnings change without an event: refreshed every minute.
  setInterval(() => !document.hidden && live.link === 'live' && refreshSoon(), 60_000);
}
