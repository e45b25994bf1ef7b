// The layout of the graph. Pure: names and edges in, coordinates out.
//
// Each connected part is laid out in layers (the daemon says which), with invisible stops on edges that pass a layer,
// ordered by barycentres so that few edges cross, then drawn towards its neighbours. The parts are packed like books
// on shelves. "Along" is the way the edges go; "across" is the other way.

const SWEEPS = 8;

/**
 * `jobs`: [{name, layer}], `edges`: [{from, to}]. `size`: {w, h, gapAlong, gapAcross, gapParts, vertical, aspect, least}.
 * Gives {nodes: Map(name -> {x, y}), edges: [{from, to, points: [{x, y}]}], w, h}; x and y are left upper corners.
 */
export function layout(jobs, edges, size) {
  const vertical = size.vertical ?? false;
  const long = vertical ? size.h : size.w;
  const broad = vertical ? size.w : size.h;
  const parts = split(jobs, edges).map((part) => place(part, long, broad, size));
  // Parts of one job last: they fill up what is left.
  const order = [...parts.filter((part) => part.nodes.length > 1), ...parts.filter((part) => part.nodes.length === 1)];
  const boxes = order.map((part) => ({ part, w: vertical ? part.broad : part.long, h: vertical ? part.long : part.broad }));
  const { w, h } = shelve(boxes, size);
  const nodes = new Map();
  const lines = [];
  for (const { part, x, y } of boxes) {
    const at = (along, across) => (vertical ? { x: x + across, y: y + along } : { x: x + along, y: y + across });
    for (const node of part.nodes) nodes.set(node.name, at(node.along, node.across));
    for (const edge of part.edges) lines.push({ ...edge, points: edge.points.map((point) => at(point.along, point.across)) });
  }
  return { nodes, edges: lines, w, h };
}

// The connected parts, in the order of their first job.
function split(jobs, edges) {
  const index = new Map(jobs.map((job, i) => [job.name, i]));
  const root = jobs.map((_, i) => i);
  const find = (i) => {
    while (root[i] !== i) i = root[i] = root[root[i]];
    return i;
  };
  const known = edges.filter((edge) => index.has(edge.from) && index.has(edge.to));
  for (const edge of known) {
    const a = find(index.get(edge.from));
    const b = find(index.get(edge.to));
    root[Math.max(a, b)] = Math.min(a, b);
  }
  const parts = new Map();
  jobs.forEach((job, i) => {
    const key = find(i);
    if (!parts.has(key)) parts.set(key, { jobs: [], edges: [] });
    parts.get(key).jobs.push(job);
  });
  for (const edge of known) parts.get(find(index.get(edge.from))).edges.push(edge);
  return [...parts.values()];
}

function place(part, long, broad, size) {
  const first = Math.min(...part.jobs.map((job) => job.layer));
  const items = new Map(part.jobs.map((job) => [job.name, { name: job.name, layer: job.layer - first, up: [], down: [], size: broad }]));
  const layers = [];
  const enter = (item) => (layers[item.layer] ??= []).push(item);
  for (const item of items.values()) enter(item);
  const join = (a, b) => {
    a.down.push(b);
    b.up.push(a);
  };
  const chains = part.edges.map((edge) => {
    let last = items.get(edge.from);
    const target = items.get(edge.to);
    const chain = [last];
    for (let layer = last.layer + 1; layer < target.layer; layer += 1) {
      const stop = { name: null, layer, up: [], down: [], size: 6 };
      enter(stop);
      join(last, stop);
      chain.push(stop);
      last = stop;
    }
    join(last, target);
    chain.push(target);
    return { edge, chain };
  });
  order(layers);
  settle(layers, size.gapAcross);
  const step = long + size.gapAlong;
  let least = Infinity;
  let most = -Infinity;
  for (const item of layers.flat()) {
    least = Math.min(least, item.at - item.size / 2);
    most = Math.max(most, item.at + item.size / 2);
  }
  const nodes = [...items.values()].map((item) => ({ name: item.name, along: item.layer * step, across: item.at - item.size / 2 - least }));
  const edges = chains.map(({ edge, chain }) => ({
    ...edge,
    points: chain.flatMap((item, i) => {
      const across = item.at - least;
      const along = item.layer * step;
      if (i === 0) return [{ along: along + long, across }];
      if (i === chain.length - 1) return [{ along, across }];
      return [{ along, across }, { along: along + long, across }];
    }),
  }));
  return { nodes, edges, long: layers.length * step - size.gapAlong, broad: most - least };
}

