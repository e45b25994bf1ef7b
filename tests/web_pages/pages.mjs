// Drives the pages of a running daemon in a real browser; tests/web_pages.rs starts both and says where things are:
// BASE (the address), TOKEN, CHROMIUM, MODULES (where playwright-core and axe-core are), SHOTS (a folder for screenshots).
// Each check is a sentence; the first that does not hold ends it with its reason.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const { BASE, TOKEN, CHROMIUM, MODULES, SHOTS } = process.env;
const { chromium } = createRequire(`${MODULES}/`)('playwright-core');
const axe = fs.readFileSync(path.join(MODULES, 'axe-core', 'axe.min.js'), 'utf8');

// How long anything may take before it has failed. Nothing waits for this long unless it is broken.
const TEST_TIMEOUT = 45_000;

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  timeout: TEST_TIMEOUT,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

process.on('SIGTERM', () => browser.close().finally(() => process.exit(1)));

const complaints = [];
const strangers = [];

async function open(width, height, colorScheme, more = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, locale: 'en-GB', timezoneId: 'Europe/Berlin', ...more });
  context.setDefaultTimeout(TEST_TIMEOUT);
  const page = await context.newPage();
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(`${message.text()} (${message.location().url})`));
  page.on('pageerror', (error) => complaints.push(error.stack));
  page.on('request', (request) => !request.url().startsWith(`${BASE}/`) && !/^(data|blob):/.test(request.url()) && strangers.push(request.url()));
  return page;
}

async function check(sentence, act) {
  const from = Date.now();
  try {
    await act();
    console.log(`ok   ${sentence} (${((Date.now() - from) / 1000).toFixed(1)} s)`);
  } catch (error) {
    console.log(`FAIL ${sentence}\n${error.stack}`);
    console.log(complaints.join('\n'));
    await browser.close();
    process.exit(1);
  }
}

const page = await open(1440, 900, 'light');
const node = (name) => page.locator(`.graph [data-job="${name}"]`);
const go = async (to) => {
  await page.goto(BASE + to);
  await page.locator('main h1').waitFor();
};
const seesState = (state) => page.locator('.head .badge').filter({ hasText: state }).first().waitFor();

await check('the graph of the quickstart turns green while one looks', async () => {
  await go('/');
  for (const name of ['fetch', 'count', 'check', 'publish', 'heartbeat']) await page.locator(`.graph .s-succeeded[data-job="${name}"]`).waitFor();
  assert.equal(await page.evaluate(() => performance.getEntriesByType('navigation').length), 1, 'it was not loaded again');
  // Layers: what depends on something stands to the right of it.
  const x = async (name) => (await node(name).boundingBox()).x;
  assert.ok((await x('fetch')) < (await x('count')) && (await x('count')) < (await x('publish')));
});

await check('the pages and their modules together are under 50 kB on the wire', async () => {
  const bytes = await page.evaluate(() => {
    const files = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].filter((one) => !one.name.includes('/api/'));
    return files.reduce((sum, one) => sum + one.encodedBodySize, 0);
  });
  assert.ok(bytes > 10_000 && bytes < 50_000, `${bytes} bytes`);
});

await check('a state has a shape and a word, not a colour alone', async () => {
  await page.locator('.graph .s-succeeded[aria-label="publish succeeded · after deps, after count and check"]').waitFor();
  const shape = (name) => node(name).locator('.icon').getAttribute('d');
  assert.notEqual(await shape('publish'), await shape('hello'));
});

await check('the graph zooms and pans by keys and by pointer, and Enter opens a job', async () => {
  const scene = () => page.locator('.scene').getAttribute('transform');
  const first = await scene();
  await node('heartbeat').focus();
  await page.keyboard.press('+');
  const zoomed = await scene();
  assert.notEqual(zoomed, first);
  await page.keyboard.press('Shift+ArrowLeft');
  assert.notEqual(await scene(), zoomed);
  await page.keyboard.press('0');
  assert.equal(await scene(), first);
  const box = await page.locator('.graph').boundingBox();
  await page.mouse.move(box.x + 6, box.y + box.height - 6);
  await page.mouse.down();
  await page.mouse.move(box.x + 66, box.y + box.height - 36, { steps: 4 });
  await page.mouse.up();
  assert.notEqual(await scene(), first);
  await node('fetch').focus();
  await page.keyboard.press('0');
  await page.keyboard.press('ArrowRight');
  assert.ok(['count', 'check'].includes(await page.evaluate(() => document.activeElement.dataset.job)));
  await page.keyboard.press('Enter');
  await page.waitForURL(/\/jobs\/(count|check)$/);
  await page.locator('.facts').waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.tagName), 'H1', 'focus goes to the new page');
});

await check('the search finds a job from any page', async () => {
  await page.keyboard.press('/');
  await page.keyboard.type('hel');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/jobs/hello');
});

