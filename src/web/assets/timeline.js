// `/timeline`: a lane per job, a bar per run, a line for now, and a hollow diamond at the next deadline.

import { get } from './api.js';
import { live, moved, ready, watch } from './live.js';
import { ago, h, jobLink, jobPath, put, s, shape, span, when, word } from './ui.js';

const PAGE = 1000;
const PAGES = 3;
const LANES = 100;
const LANE = 26;
const AXIS = 22;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const KEPT = 'firelink-span';

// From and to, around now. Today is the viewer's day.
const SPANS = {
  hour: { name: 'Last hour', range: (now) => [now - 50 * MINUTE, now + 10 * MINUTE] },
  six: { name: 'Six hours', range: (now) => [now - 5 * HOUR, now + HOUR] },
  today: {
    name: 'Today',
    range: (now) => {
      const day = new Date(now);
      const from = new Date(day.getFullYear(), day.getMonth(), day.getDate());
      // Not 24 hours: days with a clock change are longer or shorter.
      return [from.getTime(), new Date(day.getFullYear(), day.getMonth(), day.getDate() + 1).getTime()];
    },
  },
};

const startOf = (run) => Date.parse(run.started_at ?? run.scheduled_at);

export async function timeline({ query, signal }) {
  const asked = query.get('span') ?? sessionStorage.getItem(KEPT);
  let which = Object.hasOwn(SPANS, asked) ? asked : 'today';
  const runs = new Map();
  let complete = true;
  let lanesUpTo = LANES;

  async function load() {
    const [from] = SPANS[which].range(Date.now());
    const since = encodeURIComponent(new Date(from).toISOString());
    let before = '';
    complete = false;
    for (let page = 0; page < PAGES; page += 1) {
      const some = await get(`runs?since=${since}&limit=${PAGE}${before}`, signal);
      for (const run of some) runs.set(run.id, run);
      if (some.length < PAGE) {
        complete = true;
        break;
      }
      before = `&before=${some.at(-1).id}`;
    }
  }
  await Promise.all([load(), ready(signal)]);

  const choice = h('div.tabs', { role: 'group', 'aria-label': 'How much of it' });
  const note = h('p.faint.small', { role: 'status' });
  const lanes = h('div.lanes');
  const more = h('div.more');
  const next = h('section.panel', { 'aria-labelledby': 'next-title' });
  const chart = h('section.panel.chart', { 'aria-label': 'Runs by job' }, note, lanes, more);
  const element = h('div.page', {}, h('div.title', {}, h('h1', { tabindex: -1 }, 'Timeline'), choice), chart, next);

  function tabs() {
    choice.replaceChildren(
      ...Object.entries(SPANS).map(([key, { name }]) => h('button.tab', { type: 'button', 'aria-pressed': String(key === which), 'data-span': key, onclick: () => choose(key) }, name)),
    );
  }

  async function choose(key) {
    which = key;
    sessionStorage.setItem(KEPT, key);
    tabs();
    choice.querySelector(`[data-span=${key}]`).focus();
    await load().catch(() => {});
    draw();
  }

  function draw() {
    const now = Date.now();
    const [from, to] = SPANS[which].range(now);
    const byJob = new Map([...live.jobs.keys()].map((name) => [name, []]));
    for (const run of runs.values()) {
      const end = run.ended_at ? Date.parse(run.ended_at) : now;
      if (end < from) runs.delete(run.id);
      else if (startOf(run) < to) (byJob.get(run.job) ?? byJob.set(run.job, []).get(run.job)).push(run);
    }
    const names = [...byJob.keys()];
    const shown = names.slice(0, lanesUpTo);
    const count = [...byJob.values()].reduce((sum, some) => sum + some.length, 0);
    put(note, `${count} ${count === 1 ? 'run' : 'runs'}${complete ? '' : ', the newest of more'}. Bars are runs, hollow diamonds are the next deadlines.`);
    const width = trackWidth();
    const scale = (at) => ((at - from) / (to - from)) * width;
    lanes.replaceChildren(h('div.axis', { 'aria-hidden': 'true' }, axis(from, to, width, scale, shown.length * LANE)), h('ul', {}, shown.map((name) => lane(name, byJob.get(name), { width, scale, now, from, to }))), nowLine(scale(now), shown.length));
    more.replaceChildren(...(names.length > shown.length ? [h('button', { type: 'button', onclick: showMore }, `Show ${Math.min(LANES, names.length - shown.length)} more jobs`)] : []));
    showNext();
  }

  function showMore() {
    const first = lanesUpTo;
    lanesUpTo += LANES;
    draw();
    lanes.querySelectorAll('li')[first]?.querySelector('a')?.focus();
  }

  // The labels take what the style sheet gives them.
  function trackWidth() {
    const label = parseFloat(getComputedStyle(lanes).getPropertyValue('--label')) || 150;
    return Math.max(120, (lanes.clientWidth || element.clientWidth || 600) - label);
  }

  function nowLine(x, count) {
    const line = h('div.now', { 'aria-hidden': 'true' });
    line.style.setProperty('--x', `${x}px`);
    line.style.height = `${count * LANE + AXIS}px`;
    return line;
  }

  function showNext() {
    const due = [...live.jobs.values()].filter((job) => job.next_at && job.enabled && !job.paused).sort((a, b) => Date.parse(a.next_at) - Date.parse(b.next_at));
    const key = JSON.stringify(due.slice(0, 12).map((job) => [job.name, job.next_at]));
    if (next.dataset.key === key) return;
    next.dataset.key = key;
    next.replaceChildren(
      h('h2', { id: 'next-title' }, 'Next'),
      due.length ? h('ol.next', {}, due.slice(0, 12).map((job) => h('li', {}, when(job.next_at), h('span.grow', {}, jobLink(job.name)), ago(job.next_at)))) : h('p.empty', {}, 'No deadline is set.'),
    );
  }

  function take(event) {
    if (!event.run || !event.job) return;
    runs.set(event.run, moved(runs.get(event.run), event));
  }

  // Redrawn at most twice a second, but not while one of its links has keyboard focus.
  let planned = 0;
  function drawSoon() {
    planned ||= setTimeout(() => {
      planned = 0;
      const at = lanes.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
      draw();
      if (at) [...lanes.querySelectorAll('a')].find((link) => link.getAttribute('href') === at)?.focus({ preventScroll: true });
    }, 500);
  }

  watch((change) => {
    change.events.forEach(take);
    if (change.again) load().then(drawSoon, () => {});
    if (change.all || change.events.length) drawSoon();
    if (change.all && live.status) for (const run of live.status.active) runs.set(run.id, { ...runs.get(run.id), ...run });
  }, signal);
  const tick = setInterval(() => !document.hidden && drawSoon(), 5000);
  let width = 0;
  const observer = new ResizeObserver(() => {
    if (lanes.clientWidth !== width) draw();
    width = lanes.clientWidth;
  });
  observer.observe(lanes);
  signal.addEventListener('abort', () => {
    clearInterval(tick);
    clearTimeout(planned);
    observer.disconnect();
  });
  tabs();
  return { title: 'Timeline', element, shown: draw };
}