const number = (layers) => layers.forEach((layer) => layer.forEach((item, i) => (item.rank = i)));

// Orders each layer by the mean place of its neighbours, downwards and upwards in turn, and keeps the best.
function order(layers) {
  number(layers);
  let best = layers.map((layer) => [...layer]);
  let fewest = crossings(layers);
  for (let sweep = 0; sweep < SWEEPS && fewest > 0; sweep += 1) {
    const down = sweep % 2 === 0;
    const list = down ? layers : [...layers].reverse();
    for (const layer of list) {
      for (const item of layer) {
        const near = down ? item.up : item.down;
        item.wish = near.length ? near.reduce((sum, other) => sum + other.rank, 0) / near.length : item.rank;
      }
      layer.sort((a, b) => a.wish - b.wish || a.rank - b.rank);
      layer.forEach((item, i) => (item.rank = i));
    }
    const now = crossings(layers);
    if (now < fewest) {
      fewest = now;
      best = layers.map((layer) => [...layer]);
    }
  }
  best.forEach((layer, i) => (layers[i] = layer));
  number(layers);
}

/** How many pairs of edges cross: inversions between neighbouring layers, counted with a Fenwick tree. */
function crossings(layers) {
  let count = 0;
  for (let i = 0; i + 1 < layers.length; i += 1) {
    const tree = new Array(layers[i + 1].length + 1).fill(0);
    let seen = 0;
    for (const item of layers[i]) {
      const ranks = item.down.map((other) => other.rank);
      for (const rank of ranks) {
        let before = 0;
        for (let k = rank + 1; k > 0; k -= k & -k) before += tree[k];
        count += seen - before;
      }
      for (const rank of ranks) {
        for (let k = rank + 1; k < tree.length; k += k & -k) tree[k] += 1;
        seen += 1;
      }
    }
  }
  return count;
}

// Moves the items of each layer towards their neighbours, as far as the order and the gaps allow.
function settle(layers, gap) {
  for (const layer of layers) {
    let at = 0;
    for (const item of layer) {
      item.at = at + item.size / 2;
      at += item.size + gap;
    }
  }
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (const layer of sweep % 2 === 0 ? layers : [...layers].reverse()) {
      const wishes = layer.map((item) => {
        const near = [...item.up, ...item.down];
        return near.length ? near.reduce((sum, other) => sum + other.at, 0) / near.length : item.at;
      });
      const offsets = [];
      layer.forEach((item, i) => offsets.push(i === 0 ? 0 : offsets[i - 1] + layer[i - 1].size / 2 + gap + item.size / 2));
      const fitted = rising(wishes.map((wish, i) => wish - offsets[i]));
      layer.forEach((item, i) => (item.at = fitted[i] + offsets[i]));
    }
  }
}

// The rising series nearest to `values` by least squares: neighbours that are the wrong way round share their mean.
function rising(values) {
  const pools = [];
  for (const value of values) {
    pools.push({ sum: value, count: 1 });
    for (let i = pools.length - 1; i > 0 && pools[i - 1].sum / pools[i - 1].count > pools[i].sum / pools[i].count; i -= 1) {
      pools[i - 1].sum += pools[i].sum;
      pools[i - 1].count += pools[i].count;
      pools.pop();
    }
  }
  return pools.flatMap((pool) => new Array(pool.count).fill(pool.sum / pool.count));
}

// Rows of boxes, about as wide as `aspect` asks; gives each its x and y, and the size of the whole.
function shelve(boxes, size) {
  const gapX = size.gapParts;
  const gapY = size.gapParts;
  const area = boxes.reduce((sum, box) => sum + (box.w + gapX) * (box.h + gapY), 0);
  const wish = Math.max(size.least ?? 0, ...boxes.map((box) => box.w), Math.sqrt(area * size.aspect));
  let x = 0;
  let y = 0;
  let high = 0;
  let w = 0;
  for (const box of boxes) {
    if (x > 0 && x + box.w > wish + 1) {
      x = 0;
      y += high + gapY;
      high = 0;
    }
    box.x = x;
    box.y = y;
    x += box.w + gapX;
    high = Math.max(high, box.h);
    w = Math.max(w, box.x + box.w);
  }
  return { w, h: y + high };
}
