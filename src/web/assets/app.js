// The frame around the pages: routing, search, the token prompt, and the state of the connection.

import { keepToken, onTokenWanted, Refused, token } from './api.js';
import { job } from './job.js';
import { live, start, watch } from './live.js';
import { overview } from './overview.js';
import { run } from './run.js';
import { timeline } from './timeline.js';
import { h, jobPath, keepTime, put, say, when } from './ui.js';

const ROUTES = [
  [/^\/$/, 'overview', overview],
  [/^\/timeline$/, 'timeline', timeline],
  [/^\/jobs\/([^/]+)$/, 'overview', job],
  [/^\/runs\/(\d+)$/, 'timeline', run],
];

const main = document.getElementById('main');
const search = document.getElementById('q');
let current = new AbortController();

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Shows the page of the URL. `byPerson`: a link was followed, so focus moves to the new page. */
async function show(byPerson) {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  const route = ROUTES.find(([pattern]) => pattern.test(location.pathname));
  for (const link of document.querySelectorAll('[data-page]')) {
    if (link.dataset.page === route?.[1]) link.setAttribute('aria-current', link.pathname === location.pathname ? 'page' : 'true');
    else link.removeAttribute('aria-current');
  }
  search.value = '';
  main.setAttribute('aria-busy', 'true');
  let page;
  try {
    if (!route) throw new Refused(404, 'not_found', `There is no page ${location.pathname}.`);
    const argument = location.pathname.match(route[0])[1];
    page = await route[2]({ argument: argument && decode(argument), query: new URLSearchParams(location.search), signal, reload: () => show(false) });
  } catch (error) {
    if (signal.aborted) return;
    page = problem(error);
  }
  if (signal.aborted) return;
  main.replaceChildren(page.element);
  main.removeAttribute('aria-busy');
  document.title = `${page.title} · firelink`;
  page.shown?.();
  if (byPerson) {
    scrollTo(0, 0);
    (main.querySelector('h1') ?? main).focus({ preventScroll: true });
  }
}

function problem(error) {
  const missing = error.status === 404;
  const again = h('button', { type: 'button', onclick: () => show(false) }, 'Try again');
  const text = error instanceof Refused ? error.message : `The daemon can't be reached: ${error.message}`;
  return {
    title: missing ? 'Not found' : 'No answer',
    element: h('section.panel', {}, h('h1', { tabindex: -1 }, missing ? 'Not found' : 'No answer'), h('p', {}, text), missing ? h('p', {}, h('a', { href: '/' }, 'To the overview')) : again),
  };
}

function go(path) {
  history.pushState(null, '', path);
  show(true);
}

document.addEventListener('click', (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const link = event.target.closest('a[href]');
  const path = link?.getAttribute('href');
  if (!path?.startsWith('/') || path.startsWith('/api/') || link.hasAttribute('download')) return;
  event.preventDefault();
  go(path);
});
addEventListener('popstate', () => show(true));

document.getElementById('search').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = search.value.trim().toLowerCase();
  if (!text) return;
  const names = [...live.jobs.keys()];
  const exact = names.find((name) => name.toLowerCase() === text);
  const close = names.filter((name) => name.toLowerCase().includes(text));
  if (exact || close.length === 1) go(jobPath(exact ?? close[0]));
  else if (location.pathname !== '/') go(`/?q=${encodeURIComponent(text)}`);
  else say(`${close.length} jobs match`);
});
document.addEventListener('keydown', (event) => {
  if (event.key !== '/' || event.ctrlKey || event.metaKey || event.target.closest('input, textarea, select, dialog')) return;
  event.preventDefault();
  search.focus();
});

// One prompt at a time, for all requests that wait for it.
let prompt = null;
onTokenWanted((why) => {
  prompt ??= new Promise((answer) => {
    const dialog = document.getElementById('ask');
    const field = document.getElementById('ask-token');
    put(document.getElementById('ask-error'), why);
    field.value = '';
    document.getElementById('ask-cancel').onclick = () => dialog.close('cancel');
    dialog.onclose = () => {
      prompt = null;
      answer(dialog.returnValue === 'ok' ? field.value.trim() : null);
      field.value = '';
    };
    dialog.returnValue = '';
    dialog.showModal();
    field.focus();
  });
  return prompt;
});

const WORDS = { connecting: 'connecting', live: 'live', lost: 'disconnected, reconnecting' };
let was = live.link;

function frame() {
  const link = document.getElementById('link');
  link.dataset.link = live.link;
  put(link.querySelector('.word'), WORDS[live.link]);
  if (was !== 'live' && live.link === 'live' && main.querySelector('h1')?.textContent === 'No answer') show(false);
  was = live.link;
  const { status } = live;
  const foot = document.getElementById('foot');
  const key = status && `${status.version} ${status.pid} ${status.started_at} ${status.config} ${token() ? 1 : 0}`;
  if (!status || foot.dataset.key === key) return;
  foot.dataset.key = key;
  const forget = h('button.plain', { type: 'button', onclick: () => { keepToken(null); frame(); } }, 'Forget the token');
  foot.replaceChildren(h('span', {}, `firelink ${status.version}`), h('span', {}, `pid ${status.pid}`), h('span', {}, 'since ', when(status.started_at)), h('span', {}, h('code', {}, status.config)), token() ? forget : '');
}

// Failures are announced to screen readers; successes are not.
const ANNOUNCED = new Set(['failed', 'timed_out', 'lost']);
watch((change) => {
  frame();
  const bad = change.events.filter((event) => event.what === 'ended' && ANNOUNCED.has(event.state));
  if (bad.length) say(bad.map((event) => `${event.job} ${event.state.replaceAll('_', ' ')}`).join(', '));
}, new AbortController().signal);

keepTime();
start();
frame();
show(false);
