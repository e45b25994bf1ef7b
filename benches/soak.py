#!/usr/bin/env python3
"""A daemon at work for a long time: events of a plugin at a steady rate, a process each. Every few seconds its memory,
descriptors, disk and latency are noted; at the end they are compared with those of the beginning and drawn.

usage: benches/soak.py [--minutes 30] [--rate 50] [--plot docs/soak.svg]
Ends with 1 if an event was lost, or if memory, descriptors or latency grew."""
import argparse, json, os, subprocess, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'peers'))
from machine import *

PLUGIN = '''import sys, time
rate, count = int(sys.argv[1]), int(sys.argv[2])
due = time.monotonic()
for number in range(count):
    due += 1 / rate
    time.sleep(max(0, due - time.monotonic()))
    print('{"at":%d,"n":%d}' % (time.time_ns(), number), flush=True)
while True: time.sleep(60)
'''


def disk(folder):
    return sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(folder) for name in names) / 1024


def draw(samples, path, title):
    panels = [('rss', 'RSS, kB'), ('private', 'private dirty, kB'), ('fds', 'descriptors'), ('disk', 'state, kB'), ('p50', 'latency p50, ms'), ('p99', 'latency p99, ms')]
    body, y = [f'<text x="10" y="18" font-weight="bold">{title}</text>'], 30
    longest = max(sample['minute'] for sample in samples) or 1
    for key, name in panels:
        values = [sample[key] for sample in samples]
        top = max(values) * 1.1 or 1
        points = ' '.join(f'{150 + 460 * s["minute"] / longest:.1f},{y + 60 - 60 * s[key] / top:.1f}' for s in samples)
        body.append(f'<text x="140" y="{y + 34}" text-anchor="end">{name}</text><text x="618" y="{y + 34}">{values[-1]:,.4g}</text>'
                    f'<rect x="150" y="{y}" width="460" height="60" fill="#f1f3f5"/><polyline points="{points}" fill="none" stroke="#d9480f" stroke-width="1.5"/>')
        y += 74
    with open(path, 'w') as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="690" height="{y}" font-family="sans-serif" font-size="12">'
                   f'<rect width="100%" height="100%" fill="white"/>{"".join(body)}</svg>\n')


def main():
    args = argparse.ArgumentParser()
    args.add_argument('--minutes', type=float, default=30)
    args.add_argument('--rate', type=int, default=50)
    args.add_argument('--plot', default='')
    args = args.parse_args()
    os.makedirs(WORK, exist_ok=True)
    subprocess.run(['cc', '-O2', '-static', '-o', FLOOR, os.path.join(HERE, 'floor.c')], check=True)
    folder = fresh('soak')
    events, late = int(args.minutes * 60 * args.rate), write(f'{folder}/late', '')
    plugin = list_of([sys.executable, write(f'{folder}/plugin.py', PLUGIN), str(args.rate), str(events)])
    daemon = firelink_daemon(folder, f'''max_parallel: 32
jobs:
  - name: soak
    trigger: {{ type: plugin, command: {plugin} }}
    command: {list_of([FLOOR, 'event', late])}
    concurrency: allow
''')
    samples, seen, begun = [], 0, time.monotonic()
    try:
        while seen < events and time.monotonic() < begun + args.minutes * 60 + 60:
            time.sleep(min(5, args.minutes * 3))
            fresh_ones = [value / 1e6 for value in stamps(late)[seen:]]
            seen += len(fresh_ones)
            if not fresh_ones:
                continue
            rss, _, private = memory(daemon.pid)
            samples.append(dict(minute=(time.monotonic() - begun) / 60, rss=rss, private=private, fds=len(os.listdir(f'/proc/{daemon.pid}/fd')),
                                disk=disk(f'{folder}/state'), p50=median(fresh_ones), p99=percentile(fresh_ones, 99), events=seen))
    finally:
        daemon.stop()
    write(f'{folder}/samples.json', json.dumps(samples) + '\n')
    title = f'{args.minutes:g} minutes at {args.rate} events a second: {seen:,} of {events:,} ran'
    print(title)
    # The first tenth is the daemon's youth: its history fills up to what `keep_runs` keeps.
    young, old = samples[len(samples) // 10:][:max(1, len(samples) // 5)], samples[-max(1, len(samples) // 5):]
    grew = []
    # A daemon of one megabyte grows by a quarter when a busy moment has it start twenty at once; a leak of ten bytes a run, which
    # is 900 kB in half an hour, still shows.
    for key, factor, slack in ('rss', 1.10, 0), ('private', 1.15, 384), ('fds', 1.25, 0), ('disk', 1.5, 0), ('p50', 1.5, 0):
        before, after = median([sample[key] for sample in young]), median([sample[key] for sample in old])
        print(f'{key:8} {before:10,.4g} -> {after:10,.4g}')
        grew += [key] if after > before * factor + slack else []
    if args.plot:
        draw(samples, args.plot, title)
    if seen < events or grew:
        sys.exit(f'lost {events - seen}, grew: {grew}')


if __name__ == '__main__':
    main()
