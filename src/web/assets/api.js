// The way to the daemon: requests, the token, and streams that come back by themselves.

const KEY = 'firelink-token';

/** An answer that is a refusal, in the daemon's own words. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let askPerson = async () => null;

/** Sets who asks the person for the token: `ask(why)` gives the token, or null. */
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

// Sends it, and asks for the token as often as the daemon says that it is missing or wrong.
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
    // Another request may have asked meanwhile.
    if (token() && token() !== used) continue;
    keepToken(null);
    wrong = Boolean(used);
    const given = await askPerson(wrong ? 'That token is not the one in the file.' : '');
    if (!given) throw error;
    keepToken(given);
  }
}

/** Asks the person for the token if there is none yet, so that no request goes out only to be refused. */
export async function needToken() {
  if (token()) return;
  const given = await askPerson('');
  if (!given) throw new Refused(401, 'unauthorized', 'nothing is done without the token');
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

// A stream that says nothing for so long is dead: the daemon sends a comment every 25 s.
const SILENCE_MS = 70_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;

/**
 * Follows server-sent events until `signal` aborts or `event` returns false, through every loss of the connection.
 * `path` is called anew for each connection, so that it can say where to go on. fetch and not EventSource, because
 * only the former sends a header with the token.
 */
export async function follow(path, { event, open = () => {}, lost = () => {}, signal }) {
  let wait = FIRST_WAIT_MS;
  while (!signal.aborted) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    signal.addEventListener('abort', stop, { once: true });
    let watchdog;
    const heard = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(stop, SILENCE_MS);
    };
    try {
      heard();
      const response = await send(api(path()), { signal: attempt.signal, headers: { Accept: 'text/event-stream' } });
      open();
      wait = FIRST_WAIT_MS;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        heard();
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
      // What does not exist will not exist later either, and who has no token now should not be asked again and again.
      if (error instanceof Refused && (error.status === 404 || error.status === 401)) throw error;
      lost(error);
    } finally {
      clearTimeout(watchdog);
      signal.removeEventListener('abort', stop);
    }
    await pause(wait * (0.75 + Math.random() / 2), signal);
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
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

// Ends early when the network comes back, or when nobody waits any more.
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
