// `/jobs/NAME`: its schedule, its history, and actions.

import { cancelButton, pauseButton, retryButton, triggerButton, whyNotNote } from './actions.js';
import { get } from './api.js';
import { face, live, watch } from './live.js';
import { RETRIABLE, ago, badge, capital, factList, fill, h, jobLink, refresher, runLink, s, shapeOf, span, table, took, when, word } from './ui.js';

const PLOTTED = 60;
const ROWS = 25;
// The most runs kept by a page that stays open for days.
const KEPT = 2_000;

export async function job({ argument: name, signal }) {
  const path = `jobs/${encodeURIComponent(name)}`;
  const recent = `runs?job=${encodeURIComponent(name)}&limit=${PLOTTED}`;
  let [detail, runs] = await Promise.all([get(path, signal), get(recent, signal)]);
  let shownUpTo = ROWS;
  let isAll = runs.length < PLOTTED;

  const head = h('div.head');
  const facts = h('section.panel', { 'aria-label': 'About this job' });
  const next = h('section.panel', { 'aria-labelledby': 'firings-title' });
  const plot = h('section.panel.plot', { 'aria-labelledby': 'plot-title' });
  const past = h('section.panel', { 'aria-labelledby': 'past-title' });
  // Created once: they keep their state when the page is updated.
  const force = h('input', { type: 'checkbox' });
  const deps = h('input', { type: 'checkbox' });

  const known = () => live.jobs.get(name) ?? detail.job;

  function show() {
    const one = known();
    showHead(one);
    showFacts(one);
    fill(next, detail.next, () => [
      h('h2', { id: 'firings-title' }, 'Next firings'),
      detail.next.length
        ? h('ol.firings', {}, detail.next.map((at) => h('li', {}, when(at, detail.timezone), h('span.faint', {}, ago(at, detail.timezone)))))
        : h('p.empty', {}, detail.job.trigger === 'manual' || detail.job.trigger === 'after_deps' ? 'This job has no deadlines of its own.' : 'No next deadline.'),
    ]);
    const key = runs.map((run) => [run.id, run.state, run.started_at, run.ended_at, run.attempt]);
    const width = Math.min(1100, plot.clientWidth - 34);
    if (width > 0) fill(plot, [width, key.slice(0, PLOTTED)], () => drawPlot(runs, width));
    fill(past, [key.slice(0, shownUpTo), isAll], () => pastRuns());
  }

  function showHead(one) {
    const active = live.status?.active.filter((run) => run.job === name) ?? [];
    const last = one.last_run;
    const again = !active.length && RETRIABLE.has(last?.state) ? last.id : null;
    fill(head, [face(one), one.paused, active.map((run) => run.id), again, live.status?.token], () => [
      h('div.title', {}, h('h1', { tabindex: -1 }, name), badge(face(one)), detail.tags.map((tag) => h('span.tag', {}, tag))),
      detail.description ? h('p', {}, detail.description) : '',
      h(
        'div.actions',
        {},
        triggerButton(name, () => ({ force: force.checked, with_deps: deps.checked })),
        pauseButton(name, one.paused),
        again ? retryButton(again) : null,
        active.map((run) => cancelButton(run.id, `Cancel run ${run.id}`)),
        h('label.check', { title: 'Ignores dependencies and a pause.' }, force, ' at once'),
        detail.depends_on.length ? h('label.check', { title: 'Runs all upstream jobs first, in order.' }, deps, ' after its dependencies') : null,
        whyNotNote(),
      ),
    ]);
  }

  function showFacts(one) {
    const links = (names) => names.flatMap((other, i) => [i ? ', ' : '', jobLink(other)]);
    const list = [
      ['Trigger', detail.job.trigger.replaceAll('_', ' ')],
      ['Schedule', detail.schedule_words ? capital(detail.schedule_words) : (detail.summary ?? '–')],
      ['Time zone', detail.timezone],
      ['Depends on', detail.depends_on.length ? links(detail.depends_on) : null],
      ['Condition', detail.depends_on.length ? detail.condition?.replaceAll('_', ' ') : null],
      ['Downstream', detail.downstream.length ? links(detail.downstream) : null],
      ['Waits for', one.waiting_for.length ? one.waiting_for.join(', ') : null],
      ['Command', detail.command ? h('code.command', {}, detail.command) : 'none: a milestone'],
    ].filter(([, value]) => value);
    fill(facts, [one.waiting_for, detail], () => [factList(list)]);
  }

  function pastRuns() {
    const shown = runs.slice(0, shownUpTo);
    const rows = shown.map((run) =>
      h('tr', {}, h('th', { scope: 'row' }, runLink(run.id)), h('td', {}, badge(run.state)), h('td', {}, when(run.started_at ?? run.scheduled_at, detail.timezone)), h('td.number', {}, took(run)), h('td', {}, run.reason ?? (run.attempt > 1 ? `at attempt ${run.attempt}` : ''))),
    );
    const heads = ['Run', 'State', 'When', 'Took', 'Note'];
    const button = shown.length < runs.length || !isAll ? h('button', { type: 'button', onclick: showOlder }, 'Older runs') : null;
    return [
      h('h2', { id: 'past-title' }, 'History'),
      runs.length
        ? table('table.past.cards', 'History', heads, rows)
        : h('p.empty', {}, 'No runs yet.'),
      button ? h('div.more', {}, button) : '',
    ];
  }

  async function showOlder() {
    shownUpTo += PLOTTED;
    if (runs.length < shownUpTo && !isAll) {
      const more = await get(`${recent}&before=${runs.at(-1).id}`, signal).catch(() => []);
      isAll = more.length < PLOTTED;
      merge(more);
    }
    show();
  }

  function merge(more) {
    const all = new Map([...runs, ...more].map((run) => [run.id, run]));
    runs = [...all.values()].sort((a, b) => b.id - a.id).slice(0, KEPT);
  }

  const refresh = refresher(
    async () => {
      merge(await get(recent, signal));
      detail = await get(path, signal);
      show();
    },
    signal,
    500,
  );

  // The plot is drawn for the available width.
  const observer = new ResizeObserver(show);
  observer.observe(plot);
  signal.addEventListener('abort', () => observer.disconnect());
  show();
  watch((change) => {
    if (change.again || change.jobs.has(name)) refresh();
    show();
  }, signal);
  return { title: name, element: h('div.page.job', {}, head, h('div.columns', {}, facts, next), plot, past) };
}

