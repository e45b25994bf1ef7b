// Helpers of all pages: elements, states by shape and colour, times.

/** An element: `h('a.link', { href }, 'text', child)`. Text is always text, never markup. */
export function h(what, props = {}, ...children) {
  const [tag, ...classes] = what.split('.');
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(' ');
  return dress(element, props, children);
}

/** The same for SVG. */
export function s(what, props = {}, ...children) {
  const [tag, ...classes] = what.split('.');
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  if (classes.length) element.setAttribute('class', classes.join(' '));
  return dress(element, props, children);
}

function dress(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The words of states, for people. */
export const word = (state) => (state === 'idle' ? 'no run yet' : state.replaceAll('_', ' '));

/** With a capital letter, for headings and buttons. */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// Each state has a shape of its own, so that it can be recognised without colour. On a grid of 16.
const SHAPES = {
  succeeded: 'M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm3.600 5.200-4.300 4.600a.8.8 0 0 1-1.200 0L4.300 8.900l1.200-1.100 1.200 1.300 3.700-4z',
  failed: 'M5 1h6l4 4v6l-4 4H5l-4-4V5zm1 3.800L4.800 6l2 2-2 2L6 11.200l2-2 2 2 1.200-1.200-2-2 2-2L10 4.800l-2 2z',
  timed_out: 'M3 1h10v2.500L9.600 8l3.400 4.500V15H3v-2.500L6.400 8 3 3.500zm2 2.200 3 3.900 3-3.900z',
  cancelled: 'M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM4 7h8v2H4z',
  skipped: 'M1 3l6 5-6 5zm7 0 5 4.200V3h2v10h-2V8.800L8 13z',
  lost: 'M8 0l8 8-8 8-8-8zm-.9 8.900h1.800c0-1.100 2-1.400 2-3.300 0-1.400-1.200-2.300-2.800-2.300-1.500 0-2.600.7-3.100 1.800l1.500.9c.3-.6.8-1 1.500-1 .6 0 1 .3 1 .8 0 1-1.900 1.200-1.900 3.100zm0 1.300v1.800h1.800v-1.800z',
  missed: 'M7 1h2v3H7zM7 12h2v3H7zM1 7h3v2H1zM12 7h3v2h-3zM8 6a2 2 0 1 0 0 4 2 2 0 0 0 0-4z',
  running: 'M4 1.500v13L14.500 8z',
  pending: 'M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 2a5 5 0 1 1 0 10A5 5 0 0 1 8 3zm-.9 1.500h1.700v3.200l2.200 1.500-1 1.300-2.900-2z',
  paused: 'M3 2h3.500v12H3zM9.500 2H13v12H9.500z',
  disabled: 'M1 7h14v2H1z',
  idle: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zm0 2a4 4 0 1 1 0 8 4 4 0 0 1 0-8z',
};

export const shapeOf = (state) => SHAPES[state] ?? SHAPES.idle;

/** The shape of a state; hidden from screen readers, which read the word beside it. */
export function shape(state) {
  return s(`svg.shape.s-${state}`, { viewBox: '0 0 16 16', width: 14, height: 14, 'aria-hidden': 'true' }, s('path', { d: shapeOf(state), 'fill-rule': 'evenodd' }));
}

/** Shape and word. */
export function badge(state) {
  return h(`span.badge.s-${state}`, {}, shape(state), word(state));
}

export const jobPath = (name) => `/jobs/${encodeURIComponent(name)}`;
export const jobLink = (name) => h('a', { href: jobPath(name) }, name);
export const runLink = (id) => h('a.id', { href: `/runs/${id}` }, `#${id}`);

/** States after which a run can be asked for once more. */
export const RETRIABLE = new Set(['failed', 'timed_out', 'cancelled', 'skipped', 'lost']);

/** Terms and what they are, side by side. */
export function factList(list) {
  return h('dl.facts', {}, list.map(([term, value]) => h('div', {}, h('dt', {}, term), h('dd', {}, value))));
}

/** A table that scrolls by itself where it is wider than the page. */
export function table(what, about, heads, rows) {
  const head = h('thead', {}, h('tr', {}, heads.map((text) => h('th', { scope: 'col' }, text))));
  return h('div.scroll', { tabindex: 0, role: 'region', 'aria-label': `${about} as a table` }, h(what, {}, head, h('tbody', {}, rows)));
}

/** Fetches again on each call: one request at a time, and one more for calls during it. */
export function refresher(ask, signal, pause = 0) {
  let asking = false;
  let again = false;
  return async () => {
    again = true;
    if (asking) return;
    asking = true;
    while (again && !signal.aborted) {
      again = false;
      // After a failure, the next event or connection fetches again.
      await ask().catch(() => {});
      if (pause) await new Promise((done) => setTimeout(done, pause));
    }
    asking = false;
  };
}

// Times: the viewer's locale and zone; what was sent, or the job's own zone, in the tooltip.

const day = new Intl.DateTimeFormat(undefined, { weekday: 'short', month: 'short', day: 'numeric' });
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto', style: 'short' });

const isToday = (date) => date.toDateString() === new Date().toDateString();

/** `18:00:00`, with the day unless it is today. */
export function clockText(at) {
  const date = new Date(at);
  return isToday(date) ? clock.format(date) : `${day.format(date)}, ${clock.format(date)}`;
}

function inZone(at, zone) {
  if (!zone) return at;
  try {
    const there = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'long', timeZone: zone });
    return `${there.format(new Date(at))} (${zone})`;
  } catch {
    // A zone that this browser does not know.
    return `${at} (${zone})`;
  }
}

