// The drawn graph: nodes that are links, live states, pan and zoom by pointer, touch, wheel and keyboard.
//
// Only visible nodes are in the document, so that the cost does not grow with the number of jobs.

import { face, live } from './live.js';
import { layout } from './layout.js';
import { h, jobPath, s, shapeOf, word } from './ui.js';

const HEIGHT = 46;
const TEXT_AT = 35;
// Below this scale text is not legible, and not drawn.
const WORDS_FROM = 0.42;
const MARGIN = 12;
const ZOOM = { min: 0.04, max: 2.5, step: 1.25 };

/** The graph in `box`. Gives `{ update(names), find(matches), fit(), zoom(inward) }`. `signal` ends it. */
export function drawGraph(box, graph, signal) {
  const scene = s('g.scene');
  const lines = s('g.edges', { 'aria-hidden': 'true' });
  const dots = s('g.nodes');
  const arrow = s('marker', { id: 'arrow', viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: 'auto' }, s('path', { d: 'M0 0l8 4-8 4z' }));
  const svg = s('svg.graph', { role: 'group', 'aria-label': 'Jobs and their dependencies', 'aria-describedby': 'graph-keys' }, s('defs', {}, arrow), scene);
  scene.append(lines, dots);
  box.append(svg);

  const neighbours = new Map(graph.jobs.map((job) => [job.name, { up: [], down: [] }]));
  for (const { from, to } of graph.edges) {
    neighbours.get(from)?.down.push(to);
    neighbours.get(to)?.up.push(from);
  }

  let plan;
  let vertical = false;
  let NODE = { w: 186, h: HEIGHT };
  const view = { x: 0, y: 0, k: 1 };
  let touched = false;
  let found = null;
  let current = graph.jobs[0]?.name;
  const drawn = new Map();
  const paths = new Map();

  function arrange() {
    const width = box.clientWidth || 600;
    vertical = width < 640;
    // Two fit side by side on the narrowest phone.
    NODE = { w: vertical ? 126 : 186, h: HEIGHT };
    const tallest = Math.max(260, innerHeight * 0.62);
    plan = layout(graph.jobs, graph.edges, {
      ...NODE,
      vertical,
      gapAlong: vertical ? 40 : 56,
      gapAcross: vertical ? 10 : 14,
      gapParts: vertical ? 10 : 24,
      aspect: graph.jobs.length > 60 ? width / tallest : (width / tallest) * 1.4,
      least: Math.min(width - 2 * MARGIN, graph.jobs.length * NODE.w),
    });
    const scale = Math.min((width - 2 * MARGIN) / plan.w, 1);
    svg.style.height = `${Math.round(Math.min(tallest, Math.max(150, plan.h * Math.max(scale, 0.5) + 2 * MARGIN)))}px`;
    for (const element of [...drawn.values(), ...paths.values()]) element.remove();
    drawn.clear();
    paths.clear();
    if (!touched) fit();
    else show();
  }

  function fit() {
    const { clientWidth: w, clientHeight: h } = svg;
    const whole = Math.min((w - 2 * MARGIN) / plan.w, (h - 2 * MARGIN) / plan.h, 1);
    view.k = Math.max(whole, ZOOM.min);
    view.x = (w - plan.w * view.k) / 2;
    view.y = (h - plan.h * view.k) / 2;
    touched = false;
    show();
  }

  // Adds visible nodes to the document, and removes others.
  function show() {
    scene.setAttribute('transform', `translate(${view.x.toFixed(2)} ${view.y.toFixed(2)}) scale(${view.k.toFixed(4)})`);
    svg.classList.toggle('far', view.k < WORDS_FROM);
    const left = -view.x / view.k;
    const top = -view.y / view.k;
    const right = left + svg.clientWidth / view.k;
    const bottom = top + svg.clientHeight / view.k;
    const sees = (x, y, w, h) => x < right && x + w > left && y < bottom && y + h > top;
    const fresh = [];
    for (const job of graph.jobs) {
      const at = plan.nodes.get(job.name);
      const element = drawn.get(job.name);
      if (sees(at.x, at.y, NODE.w, NODE.h) || element === document.activeElement) {
        if (!element) fresh.push(node(job, at));
      } else if (element) {
        element.remove();
        drawn.delete(job.name);
      }
    }
    if (fresh.length) {
      dots.append(...fresh);
      // Reading order is the order of the file.
      if (drawn.size > fresh.length) dots.append(...graph.jobs.map((job) => drawn.get(job.name)).filter(Boolean));
    }
    plan.edges.forEach((edge, i) => {
      const from = edge.points[0];
      const to = edge.points[edge.points.length - 1];
      const visible = sees(Math.min(from.x, to.x), Math.min(from.y, to.y), Math.abs(from.x - to.x) + 1, Math.abs(from.y - to.y) + 1);
      if (visible && !paths.has(i)) {
        const line = s(`path.${edge.condition ?? 'all_success'}`, { d: curve(edge.points), 'marker-end': 'url(#arrow)' });
        paths.set(i, line);
        lines.append(line);
      } else if (!visible && paths.has(i)) {
        paths.get(i).remove();
        paths.delete(i);
      }
    });
  }

  // Through all stops, leaving and arriving along the way of the edges.
  function curve(points) {
    let d = `M${points[0].x} ${points[0].y}`;
    points.forEach((b, i) => {
      if (i === 0) return;
      const a = points[i - 1];
      const mid = vertical ? (a.y + b.y) / 2 : (a.x + b.x) / 2;
      d += vertical ? `C${a.x} ${mid} ${b.x} ${mid} ${b.x} ${b.y}` : `C${mid} ${a.y} ${mid} ${b.y} ${b.x} ${b.y}`;
    });
    return d;
  }

  function node(job, at) {
    const icon = s('path.icon', { transform: 'translate(12 15)', 'fill-rule': 'evenodd' });
    const element = s(
      'a',
      { href: jobPath(job.name), transform: `translate(${at.x} ${at.y})`, 'data-job': job.name, tabindex: job.name === current ? 0 : -1 },
      s('rect.box', { width: NODE.w, height: NODE.h, rx: 8 }),
      icon,
      // HTML, because it cuts long names with an ellipsis.
      s('foreignObject', { x: TEXT_AT, y: 6, width: NODE.w - TEXT_AT - 6, height: 20 }, h('div.name', { title: job.name }, job.name)),
      ' ',
      s('text.sub', { x: TEXT_AT, y: 36 }),
    );
    drawn.set(job.name, element);
    paint(job, element);
    return element;
  }

  function paint(job, element) {
    const known = live.jobs.get(job.name);
    const state = known ? face(known) : (job.last_state ?? 'idle');
    const classes = `node s-${state}${found && !found(job.name) ? ' dim' : ''}`;
    if (element.getAttribute('class') !== classes) {
      element.setAttribute('class', classes);
      element.querySelector('.icon').setAttribute('d', shapeOf(state));
    }
    const sub = vertical ? word(state) : `${word(state)} · ${job.trigger.replaceAll('_', ' ')}`;
    const text = element.querySelector('.sub');
    if (text.textContent !== sub) {
      text.textContent = sub;
      const { up } = neighbours.get(job.name);
      element.setAttribute('aria-label', `${job.name} ${sub}${up.length ? `, after ${up.join(' and ')}` : ''}`);
    }
  }

  function update(names) {
    for (const job of graph.jobs) {
      const element = drawn.get(job.name);
      if (element && (!names || names.has(job.name))) paint(job, element);
    }
  }

  function zoom(factor, x = svg.clientWidth / 2, y = svg.clientHeight / 2) {
    const k = Math.min(ZOOM.max, Math.max(ZOOM.min, view.k * factor));
    view.x = x - ((x - view.x) * k) / view.k;
    view.y = y - ((y - view.y) * k) / view.k;
    view.k = k;
    touched = true;
    show();
  }

  function pan(x, y) {
    view.x += x;
    view.y += y;
    touched = true;
    show();
  }

  // Scrolls a job into view if it is not visible.
  function reveal(name) {
    const at = plan.nodes.get(name);
    if (view.k < WORDS_FROM) zoom(0.8 / view.k);
    const x = at.x * view.k + view.x;
    const y = at.y * view.k + view.y;
    const w = NODE.w * view.k;
    const h = NODE.h * view.k;
    const dx = x < MARGIN ? MARGIN - x : Math.min(0, svg.clientWidth - MARGIN - x - w);
    const dy = y < MARGIN ? MARGIN - y : Math.min(0, svg.clientHeight - MARGIN - y - h);
    if (dx || dy) pan(dx, dy);
  }

  function go(name) {
    drawn.get(current)?.setAttribute('tabindex', -1);
    current = name;
    reveal(name);
    const element = drawn.get(name);
    element?.setAttribute('tabindex', 0);
    element?.focus({ preventScroll: true });
  }

  // The nearest job in a direction: along a dependency if there is one, else any.
  function toward(dx, dy) {
    const here = plan.nodes.get(current);
    let best = null;
    let least = Infinity;
    for (const [name, at] of plan.nodes) {
      const x = at.x - here.x;
      const y = at.y - here.y;
      const ahead = x * dx + y * dy;
      if (ahead < 1) continue;
      const aside = Math.abs(x * dy) + Math.abs(y * dx);
      const { up, down } = neighbours.get(current);
      const cost = ahead + 3 * aside - (up.includes(name) || down.includes(name) ? 200 : 0);
      if (cost < least) [best, least] = [name, cost];
    }
    return best;
  }

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  svg.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const way = ARROWS[event.key];
    if (way && event.shiftKey) pan(-60 * way[0], -60 * way[1]);
    else if (way) {
      const next = toward(...way);
      if (next) go(next);
    } else if (event.key === '+' || event.key === '=') zoom(ZOOM.step);
    else if (event.key === '-') zoom(1 / ZOOM.step);
    else if (event.key === '0') fit();
    else if (event.key === 'Home') go(graph.jobs[0].name);
    else if (event.key === 'End') go(graph.jobs[graph.jobs.length - 1].name);
    else return;
    event.preventDefault();
  });
  svg.addEventListener('focusin', (event) => {
    const name = event.target.closest('[data-job]')?.dataset.job;
    if (!name || name === current) return;
    drawn.get(current)?.setAttribute('tabindex', -1);
    current = name;
    drawn.get(name)?.setAttribute('tabindex', 0);
  });

  // The wheel scrolls the page; with Ctrl, or once the graph has focus, it zooms.
  let held = false;
  svg.addEventListener(
    'wheel',
    (event) => {
      if (!(event.ctrlKey || event.metaKey || held)) return;
      event.preventDefault();
      const frame = svg.getBoundingClientRect();
      zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0022)), event.clientX - frame.left, event.clientY - frame.top);
    },
    { passive: false },
  );
  svg.addEventListener('pointerleave', () => (held = false));

  // One pointer pans, two zoom. A click on a node stays a click unless the pointer went somewhere.
  const pointers = new Map();
  let moved = false;
  svg.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    if (!pointers.size) moved = false;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    held = event.pointerType === 'mouse';
  });
  svg.addEventListener('pointermove', (event) => {
    const was = pointers.get(event.pointerId);
    if (!was) return;
    const now = { x: event.clientX, y: event.clientY };
    if (!moved && Math.hypot(now.x - was.x, now.y - was.y) < 4) return;
    if (!moved) svg.setPointerCapture(event.pointerId);
    moved = true;
    if (pointers.size === 1) pan(now.x - was.x, now.y - was.y);
    else {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const frame = svg.getBoundingClientRect();
      const apart = (a) => Math.max(10, Math.hypot(a.x - other.x, a.y - other.y));
      pan((now.x - was.x) / 2, (now.y - was.y) / 2);
      zoom(apart(now) / apart(was), (now.x + other.x) / 2 - frame.left, (now.y + other.y) / 2 - frame.top);
    }
    pointers.set(event.pointerId, now);
  });
  for (const end of ['pointerup', 'pointercancel']) svg.addEventListener(end, (event) => pointers.delete(event.pointerId));
  svg.addEventListener(
    'click',
    (event) => {
      if (moved) {
        event.preventDefault();
        event.stopPropagation();
      }
      moved = false;
    },
    true,
  );
  svg.addEventListener('dragstart', (event) => event.preventDefault());

  let width = 0;
  const observer = new ResizeObserver(() => {
    if (box.clientWidth === width) return;
    width = box.clientWidth;
    arrange();
  });
  observer.observe(box);
  signal.addEventListener('abort', () => observer.disconnect());

  return {
    update,
    fit,
    zoom: (inward) => zoom(inward ? ZOOM.step : 1 / ZOOM.step),
    /** Dims jobs that do not match, and scrolls to the first that does. */
    find(matches) {
      found = matches;
      update();
      const first = matches && plan && graph.jobs.find((job) => matches(job.name));
      if (first && touched) reveal(first.name);
    },
  };
}