const STEPS = [5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR];
const hours = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });

function axis(from, to, width, scale, below) {
  const step = STEPS.find((one) => width / ((to - from) / one) >= 58) ?? 12 * HOUR;
  // Whole steps of the viewer's clock.
  const offset = new Date(from).getTimezoneOffset() * MINUTE;
  const ticks = [];
  for (let at = Math.ceil((from - offset) / step) * step + offset; at < to; at += step) {
    const x = scale(at);
    if (x <= width - 34) ticks.push(s('text', { x: x + 3, y: 14 }, hours.format(at)));
    ticks.push(s('line', { x1: x, x2: x, y1: 4, y2: AXIS + below }));
  }
  return s('svg', { width, height: AXIS }, ticks);
}

function lane(name, runs, { width, scale, now, from, to }) {
  const bars = merge(
    runs.sort((a, b) => startOf(a) - startOf(b)),
    scale,
    now,
    width,
  ).map((bar) => drawBar(bar, name));
  const next = live.jobs.get(name)?.next_at;
  const at = next ? Date.parse(next) : 0;
  if (at >= now && at < to && at > from) {
    const x = scale(at);
    bars.push(s('path.due', { d: `M${x} 7l6 6-6 6-6-6z` }, s('title', {}, `${name} is due ${when(next).textContent}`)));
  }
  const bad = runs.filter((run) => run.state === 'failed' || run.state === 'timed_out' || run.state === 'lost').length;
  const summary = `${runs.length} ${runs.length === 1 ? 'run' : 'runs'}${bad ? `, ${bad} failed` : ''}`;
  return h('li.lane', {}, h('span.label', {}, jobLink(name), h('span.hidden', {}, `: ${summary}`), bad ? h('span.bad', { 'aria-hidden': 'true' }, shape('failed'), bad) : null), s('svg.track', { width, height: LANE, role: 'group', 'aria-label': `${name}: ${summary}` }, bars));
}

// Adjacent runs of one state that overlap at this scale become one bar.
function merge(runs, scale, now, width) {
  const bars = [];
  for (const run of runs) {
    const end = run.ended_at ? Date.parse(run.ended_at) : now;
    const x = Math.max(0, scale(startOf(run)));
    const right = Math.min(width, Math.max(x + 3, scale(end)));
    const last = bars.at(-1);
    if (last && last.state === run.state && x - last.right < 1) {
      last.right = Math.max(last.right, right);
      last.runs.push(run);
    } else bars.push({ state: run.state, x, right, runs: [run] });
  }
  return bars;
}

function drawBar({ state, x, right, runs }, name) {
  const [first] = runs;
  const one = runs.length === 1;
  const took = one && first.started_at && first.ended_at ? `, ${span(Date.parse(first.ended_at) - Date.parse(first.started_at))}` : '';
  const text = one ? `Run ${first.id}, ${word(state)}, ${when(first.started_at ?? first.scheduled_at).textContent}${took}` : `${runs.length} runs, ${word(state)}`;
  // Runs that did not succeed are taller: visible without colour.
  const tall = state !== 'succeeded';
  return s(
    `a.s-${state}`,
    { href: one ? `/runs/${first.id}` : jobPath(name), tabindex: -1, 'aria-label': text },
    s('title', {}, text),
    s('rect.bar', { x, y: tall ? 3 : 7, width: right - x, height: tall ? 20 : 12, rx: Math.min(2, (right - x) / 2) }),
  );
}
