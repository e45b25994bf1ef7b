// What the daemon is doing, as far as this page knows: its status, kept up to date by the stream of events.
//
// An event changes the picture at once. What it does not tell (the next deadline, what a job waits for, exit codes)
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

// `jobs`: names that changed. `all`: the status is new. `again`: the connection is new, so that things may have been
// missed. `events`: what happened, in order.
function tell(part) {
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

/** What a job shows: an active state, else why it is held, else how its last run ended. */
export function face(job) {
  if (job.state === 'running' || job.state === 'pending') return job.state;
  if (!job.enabled) return 'disabled';
  if (job.paused) return 'paused';
  return job.last_run?.state ?? 'idle';
}

let asking = null;
let again = false;

/** Asks for the status now. */
export async function refresh() {
  if (asking) {
    again = true;
    return asking;
  }
  asking = (async () => {
    do {
      again = false;
      const status = await get('status');
      // What happened while the answer was on its way would be undone by it: it is asked for again.
      live.status = status;
      live.jobs = new Map(status.jobs.map((job) => [job.name, job]));
      tell({ all: true });
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

// A status of many jobs is long; a box with few to spare should not write one at every event.
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
  tell({ job: event.job, event, all: event.what === 'paused' || event.what === 'resumed' });
  // Other jobs, other names: everything is asked for.
  if (event.what === 'reloaded') refresh().then(() => tell({ again: true }), () => {});
  else refreshSoon();
}

/** A run after an event, made anew if it is the first that is heard of it. */
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
  tell({ all: true });
}

let stream = null;
let stopped = false;

/** Waits for the first status; fails when there is no way to it. */
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
      refresh().then(() => tell({ again: true }), lost);
    },
    lost,
    event: (message) => happened(message.data),
  }).catch((error) => {
    stopped = true;
    lost(error);
  });
}

/** Starts to follow. While nobody sees the page, nothing is asked and nothing is sent. */
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
  // What is said of a next deadline or of a warning grows old without an event: a look every minute.
  setInterval(() => !document.hidden && live.link === 'live' && refreshSoon(), 60_000);
}
