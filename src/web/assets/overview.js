// `/`: the graph or the list of jobs, active runs, next deadlines, failed jobs and warnings.

import { cancelButton } from './actions.js';
import { get } from './api.js';
import { drawGraph } from './graph.js';
import { face, live, moved, ready, watch } from './live.js';
import { ago, badge, capital, fill, h, jobLink, put, runLink, shape, toast, took, when, word } from './ui.js';

// More jobs than this are shown as a list first, this many rows at a time.
const GRAPH_UP_TO = 200;
const ROWS = 100;
const SIDE_ROWS = 8;
const RECENT = 15;

const BAD = new Set(['failed', 'timed_out', 'lost']);
const KEPT = 'firelink-view';

export async function overview({ query, signal }) {
  const [runs] = await Promise.all([get(`runs?limit=${RECENT}`, signal), ready(signal)]);
  // Fetched when it is drawn first.
  let graph = null;
  const recent = new Map(runs.map((run) => [run.id, run]));
  const page = h('div.overview');
  const counts = h('ul.counts', { 'aria-label': 'Jobs by state' });
  const warnings = h('section.panel.warnings', { 'aria-label': 'Warnings' });
  const active = h('section.panel', { 'aria-labelledby': 'active-title' });
  const next = h('section.panel', { 'aria-labelledby': 'next-title' });
  const trouble = h('section.panel', { 'aria-labelledby': 'trouble-title' });
  const past = h('section.panel', { 'aria-labelledby': 'past-title' });
  const stage = h('section.panel.stage', { 'aria-label': 'Jobs' });
  page.append(h('div.title', {}, h('h1', { tabindex: -1 }, 'Overview'), counts), warnings, h('div.stack', {}, stage, past), h('div.stack', {}, active, next, trouble));

  let drawn = null;
  let list = null;
  let text = query.get('q') ?? '';
  const search = document.getElementById('q');
  search.value = text;
  const matches = (name) => name.toLowerCase().includes(text.toLowerCase());
  const view = () => query.get('view') ?? sessionStorage.getItem(KEPT) ?? (live.jobs.size > GRAPH_UP_TO ? 'list' : 'graph');

  function choose(which) {
    sessionStorage.setItem(KEPT, which);
    query.delete('view');
    build().catch((error) => toast(error.message, 'error'));
    stage.querySelector(`[data-view=${which}]`).focus();
  }

  let inner = new AbortController();
  signal.addEventListener('abort', () => inner.abort());
  async function build() {
    inner.abort();
    inner = new AbortController();
    const which = view();
    const tab = (name) => h('button.tab', { type: 'button', 'data-view': name, 'aria-pressed': String(which === name), onclick: () => choose(name) }, capital(name));
    const tools = h('div.tools', {}, h('div.tabs', { role: 'group', 'aria-label': 'Show as' }, tab('graph'), tab('list')));
    const body = h('div.stage-body');
    stage.replaceChildren(tools, body);
    drawn = null;
    list = null;
    if (!live.jobs.size) {
      body.append(h('p.empty', {}, 'There are no jobs in the configuration.'));
    } else if (which === 'graph') {
      const mine = inner.signal;
      try {
        graph ??= await get('graph', mine);
      } catch (error) {
        // Another view was chosen meanwhile.
        if (mine.aborted) return;
        throw error;
      }
      if (mine.aborted) return;
      body.append(h('p.hidden', { id: 'graph-keys' }, 'Arrow keys go from job to job, Enter opens one, plus and minus zoom, zero shows all, Shift with arrows moves the picture. The list shows the same as a table.'));
      drawn = drawGraph(body, graph, inner.signal);
      const zoom = (label, name, act) => h('button.plain', { type: 'button', 'aria-label': name, title: name, onclick: act }, label);
      tools.append(h('div.zooms', {}, zoom('−', 'Zoom out', () => drawn.zoom(false)), zoom('+', 'Zoom in', () => drawn.zoom(true)), zoom('⤢', 'Show all', () => drawn.fit())));
    } else {
      list = jobList();
      body.append(list.element);
    }
    filter();
  }

  function filter() {
    drawn?.find(text ? matches : null);
    list?.filter(matches);
  }

  search.addEventListener(
    'input',
    () => {
      text = search.value.trim();
      history.replaceState(null, '', text ? `/?q=${encodeURIComponent(text)}` : '/');
      filter();
    },
    { signal },
  );

  function sides() {
    const { status } = live;
    if (!status) return;
    showCounts(counts, status);
    const texts = [...(status.state_error ? [`The state can't be written: ${status.state_error}`] : []), ...status.warnings];
    fill(warnings, texts, () => [h('ul', {}, texts.map((one) => h('li', {}, h('span.mark', { 'aria-hidden': 'true' }, '!'), one)))]);
    warnings.hidden = !texts.length;
    showActive(active, status);
    showNext(next, status);
    showTrouble(trouble, status);
    showRecent(past, recent);
  }

  // Runs of the time without a connection.
  async function recents() {
    for (const run of await get(`runs?limit=${RECENT}`, signal).catch(() => [])) recent.set(run.id, run);
    sides();
  }

  await build();
  sides();
  let names = [...live.jobs.keys()].join('\n');
  watch((change) => {
    const now = change.all ? [...live.jobs.keys()].join('\n') : names;
    if (now !== names) {
      // Another configuration: another graph.
      names = now;
      graph = null;
      build().catch(() => {});
    }
    if (change.again) recents();
    if (change.all && live.status) for (const { last_run: run } of live.status.jobs) if (run && recent.has(run.id)) recent.set(run.id, { ...run });
    for (const event of change.events) if (event.run && event.job) recent.set(event.run, moved(recent.get(event.run), event));
    const which = change.all ? null : change.jobs;
    drawn?.update(which);
    list?.update(which);
    sides();
  }, signal);
  return { title: 'Overview', element: page };
}