await check('a job is triggered once the token was given, and a wrong one is said to be wrong', async () => {
  await page.locator('.facts').waitFor();
  await page.getByRole('button', { name: 'Trigger' }).click();
  await page.locator('#ask-token').fill('not-the-token-of-the-file');
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.locator('#ask-error').filter({ hasText: 'wrong' }).waitFor();
  await page.locator('#ask-token').fill(TOKEN);
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.locator('.past .s-succeeded').first().waitFor();
  await seesState('succeeded');
});

await check('a job is paused and goes on', async () => {
  await page.getByRole('button', { name: 'Pause' }).click();
  await seesState('paused');
  await page.getByRole('button', { name: 'Resume' }).click();
  await page.getByRole('button', { name: 'Pause' }).waitFor();
});

await check('output streams in with its colours, and never as markup', async () => {
  await go('/jobs/slow');
  await page.getByRole('button', { name: 'Trigger' }).click();
  await page.locator('.past tbody a').first().click();
  await page.waitForURL(/\/runs\/\d+$/);
  await seesState('running');
  await page.locator('.terminal .fg2', { hasText: 'step 1' }).waitFor();
  await page.locator('.terminal', { hasText: 'step 3 <b>plain</b>' }).waitFor();
  assert.equal(await page.locator('.terminal b').count(), 0);
  assert.equal(await page.locator('.terminal', { hasText: '\u001b' }).count(), 0);
});

await check('a run is cancelled, and its end shows without a reload', async () => {
  await page.getByRole('button', { name: 'Cancel' }).click();
  await seesState('cancelled');
  assert.equal(await page.getByRole('button', { name: 'Cancel', exact: true }).count(), 0);
});

await check('a cancelled run is retried, and the new one opens', async () => {
  const old = page.url();
  await page.getByRole('button', { name: 'Retry' }).click();
  await page.waitForFunction((was) => location.href !== was, old);
  await seesState('running');
  await page.getByRole('button', { name: 'Cancel' }).click();
  await seesState('cancelled');
});

await check('a failed run shows its attempts and why', async () => {
  await go('/jobs/broken');
  await page.getByRole('button', { name: 'Trigger' }).click();
  await seesState('failed');
  await page.locator('.past tbody .s-failed').first().waitFor();
  await page.locator('.past tbody a').first().click();
  await page.getByRole('heading', { name: 'Attempts' }).waitFor();
  assert.equal(await page.locator('main tbody tr').count(), 2);
  await page.locator('main tbody', { hasText: 'exit code 3' }).waitFor();
});

await check('the job page has ten firings, words for the schedule, and a plot', async () => {
  await go('/jobs/heartbeat');
  await page.locator('.plot a .bar').nth(1).waitFor({ state: 'attached' });
  assert.equal(await page.locator('.firings li').count(), 10);
  assert.match(await page.locator('.facts').innerText(), /Every 3 seconds/i);
});

await check('the timeline has a lane a job, bars that grow, a line for now, and what is next', async () => {
  await go('/timeline?span=hour');
  const lane = page.locator('.lane', { hasText: 'heartbeat' });
  await lane.locator('.bar').first().waitFor({ state: 'attached' });
  assert.equal(await page.locator('.now').count(), 1);
  await page.locator('.next li', { hasText: 'heartbeat' }).waitFor();
  const runs = async () => Number((await page.locator('.chart [role=status]').innerText()).match(/\d+/)[0]);
  const before = await runs();
  await page.waitForFunction((was) => Number(document.querySelector('.chart [role=status]').textContent.match(/\d+/)[0]) > was, before);
});

await check('what does not exist is said to', async () => {
  await go('/jobs/no%20such%20job');
  assert.match(await page.locator('main').innerText(), /Not found/);
});

await check('colours are read the same, however the output is cut, and nothing of it becomes markup', async () => {
  const text = 'a\x1b[1;31mred\x1b[0m plain\r\n50 %\r\x1b[32m100 %\x1b[39m\n\x1b]0;title\x07\x1b[38;5;208mo\x1b[48;2;1;2;3mrgb\x1b[m<i>&amp;\x1b[2K\x1b(Bend\n';
  const seen = await page.evaluate(async (all) => {
    const { Terminal } = await import('/ansi.js');
    const read = (pieces) => {
      const box = document.createElement('pre');
      const terminal = new Terminal(box, 100);
      pieces.forEach((piece) => terminal.write(piece));
      const marks = [];
      for (const walk = document.createTreeWalker(box, NodeFilter.SHOW_TEXT); walk.nextNode(); ) {
        const { parentElement: of, data } = walk.currentNode;
        for (const letter of data) marks.push(`${letter} ${of.className} ${of.style.color} ${of.style.backgroundColor}`);
      }
      return { text: box.textContent, marks: marks.join('|'), elements: box.querySelectorAll(':not(span)').length };
    };
    const whole = read([all]);
    const differs = [...all].map((_, i) => i).filter((i) => read([all.slice(0, i), all.slice(i)]).marks !== whole.marks);
    return { ...whole, differs, single: read([...all]).marks === whole.marks };
  }, text);
  assert.equal(seen.text, 'ared plain\n100 %\norgb<i>&amp;end\n');
  assert.deepEqual([seen.differs, seen.single, seen.elements], [[], true, 0]);
  assert.match(seen.marks, /^a line  \|r bold fg1  \|/);
  assert.match(seen.marks, /o own rgb\(255, 135, 0\) \|r own rgb\(255, 135, 0\) rgb\(1, 2, 3\)/);
});

