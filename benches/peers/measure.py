#!/usr/bin/env python3
"""Measures firelink and its peers, a part after the other, each firelink figure in the same run as those beside it.
usage: measure.py OUT.json [footprint] [idle] [latency] [burst] [dag] [flat]"""
import datetime, json, platform, random, sys
from machine import *

RESULT = {}
SIZES = (10, 1_000, 10_000)


def note(table, who, **figures):
    RESULT.setdefault(table, {}).setdefault(who, {}).update(figures)
    print(f'{table:10} {who:16} ' + '  '.join(f'{key} {value:,.4g}' for key, value in figures.items()), flush=True)


def footprint():
    for size in SIZES:
        for name, start in daemons().items():
            runs = []
            for _ in range(3 if name == 'firelink' else 1):
                daemon = start(fresh(f'footprint-{name.split()[0]}'), far(size))
                try:
                    ready = daemon.asleep()
                    time.sleep(0.5)
                    runs.append((*memory(daemon.pid), ready * 1000))
                finally:
                    daemon.stop()
            rss, private, dirty, ready = (median(column) for column in zip(*runs))
            note('footprint', name, **{f'rss {size}': rss, f'private {size}': private, f'dirty {size}': dirty, f'start ms {size}': ready})
    daemon = Daemon([FLOOR, 'idle'])
    time.sleep(0.3)
    rss, private, dirty = memory(daemon.pid)
    daemon.stop()
    note('footprint', 'C in epoll_wait', **{'rss 10': rss, 'private 10': private, 'dirty 10': dirty})