function showCounts(box, status) {
  const counts = new Map();
  for (const job of status.jobs) counts.set(face(job), (counts.get(face(job)) ?? 0) + 1);
  const order = ['running', 'pending', 'failed', 'timed_out', 'lost', 'succeeded', 'skipped', 'cancelled', 'missed', 'paused', 'disabled', 'idle'];
  const shown = order.filter((state) => counts.has(state)).map((state) => [state, counts.get(state)]);
  fill(box, shown, () => shown.map(([state, count]) => h(`li.badge.s-${state}`, {}, shape(state), `${count} ${word(state)}`)));
}

const more = (count) => (count > 0 ? [h('li.faint', {}, `and ${count} more`)] : []);

function showActive(box, { active }) {
  const shown = active.slice(0, SIDE_ROWS);
  fill(box, [active.length, shown.map((run) => [run.id, run.state, run.attempt, run.reason, run.started_at])], () => [
    h('h2', { id: 'active-title' }, 'Active', active.length ? h('span.count', {}, active.length) : null),
    active.length ? h('ul.rows', {}, shown.map(activeRow), more(active.length - shown.length)) : h('p.empty', {}, 'No active runs.'),
  ]);
}

function activeRow(run) {
  const cancel = cancelButton(run.id);
  cancel.setAttribute('aria-label', `Cancel run ${run.id} of ${run.job}`);
  cancel.classList.add('small');
  return h(
    'li',
    {},
    h('div.grow', {}, h('div', {}, jobLink(run.job), ' ', runLink(run.id)), h('div.faint', {}, badge(run.state), ' ', run.started_at ? took(run) : null, run.reason ? ` · ${run.reason}` : null)),
    cancel,
  );
}

function showNext(box, { jobs }) {
  const due = jobs.filter((job) => job.next_at && job.enabled && !job.paused).sort((a, b) => Date.parse(a.next_at) - Date.parse(b.next_at));
  const shown = due.slice(0, SIDE_ROWS);
  fill(box, [due.length, shown.map((job) => [job.name, job.next_at])], () => [
    h('h2', { id: 'next-title' }, 'Next'),
    due.length ? h('ul.rows', {}, shown.map((job) => h('li', {}, h('span.grow', {}, jobLink(job.name)), ago(job.next_at))), more(due.length - shown.length)) : h('p.empty', {}, 'No deadline is set.'),
  ]);
}

function showTrouble(box, { jobs }) {
  const bad = jobs.filter((job) => BAD.has(job.last_run?.state)).sort((a, b) => b.last_run.id - a.last_run.id);
  const shown = bad.slice(0, SIDE_ROWS);
  box.hidden = !bad.length;
  fill(box, [bad.length, shown.map((job) => [job.last_run.id, job.last_run.state, job.last_run.reason])], () => [
    h('h2', { id: 'trouble-title' }, 'Failed jobs'),
    h(
      'ul.rows',
      {},
      shown.map(({ name, last_run: run }) =>
        h('li', {}, h('div.grow', {}, h('div', {}, jobLink(name), ' ', runLink(run.id)), h('div.faint', {}, badge(run.state), run.reason ? ` ${run.reason}` : null)), ago(run.ended_at)),
      ),
      more(bad.length - shown.length),
    ),
  ]);
}