const PLOT = { h: 150, left: 58, bottom: 12, top: 22 };

// A bar per run, oldest at the left; the height is the duration. Runs that did not succeed have the shape of their state above
// the bar.
function drawPlot(runs, width) {
  const title = h('h2', { id: 'plot-title' }, 'Durations');
  const list = runs.filter((run) => run.started_at).slice(0, PLOTTED).reverse();
  if (list.length < 2) return [title, h('p.empty', {}, 'A plot appears after two runs.')];
  const length = (run) => Math.max(0, (run.ended_at ? Date.parse(run.ended_at) : Date.now()) - Date.parse(run.started_at));
  const lengths = list.map(length);
  const top = nice(Math.max(...lengths, 1));
  const step = (width - PLOT.left) / Math.max(list.length, 20);
  const y = (ms) => PLOT.h - PLOT.bottom - (ms / top) * (PLOT.h - PLOT.bottom - PLOT.top);
  const grid = [0, top / 2, top].map((ms) =>
    s('g', {}, s('line.grid', { x1: PLOT.left, x2: width, y1: y(ms), y2: y(ms) }), s('text.axis', { x: PLOT.left - 8, y: y(ms) + 4, 'text-anchor': 'end' }, ms ? span(ms) : '0')),
  );
  const bars = list.map((run, i) => {
    const x = PLOT.left + i * step;
    const height = Math.max(2, PLOT.h - PLOT.bottom - y(lengths[i]));
    const text = `Run ${run.id}, ${word(run.state)}, ${span(lengths[i])}`;
    const mark = run.state === 'succeeded' ? null : s('path.mark', { d: shapeOf(run.state), transform: `translate(${x + step / 2 - 5} ${PLOT.h - PLOT.bottom - height - 13}) scale(.64)`, 'fill-rule': 'evenodd' });
    return s(
      `a.s-${run.state}`,
      { href: `/runs/${run.id}`, 'aria-label': text, tabindex: -1 },
      s('title', {}, text),
      s('rect.hit', { x, y: 0, width: step, height: PLOT.h - PLOT.bottom }),
      s('rect.bar', { x: x + step * 0.12, y: PLOT.h - PLOT.bottom - height, width: step * 0.76, height, rx: Math.min(2, step / 4) }),
      mark,
    );
  });
  const sorted = [...lengths].sort((a, b) => a - b);
  const middle = sorted[Math.floor(sorted.length / 2)];
  const good = list.filter((run) => run.state === 'succeeded').length;
  const summary = `The last ${list.length} runs: ${good} succeeded; half took ${span(middle)} or less, the longest ${span(sorted.at(-1))}.`;
  return [title, h('p.faint.small', {}, summary), s('svg', { width, height: PLOT.h, role: 'group', 'aria-label': summary }, grid, bars)];
}

// The next round number: 1, 2 or 5 times a power of ten.
function nice(ms) {
  const power = 10 ** Math.floor(Math.log10(ms));
  return [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= ms);
}