await check('a thousand jobs are laid out in layers, none upon another, and few edges cross', async () => {
  const seen = await page.evaluate(async () => {
    const { layout } = await import('/layout.js');
    // Forty chains of ladders, whose rungs come in an order that has to be undone.
    const jobs = [];
    const edges = [];
    for (let part = 0; part < 40; part += 1) {
      for (let i = 0; i < 24; i += 1) jobs.push({ name: `${part}-${i}`, layer: Math.floor(i / 4) });
      for (let i = 4; i < 24; i += 1) edges.push({ from: `${part}-${Math.floor(i / 4) * 4 - 4 + (3 - (i % 4))}`, to: `${part}-${i}` });
      edges.push({ from: `${part}-0`, to: `${part}-23` });
    }
    for (let i = 0; i < 40; i += 1) jobs.push({ name: `alone-${i}`, layer: 0 });
    const size = { w: 186, h: 46, gapAlong: 56, gapAcross: 14, gapParts: 24, aspect: 1.6 };
    const found = { overlaps: 0, backwards: 0, bends: 0 };
    const plan = layout(jobs, edges, size);
    const boxes = [...plan.nodes.values()].sort((a, b) => a.x - b.x);
    boxes.forEach((a, i) => {
      for (let j = i + 1; j < boxes.length && boxes[j].x < a.x + size.w - 0.01; j += 1) if (Math.abs(boxes[j].y - a.y) < size.h - 0.01) found.overlaps += 1;
    });
    for (const { from, to, points } of plan.edges) {
      if (plan.nodes.get(from).x >= plan.nodes.get(to).x) found.backwards += 1;
      if (points.length === 2 && Math.abs(points[0].y - points[1].y) > 30) found.bends += 1;
    }
    const vertical = layout(jobs, edges, { ...size, vertical: true });
    found.upwards = vertical.edges.filter(({ from, to }) => vertical.nodes.get(from).y >= vertical.nodes.get(to).y).length;
    return { ...found, nodes: plan.nodes.size, edges: plan.edges.length };
  });
  assert.deepEqual(seen, { overlaps: 0, backwards: 0, bends: 0, upwards: 0, nodes: 1000, edges: 840 });
});

const last = async (job) => (await (await fetch(`${BASE}/api/v1/runs?job=${job}&limit=1`)).json())[0].id;
const shown = [['home', '/'], ['list', '/?view=list'], ['timeline', '/timeline?span=hour'], ['job', '/jobs/check'], ['run', `/runs/${await last('broken')}`]];

// Wide and light, narrow and dark: the two ends. One context each, so that the second page is warm.
for (const [width, height, scheme] of [[1440, 900, 'light'], [320, 640, 'dark']]) {
  await check(`at ${width} px, ${scheme}, nothing overflows and axe finds no serious problem`, async () => {
    const view = await open(width, height, scheme, { reducedMotion: 'reduce', bypassCSP: true });
    for (const [name, to] of shown) {
      await view.goto(BASE + to);
      await view.locator('main h1').waitFor();
      await view.locator('#link[data-link=live]').waitFor();
      await view.screenshot({ path: path.join(SHOTS, `${name}-${width}.png`), fullPage: true });
      const over = await view.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${name} is ${over} px too wide`);
      await view.evaluate(`${axe};0`);
      const found = await view.evaluate(async () => (await axe.run({ resultTypes: ['violations'] })).violations.filter((one) => ['serious', 'critical'].includes(one.impact)).map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(' ')}`));
      assert.deepEqual(found, [], name);
    }
    await view.context().close();
  });
}

await check('the connection comes back by itself', async () => {
  await go('/');
  await page.context().setOffline(true);
  // Offline does not close open connections: a page that was hidden and is shown again reconnects.
  await page.evaluate(() => {
    for (const hidden of [true, false]) {
      Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }
  });
  await page.locator('#link[data-link=lost]').waitFor();
  await page.context().setOffline(false);
  await page.locator('#link[data-link=live]').waitFor();
});

await check('the console is clean, and no other host was asked for anything', async () => {
  // The browser itself writes a line about each answer that a check above asked for: no token, no such job, no network.
  const asked = /status of 401 .*\/trigger\)$|status of 404 .*no%20such%20job|ERR_INTERNET_DISCONNECTED/;
  assert.deepEqual(complaints.filter((text) => !asked.test(text)), []);
  assert.deepEqual(strangers, []);
});

await browser.close();