def idle(seconds=60, size=10_000):
    """All side by side; then a shorter look with strace."""
    live = {name: start(fresh(f'idle-{name.split()[0]}'), far(size)) for name, start in daemons().items()}
    try:
        for daemon in live.values():
            daemon.asleep(calm=2, limit=90)
        look = lambda: {name: (switches(daemon.pid), cpu_ms(daemon.pid)) for name, daemon in live.items()}
        before = look()
        time.sleep(seconds)
        after = look()
        traced = {}
        if shutil.which('strace'):
            for name, daemon in live.items():
                out = os.path.join(WORK, f'strace.{name.split()[0]}')
                strace = ['strace', '-c', '-f', '-o', out, '-p', str(daemon.pid)]
                traced[name] = out, subprocess.Popen(strace, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(seconds)
            for out, strace in traced.values():
                strace.send_signal(signal.SIGINT)
                strace.wait()
    finally:
        for daemon in live.values():
            daemon.stop()
    for name in live:
        figures = {'switches': after[name][0] - before[name][0], 'cpu ms': after[name][1] - before[name][1]}
        if name in traced:
            rows = [line.split() for line in read(traced[name][0]).splitlines()]
            calls = [int(row[3]) for row in rows if len(row) >= 5 and row[0][0].isdigit() and row[-1] != 'total']
            # The call that it sleeps in was begun before and is cut short by strace's leaving.
            figures['calls'] = sum(calls)
        note('idle', name, **figures)


def show_latency(name, late_ms):
    if late_ms:
        note('latency', name, **{'p50 ms': median(late_ms), 'p99 ms': percentile(late_ms, 99), 'n': len(late_ms)})


def latency(seconds=60):
    out = os.path.join(WORK, 'latency')
    write(out, '')
    # As often as the others, because a machine that was left alone for a second is slower to wake.
    due = subprocess.run([FLOOR, 'timer', str(seconds), '1000', out], capture_output=True, text=True).stdout.split()
    show_latency('timerfd + posix_spawn', [(at - int(when)) / 1e6 for at, when in zip(stamps(out), due)])
    here = daemons()
    for name in (name for name in SECONDS if name in here):
        write(out, '')
        daemon = here[name](fresh('latency'), [('* * * * * *', STAMP + [out])])
        time.sleep(seconds + 2)
        daemon.stop()
        show_latency(name, [at % 10**9 / 1e6 for at in stamps(out)][1:])
    minutes = [name for name in here if name not in SECONDS]
    late = {name: [] for name in minutes}
    for _ in range(2 if minutes else 0):
        # A fresh start at another phase for each firing: most of them keep the phase that they were started with.
        time.sleep((35 - time.time()) % 60)
        live = []
        for index in range(8):
            for name in minutes:
                path = write(os.path.join(WORK, f'latency.{name.split()[0]}.{index}'), '')
                time.sleep(random.random() * 0.4)
                live.append((name, path, here[name](fresh(f'latency-{name.split()[0]}-{index}'), [('* * * * *', STAMP + [path])])))
        due = (time.time() // 60 + 1) * 60
        time.sleep(due - time.time() + 4)
        for name, path, daemon in live:
            daemon.stop()
            late[name] += [at / 1e6 - due * 1e3 for at in stamps(path)[:1]]
    for name in minutes:
        show_latency(name, late[name])


def spawn_rate(count, at_once, how='posix'):
    done = subprocess.run([FLOOR, 'spawn', str(count), str(at_once), how, *STAMP, '/dev/null'], capture_output=True, text=True, check=True)
    return float(done.stdout)


def burst(count=1_000):
    raw = median([spawn_rate(count, 64) for _ in range(5)])
    note('burst', 'posix_spawn', **{'last ms': count / raw * 1000, 'ratio': 1.0, 'lost': 0})
    out = os.path.join(WORK, 'burst')
    for name, start in daemons().items():
        lasts, lost = [], 0
        for _ in range(3 if name in SECONDS else 1):
            write(out, '')
            now = time.time()
            due = int(now) + 5 if name in SECONDS else (now // 60 + 1) * 60
            if due - now < 5:
                due += 60 if name not in SECONDS else 5
            time.sleep(max(0, due - time.time() - 20))
            at = time.localtime(due)
            when = f'{at.tm_min} {at.tm_hour} * * *'
            when = f'{at.tm_sec} {when}' if name in SECONDS else when
            daemon = start(fresh('burst'), [(when, STAMP + [out])] * count)
            end = due + 30
            while time.time() < end and os.stat(out).st_size < count * 8:
                time.sleep(0.01)
            time.sleep(0.5)
            daemon.stop()
            found = sorted(stamps(out))
            lost = max(lost, count - len(found))
            lasts += [found[-1] / 1e6 - due * 1e3] if found else []
        if lasts:
            note('burst', name, **{'last ms': median(lasts), 'ratio': count / raw * 1000 / median(lasts), 'lost': lost})


# Graphs: for each node the nodes before it.
def chain(count):
    return [[index - 1] if index else [] for index in range(count)]


def fan(count):
    return [[]] + [[0] for _ in range(count)] + [list(range(1, count + 1))]


def layers(depth, width, degree=3):
    dice = random.Random(1)
    return [[(layer - 1) * width + before for before in dice.sample(range(width), degree)] if layer else []
            for layer in range(depth) for _ in range(width)]


def by_firelink(graph, at_once):
    """From `ctl trigger` until the last node's end, with every run recorded."""
    folder = fresh('dag')
    ends = set(range(len(graph))) - {before for befores in graph for before in befores}
    command = f'command: {list_of(STAMP + ["/dev/null"])}'
    text = [f'max_parallel: {at_once}\njobs:\n  - {{ name: go, trigger: manual }}\n']
    for index, befores in enumerate(graph):
        deps = ', '.join(f'n{before}' for before in befores) or 'go'
        text.append(f'  - {{ name: n{index}, depends_on: [{deps}], {command} }}\n')
    over = write(f'{folder}/over', '')
    last = list_of(STAMP + [over])
    text.append(f'  - {{ name: done, depends_on: [{", ".join(f"n{end}" for end in sorted(ends))}], command: {last} }}\n')
    daemon = firelink_daemon(folder, ''.join(text))
    try:
        daemon.asleep()
        env = {**os.environ, 'FIRELINK_SOCKET': f'{folder}/socket'}
        ask = lambda *args: subprocess.run([FIRELINK, *args], env=env, capture_output=True, text=True)
        begun = time.time()
        asked = ask('ctl', 'trigger', 'go')
        if asked.returncode:
            raise RuntimeError(asked.stderr)
        while not stamps(over):
            if time.time() > begun + 120:
                raise RuntimeError('the graph did not come to its end')
            time.sleep(0.02)
        took = stamps(over)[0] / 1e9 - begun
        answer = ask('history', '--state-dir', f'{folder}/state', '--limit', str(2 * len(graph)), '--format', 'json').stdout
        recorded = sum(run['job'].startswith('n') and run['state'] == 'succeeded' for run in json.loads(answer or '[]'))
        if recorded != len(graph):
            raise RuntimeError(f'{recorded} of {len(graph)} runs are recorded')
        return took
    finally:
        daemon.stop()


def timed(argv, cwd, stdin=None):
    begun = time.monotonic()
    subprocess.run(argv, cwd=cwd, stdin=stdin or subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.monotonic() - begun


def by_make(graph, at_once):
    folder, names = fresh('make'), ' '.join(f't{index}' for index in range(len(graph)))
    rules = ''.join(f't{index}: {" ".join(f"t{before}" for before in befores)}\n\t@{" ".join(STAMP)} /dev/null\n'
                    for index, befores in enumerate(graph))
    write(f'{folder}/Makefile', f'.SUFFIXES:\n.PHONY: all {names}\nall: {names}\n{rules}')
    return timed(['make', '-s', '-r', f'-j{at_once}'], folder)


def by_ninja(graph, at_once):
    folder = fresh('ninja')
    builds = ''.join(f'build t{index}: r {" ".join(f"t{before}" for before in befores)}\n' for index, befores in enumerate(graph))
    write(f'{folder}/build.ninja', f'rule r\n  command = {" ".join(STAMP)} /dev/null\n{builds}')
    return timed(['ninja', '--quiet', f'-j{at_once}'], folder)


def by_xargs(graph, at_once):
    folder = fresh('xargs')
    with open(write(f'{folder}/in', '/dev/null\n' * len(graph))) as lines:
        return timed(['xargs', '-P', str(at_once), '-n', '1', *STAMP], folder, lines)


def graphs(table, shapes, tools):
    for name, graph, at_once, runs in shapes:
        count = len(graph)
        ways = {
            'posix_spawn': lambda: count / spawn_rate(count, at_once),
            'fork + exec': lambda: count / spawn_rate(count, at_once, 'fork'),
            **{tool: lambda run=run: run(graph, max(at_once, 8) if table == 'dag' else at_once) for tool, run in tools.items()},
        }
        # In turn, so that what else the machine does meets all of them.
        rounds = [{way: run() for way, run in ways.items()} for _ in range(runs)]
        took = {way: median([each[way] for each in rounds]) for way in ways}
        for way in ways:
            note(table, way, **{f'ratio {name}': took['posix_spawn'] / took[way], f'us {name}': took[way] / count * 1e6})


def tools(*with_graphs):
    here = {'firelink': by_firelink}
    here.update({name: run for name, run in with_graphs if shutil.which(name)})
    return here


def dag():
    shapes = [('chain', chain(1_000), 1, 5), ('fan', fan(1_000), 8, 5), ('10x100', layers(10, 100), 8, 5), ('100x100', layers(100, 100), 8, 3)]
    graphs('dag', shapes, tools(('make', by_make), ('ninja', by_ninja)))


def flat():
    bare = lambda count: [[] for _ in range(count)]
    shapes = [('1000 by 2', bare(1_000), 2, 5), ('1000 by 8', bare(1_000), 8, 5), ('1000 by 32', bare(1_000), 32, 5),
              ('10000 by 8', bare(10_000), 8, 3)]
    graphs('flat', shapes, tools(('make', by_make), ('ninja', by_ninja), ('xargs', by_xargs)))


PARTS = {'footprint': footprint, 'idle': idle, 'latency': latency, 'burst': burst, 'dag': dag, 'flat': flat}

if __name__ == '__main__':
    out, wanted = sys.argv[1], sys.argv[2:] or list(PARTS)
    cpu = next((line.split(':')[1].strip() for line in read('/proc/cpuinfo').splitlines() if line.startswith('model name')), platform.machine())
    if sys.argv[2:] and os.path.exists(out):
        # A part that is measured alone takes the place of its table; the others stay.
        RESULT.update({part: table for part, table in json.loads(read(out)).items() if part not in wanted})
    load = busy()
    if load > 10:
        print(f'the machine is {load:.0f} % busy: these figures will be worth little', file=sys.stderr)
    RESULT['about'] = {'date': datetime.date.today().isoformat(), 'machine': f'{os.cpu_count()} x {cpu}, Linux {platform.release().split("-")[0]}', 'busy': load,
                       'version': subprocess.run([FIRELINK, '--version'], capture_output=True, text=True).stdout.strip()}
    for part in wanted:
        try:
            PARTS[part]()
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            print(f'{part}: {error}', file=sys.stderr)
        write(out, json.dumps(RESULT, indent=1) + '\n')