function showRecent(box, recent) {
  const shown = [...recent.values()].sort((a, b) => b.id - a.id).slice(0, RECENT);
  // Runs that fell out of the list.
  for (const id of recent.keys()) if (!shown.some((run) => run.id === id)) recent.delete(id);
  fill(box, shown.map((run) => [run.id, run.state, run.started_at, run.ended_at, run.attempt, run.reason]), () => [
    h('h2', { id: 'past-title' }, 'Recent runs'),
    shown.length
      ? h('div.scroll', { tabindex: 0, role: 'region', 'aria-label': 'Recent runs as a table' }, runTable(shown))
      : h('p.empty', {}, 'No runs yet.'),
  ]);
}

function runTable(runs) {
  const heads = ['Run', 'Job', 'State', 'When', 'Took', 'Note'];
  const row = (run) =>
    h('tr', {}, h('th', { scope: 'row' }, runLink(run.id)), h('td', {}, jobLink(run.job)), h('td', {}, badge(run.state)), h('td', {}, when(run.started_at ?? run.scheduled_at)), h('td.number', {}, took(run)), h('td', {}, run.reason ?? (run.attempt > 1 ? `at attempt ${run.attempt}` : '')));
  return h('table.recent.cards', {}, h('thead', {}, h('tr', {}, heads.map((text) => h('th', { scope: 'col' }, text)))), h('tbody', {}, runs.map(row)));
}

// The jobs as a table.
function jobList() {
  const body = h('tbody');
  const note = h('p.faint.small', { role: 'status' });
  const button = h('button', { type: 'button' }, `Show ${ROWS} more`);
  const heads = ['Job', 'State', 'Trigger', 'Last run', 'Took', 'Next, or waiting for'];
  const table = h('table.jobs.cards', {}, h('caption.hidden', {}, 'Jobs'), h('thead', {}, h('tr', {}, heads.map((text) => h('th', { scope: 'col' }, text)))), body);
  const element = h('div.list', {}, h('div.scroll', { tabindex: 0, role: 'region', 'aria-label': 'Jobs as a table' }, table), h('div.more', {}, note, button));
  const rows = new Map();
  let names = [];
  let upTo = ROWS;

  function show() {
    rows.clear();
    const shown = names.slice(0, upTo);
    body.replaceChildren(...shown.map(row));
    button.hidden = shown.length >= names.length;
    put(note, names.length === shown.length ? `${names.length} of ${live.jobs.size} jobs` : `the first ${shown.length} of ${names.length} jobs`);
  }

  function row(name) {
    const element = h('tr', {}, h('th', { scope: 'row' }, jobLink(name)), heads.slice(1).map((label) => h('td', { 'data-label': label })));
    rows.set(name, element);
    paint(name, element);
    return element;
  }

  function paint(name, element) {
    const job = live.jobs.get(name);
    if (!job) return;
    const run = job.last_run;
    const key = JSON.stringify([face(job), job.next_at, job.waiting_for, run?.id, run?.state, run?.ended_at]);
    if (element.dataset.key === key) return;
    element.dataset.key = key;
    const cells = [
      badge(face(job)),
      job.trigger.replaceAll('_', ' '),
      run ? h('span', {}, runLink(run.id), ' ', shape(run.state), ' ', ago(run.ended_at ?? run.started_at ?? run.scheduled_at)) : h('span.faint.none', {}, '–'),
      run ? took(run) : h('span.faint.none', {}, '–'),
      job.next_at ? when(job.next_at) : job.waiting_for.length ? h('span.faint', {}, `waits for ${job.waiting_for.join(', ')}`) : h('span.faint.none', {}, '–'),
    ];
    [...element.cells].slice(1).forEach((cell, i) => cell.replaceChildren(cells[i]));
  }

  button.addEventListener('click', () => {
    const first = names[upTo];
    upTo += ROWS;
    show();
    rows.get(first)?.querySelector('a').focus();
  });

  return {
    element,
    filter(matches) {
      names = [...live.jobs.keys()].filter(matches);
      upTo = ROWS;
      show();
    },
    update(changed) {
      for (const [name, element] of rows) if (!changed || changed.has(name)) paint(name, element);
    },
  };
}