/** A point in time. */
export function when(at, zone) {
  return at ? h('time', { datetime: at, title: inZone(at, zone) }, clockText(at)) : h('span.faint', {}, '–');
}

/** A point in time, relative to now and kept up to date. */
export function ago(at, zone) {
  if (!at) return h('span.faint', {}, '–');
  return h('time', { datetime: at, title: `${clockText(at)} · ${inZone(at, zone)}`, 'data-ago': '' }, agoText(at));
}

function agoText(at) {
  const seconds = (Date.parse(at) - Date.now()) / 1000;
  const size = Math.abs(seconds);
  if (size < 60) return relative.format(Math.round(seconds), 'second');
  if (size < 3600) return relative.format(Math.trunc(seconds / 60), 'minute');
  if (size < 86_400) return relative.format(Math.trunc(seconds / 3600), 'hour');
  return relative.format(Math.trunc(seconds / 86_400), 'day');
}

/** How long something took: `0.24 s`, `3 min 20 s`. */
export function span(ms) {
  if (ms < 1) return '< 1 ms';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${Math.floor((ms % 60_000) / 1000)} s`;
  if (minutes < 2880) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}

/** The duration of a run, kept up to date while it runs. */
export function took(run) {
  if (!run.started_at) return h('span.faint', {}, '–');
  if (run.ended_at) return h('span', {}, span(Date.parse(run.ended_at) - Date.parse(run.started_at)));
  return h('span', { 'data-since': run.started_at }, span(Math.max(0, Date.now() - Date.parse(run.started_at))));
}

/** Updates all times on the page once a second while it is visible. */
export function keepTime() {
  setInterval(() => {
    if (document.hidden) return;
    for (const time of document.querySelectorAll('[data-ago]')) put(time, agoText(time.getAttribute('datetime')));
    for (const since of document.querySelectorAll('[data-since]')) put(since, span(Math.max(0, Date.now() - Date.parse(since.dataset.since))));
  }, 1000);
}

/** Sets a text if it has changed. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Announces a text to screen readers. */
export function say(text) {
  put(document.getElementById('say'), text);
}

/** A notification. Errors stay until they are closed. */
export function toast(text, kind = 'info') {
  const note = h(`div.toast.${kind}`, { role: kind === 'error' ? 'alert' : 'status' }, h('span', {}, text));
  const close = () => note.remove();
  note.append(h('button.plain', { 'aria-label': 'Close', onclick: close }, '×'));
  document.getElementById('toasts').append(note);
  if (kind !== 'error') setTimeout(close, 6000);
}

/**
 * Rebuilds the contents of a box if `key` has changed. Focus stays on the element at the same position.
 */
export function fill(box, key, build) {
  const now = JSON.stringify(key);
  if (box.dataset.key === now) return;
  const places = () => [...box.querySelectorAll('a, button, input, [tabindex]')];
  const at = box.contains(document.activeElement) ? places().indexOf(document.activeElement) : -1;
  box.dataset.key = now;
  box.replaceChildren(...build());
  if (at >= 0) places()[at]?.focus({ preventScroll: true });
}
