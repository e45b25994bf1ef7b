// `/runs/ID`: one run, its attempts, its event, and its output, live.

import { cancelButton, retryButton, whyNotNote } from './actions.js';
import { Terminal } from './ansi.js';
import { follow, get, getRaw } from './api.js';
import { live, watch } from './live.js';
import { RETRIABLE, badge, factList, fill, h, jobLink, put, refresher, shape, table, took, when, word } from './ui.js';

// The most lines of output in the document; all of it can be saved as a file.
const LINES = 20_000;

export async function run({ argument: id, signal }) {
  let detail = await get(`runs/${id}`, signal);
  const head = h('div.head');
  const facts = h('section.panel', { 'aria-label': 'About this run' });
  const attempts = h('section.panel', { 'aria-labelledby': 'attempts-title' });
  const event = h('section.panel', { 'aria-labelledby': 'event-title' });
  const output = h('section.panel.output', { 'aria-labelledby': 'output-title' });

  function show() {
    const { run: one } = detail;
    const over = Boolean(one.ended_at);
    const downstream = h('input', { type: 'checkbox' });
    const buttons = over
      ? RETRIABLE.has(one.state)
        ? [retryButton(id, () => ({ downstream: downstream.checked }), ({ run: fresh }) => (location.pathname.endsWith(`/${id}`) ? openRun(fresh.id) : null)), h('label.check', {}, downstream, ' and what was skipped because of it')]
        : []
      : [cancelButton(id)];
    fill(head, [one.state, one.reason, live.status?.token], () => [
      h('div.title', {}, h('h1', { tabindex: -1 }, `Run ${one.id} of `, jobLink(one.job)), badge(one.state)),
      one.reason ? h('p', {}, one.reason) : '',
      h('div.actions', {}, buttons, buttons.length ? whyNotNote() : null),
    ]);
    const list = [
      ['Trigger', one.trigger.replaceAll('_', ' ')],
      ['Due', when(one.scheduled_at)],
      ['Started', when(one.started_at)],
      ['Ended', when(one.ended_at)],
      ['Took', took(one)],
      ['Attempt', one.attempt || '–'],
      ['Exit code', one.exit_code ?? '–'],
      ...(one.signal ? [['Signal', one.signal]] : []),
    ];
    fill(facts, one, () => [factList(list)]);
    attempts.hidden = detail.attempts.length < 2;
    fill(attempts, detail.attempts, () => [h('h2', { id: 'attempts-title' }, 'Attempts'), attemptTable(detail.attempts)]);
    event.hidden = detail.event === null;
    fill(event, detail.event, () => [h('h2', { id: 'event-title' }, 'Event'), h('pre.code', { tabindex: 0, role: 'group', 'aria-labelledby': 'event-title' }, JSON.stringify(detail.event, null, 2))]);
  }

  const refresh = refresher(async () => {
    detail = await get(`runs/${id}`, signal);
    show();
  }, signal);

  show();
  watch((change) => {
    if (change.events.some((one) => one.run === Number(id)) || (change.again && !detail.run.ended_at)) refresh();
    else show();
  }, signal);
  const element = h('div.page', {}, head, facts, attempts, event, output);
  return { title: `Run ${id} of ${detail.run.job}`, element, shown: () => showOutput(output, id, detail.run.job, refresh, signal) };
}

function openRun(id) {
  const link = h('a', { href: `/runs/${id}`, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
}

function attemptTable(attempts) {
  const heads = ['Attempt', 'Started', 'Took', 'Result'];
  const result = (one) => {
    if (!one.ended_at) return h('span.badge.s-running', {}, shape('running'), 'running');
    const text = one.reason ?? (one.signal ? `signal ${one.signal}` : `exit code ${one.exit_code ?? 'unknown'}`);
    const good = one.exit_code === 0 && !one.reason;
    return h(`span.badge.s-${good ? 'succeeded' : 'failed'}`, {}, shape(good ? 'succeeded' : 'failed'), good ? word('succeeded') : text);
  };
  const rows = attempts.map((one) => h('tr', {}, h('th', { scope: 'row' }, one.attempt), h('td', {}, when(one.started_at)), h('td', {}, took(one)), h('td', {}, result(one))));
  return table('table', 'Attempts', heads, rows);
}

async function showOutput(box, id, job, ended, signal) {
  const follows = h('input', { type: 'checkbox', checked: true });
  const wraps = h('input', { type: 'checkbox', checked: true });
  const note = h('p.faint.small', {});
  const text = h('pre.terminal.wrap', { tabindex: 0, role: 'log', 'aria-live': 'off', 'aria-label': 'Output' });
  const save = h('button.plain', { type: 'button', onclick: () => saveAll(id, job).catch((error) => put(note, `The output can't be saved: ${error.message}`)) }, 'Save as a file');
  box.replaceChildren(
    h('div.tools', {}, h('h2', { id: 'output-title' }, 'Output'), h('label.check', {}, follows, ' Follow'), h('label.check', {}, wraps, ' Wrap'), save),
    note,
    text,
  );
  wraps.addEventListener('change', () => text.classList.toggle('wrap', wraps.checked));
  const bottom = () => follows.checked && (text.scrollTop = text.scrollHeight);
  follows.addEventListener('change', bottom);
  // Scrolling up stops following; scrolling to the end resumes it.
  text.addEventListener('scroll', () => (follows.checked = text.scrollHeight - text.scrollTop - text.clientHeight < 24));
  const terminal = new Terminal(text, LINES, (dropped) => put(note, `${dropped} earlier lines are not shown; the file has all of them.`));
  const write = (more) => {
    const stick = follows.checked;
    terminal.write(more);
    if (stick) text.scrollTop = text.scrollHeight;
  };

  let from = 0;
  try {
    for (;;) {
      const response = await getRaw(`runs/${id}/log?from=${from}`, signal);
      write(await response.text());
      const next = Number(response.headers.get('X-Log-Next'));
      if (response.headers.get('X-Log-End') === 'true') {
        if (!text.childElementCount) put(note, 'No output.');
        return;
      }
      if (!(next > from)) break;
      from = next;
    }
    text.setAttribute('aria-busy', 'true');
    put(note, 'Live output.');
    await follow(() => `runs/${id}/log/stream?from=${from}`, {
      signal,
      event: ({ name, data }) => {
        if (name === 'output') {
          from = data.next;
          write(data.text);
          return true;
        }
        if (name !== 'end') return true;
        put(note, text.childElementCount ? '' : 'No output.');
        text.removeAttribute('aria-busy');
        ended();
        return false;
      },
    });
  } catch (error) {
    if (signal.aborted) return;
    put(note, error.message);
    text.removeAttribute('aria-busy');
  }
}

// By fetch and not by a link, which can't send the token.
async function saveAll(id, job) {
  const parts = [];
  let from = 0;
  for (;;) {
    const response = await getRaw(`runs/${id}/log?from=${from}`);
    parts.push(await response.blob());
    const next = Number(response.headers.get('X-Log-Next'));
    if (response.headers.get('X-Log-End') === 'true' || !(next > from)) break;
    from = next;
  }
  const url = URL.createObjectURL(new Blob(parts, { type: 'text/plain' }));
  const link = h('a', { href: url, download: `${job.replace(/[^\w.-]/g, '_')}-${id}.log` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
