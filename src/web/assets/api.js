// Requests to the daemon, the token, and streams that reconnect.

const KEY = 'firelink-token';

/** An error response, with the daemon's message. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let askPerson = async () => null;

/** Sets the prompt for the token: `ask(why)` resolves to the token, or null. */
export function onTokenWanted(ask) {
  askPerson = ask;
}

export const token = () => sessionStorage.getItem(KEY);

export function keepToken(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

function headers(more = {}) {
  const known = token();
  return known ? { ...more, Authorization: `Bearer ${known}` } : more;
}

async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  return new Refused(response.status, body.code ?? 'unknown', body.error ?? `the daemon answered ${response.status}`);
}

// Sends a request, and prompts for the token as long as it is missing or wrong.
async function send(path, options) {
  let wrong = false;
  for (;;) {
    const used = token();
    const response = await fetch(path, { cache: 'no-store', credentials: 'omit', ...options, headers: headers(options.headers) });
    if (response.status !== 401) {
      if (response.ok) return response;
      throw await refusal(response);
    }
    const error = await refusal(response);
    // Another request may have prompted meanwhile.
    if (token() && token() !== used) continue;
    keepToken(null);
    wrong = Boolean(used);
    const given = await askPerson(wrong ? 'This token is wrong.' : '');
    if (!given) throw error;
    keepToken(given);
  }
}

/** Prompts for the token if there is none yet, so that no request is sent only to be refused. */
export async function needToken() {
  if (token()) return;
  const given = await askPerson('');
  if (!given) throw new Refused(401, 'unauthorized', 'this action needs the token');
  keepToken(given);
}

const api = (path) => `/api/v1/${path}`;

/** GET, as JSON. */
export async function get(path, signal) {
  return (await send(api(path), { signal })).json();
}

/** GET, as the response itself. */
export function getRaw(path, signal) {
  return send(api(path), { signal });
}

/** POST with a JSON body; the answer is JSON. */
export async function post(path, body = {}) {
  const options = { method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } };
  return (await send(api(path), options)).json();
}

// A stream is dead after this long without data: the daemon sends a comment every 25 s.
const STREAM_TIMEOUT_MS = 70_000;
const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 30_000;

/**
 * Follows server-sent events until `signal` aborts or `event` returns false, and reconnects when the connection is lost.
 * `path` is called for each connection, so that it can resume. fetch and not EventSource, which can't send a header with
 * the token.
 */
export async function follow(path, { event, open = () => {}, lost = () => {}, signal }) {
  let wait = FIRST_DELAY_MS;
  while (!signal.aborted) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    signal.addEventListener('abort', stop, { once: true });
    let watchdog;
    const restartWatchdog = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(stop, STREAM_TIMEOUT_MS);
    };
    try {
      restartWatchdog();
      const response = await send(api(path()), { signal: attempt.signal, headers: { Accept: 'text/event-stream' } });
      open();
      wait = FIRST_DELAY_MS;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        restartWatchdog();
        rest += value.replaceAll('\r', '');
        const blocks = rest.split('\n\n');
        rest = blocks.pop();
        for (const block of blocks) {
          const message = parseEvent(block);
          if (message && event(message) === false) {
            attempt.abort();
            return;
          }
        }
      }
      lost(null);
    } catch (error) {
      if (signal.aborted) return;
      // A retry would not help, and should not prompt for the token again and again.
      if (error instanceof Refused && (error.status === 404 || error.status === 401)) throw error;
      lost(error);
    } finally {
      clearTimeout(watchdog);
      signal.removeEventListener('abort', stop);
    }
    await pause(wait * (0.75 + Math.random() / 2), signal);
    wait = Math.min(wait * 2, MAX_DELAY_MS);
  }
}

function parseEvent(block) {
  let name = 'message';
  const data = [];
  for (const line of block.split('\n')) {
    if (line.startsWith('event:')) name = line.slice(6).trim();
    else if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5));
  }
  return data.length ? { name, data: JSON.parse(data.join('\n')) } : null;
}

// Ends early when the network is back, or when `signal` aborts.
function pause(ms, signal) {
  return new Promise((done) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener('online', end);
      signal.removeEventListener('abort', end);
      done();
    };
    const timer = setTimeout(end, ms);
    addEventListener('online', end);
    signal.addEventListener('abort', end);
  });
}
