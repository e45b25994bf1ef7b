// Output as a terminal would show it: colours, weights, and lines that write over themselves.
//
// Text becomes text nodes, never markup. Of the escape sequences only colours and weights (SGR) are rendered; all others
// (cursor movements, titles, links) are removed.

// CSI, OSC and the other strings up to their end, then any two-byte escape; then what is cut off at the end of a chunk.
const ESCAPE = /\x1b\[([0-?]*)[ -/]*([@-~])|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-Z\\^_`-~]/g;
const CUT_OFF = /\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]{0,4096}\x1b?|[ -/]*)?$/;
// Control characters without a glyph. \b does not occur in files, and \r is handled before.
const SILENT = /[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]/g;

const PLAIN = { classes: [], fg: null, bg: null };

/** Renders output chunk by chunk into `box`, one element per line, of which the last `keep` stay. */
export class Terminal {
  constructor(box, keep, fewer = () => {}) {
    this.box = box;
    this.keep = keep;
    this.fewer = fewer;
    this.style = { ...PLAIN };
    this.rest = '';
    this.line = null;
    // After a carriage return: the next text overwrites the line, unless it is a line end.
    this.over = false;
    this.dropped = 0;
  }

  write(text) {
    let all = this.rest + text;
    const cut = all.match(CUT_OFF);
    this.rest = cut ? cut[0] : '';
    if (cut) all = all.slice(0, cut.index);
    const fresh = document.createDocumentFragment();
    let from = 0;
    for (const match of all.matchAll(ESCAPE)) {
      this.#text(all.slice(from, match.index), fresh);
      if (match[2] === 'm') this.#sgr(match[1]);
      from = match.index + match[0].length;
    }
    this.#text(all.slice(from), fresh);
    this.box.append(fresh);
    this.#forget();
  }

  #text(text, fresh) {
    for (const part of text.split(/(\n|\r)/)) {
      if (part === '\n') {
        this.#current(fresh).append('\n');
        this.line = null;
        this.over = false;
      } else if (part === '\r') this.over = true;
      else if (part) {
        const line = this.#current(fresh);
        if (this.over) line.replaceChildren();
        this.over = false;
        line.append(this.#styled(part.replace(SILENT, '')));
      }
    }
  }

  #current(fresh) {
    if (!this.line) {
      this.line = document.createElement('span');
      this.line.className = 'line';
      fresh.append(this.line);
    }
    return this.line;
  }

  #styled(text) {
    const { classes, fg, bg } = this.style;
    if (!classes.length && !fg && !bg) return text;
    const span = document.createElement('span');
    span.className = classes.join(' ');
    for (const [colour, property, prefix] of [[fg, 'color', 'fg'], [bg, 'backgroundColor', 'bg']]) {
      if (colour === null) continue;
      if (typeof colour === 'number') span.classList.add(`${prefix}${colour}`);
      else {
        // A custom background colour needs a readable foreground, and vice versa.
        span.style[property] = colour;
        span.classList.add('own');
      }
    }
    span.textContent = text;
    return span;
  }

  #sgr(parameters) {
    const list = parameters.split(/[;:]/).map((one) => (one === '' ? 0 : Number(one)));
    const set = (name, on) => {
      const others = this.style.classes.filter((one) => one !== name);
      this.style = { ...this.style, classes: on ? [...others, name] : others };
    };
    for (let i = 0; i < list.length; i += 1) {
      const code = list[i];
      if (code === 0) this.style = { ...PLAIN };
      else if (code === 1) set('bold', true);
      else if (code === 2) set('weak', true);
      else if (code === 3) set('italic', true);
      else if (code === 4) set('underline', true);
      else if (code === 7) set('inverse', true);
      else if (code === 9) set('struck', true);
      else if (code === 22) {
        set('bold', false);
        set('weak', false);
      } else if (code === 23) set('italic', false);
      else if (code === 24) set('underline', false);
      else if (code === 27) set('inverse', false);
      else if (code === 29) set('struck', false);
      else if (code >= 30 && code <= 37) this.style = { ...this.style, fg: code - 30 };
      else if (code === 39) this.style = { ...this.style, fg: null };
      else if (code >= 40 && code <= 47) this.style = { ...this.style, bg: code - 40 };
      else if (code === 49) this.style = { ...this.style, bg: null };
      else if (code >= 90 && code <= 97) this.style = { ...this.style, fg: code - 82 };
      else if (code >= 100 && code <= 107) this.style = { ...this.style, bg: code - 92 };
      else if (code === 38 || code === 48) {
        const { colour, used } = extended(list.slice(i + 1));
        i += used;
        if (colour !== undefined) this.style = { ...this.style, [code === 38 ? 'fg' : 'bg']: colour };
      }
    }
  }

  #forget() {
    const many = this.box.childElementCount - this.keep;
    if (many <= 0) return;
    for (let i = 0; i < many; i += 1) this.box.firstElementChild.remove();
    this.dropped += many;
    this.fewer(this.dropped);
  }
}

// 5;N of a palette of 256, or 2;R;G;B.
function extended(list) {
  if (list[0] === 5) return { colour: palette(list[1]), used: 2 };
  if (list[0] === 2) {
    const [r, g, b] = list.slice(1, 4).map((one) => Math.min(255, Math.max(0, one || 0)));
    return { colour: `rgb(${r ?? 0} ${g ?? 0} ${b ?? 0})`, used: 4 };
  }
  return { colour: undefined, used: 0 };
}

function palette(n) {
  if (!(n >= 0 && n <= 255)) return undefined;
  if (n < 16) return n;
  if (n >= 232) {
    const grey = 8 + 10 * (n - 232);
    return `rgb(${grey} ${grey} ${grey})`;
  }
  const level = (i) => (i === 0 ? 0 : 55 + 40 * i);
  const cube = n - 16;
  return `rgb(${level(Math.floor(cube / 36))} ${level(Math.floor(cube / 6) % 6)} ${level(cube % 6)})`;
}
