#!/usr/bin/env python3
"""The figures of measure.py as tables and a plot. usage: report.py RESULT.json PAGE SUMMARY_PAGE SVG_FILE
All tables go between `<!-- peers -->` and `<!-- /peers -->` of the first page, one of the main figures with the plot between
the same marks of the second."""
import json, os, sys

HEAD = {
    'footprint': ('Memory and start', [('rss 10', 'RSS, 10 jobs, kB'), ('rss 10000', '10,000'), ('private 10', 'private, 10 jobs, kB'), ('private 1000', '1,000'),
                                       ('private 10000', '10,000'), ('dirty 10000', 'of it dirty'), ('start ms 10000', 'start with 10,000, ms')]),
    'idle': ('Nothing due for 60 s, 10,000 jobs', [('switches', 'context switches'), ('cpu ms', 'CPU, ms'), ('calls', 'system calls')]),
    'latency': ('From the due instant to the first instruction of the job', [('p50 ms', 'p50, ms'), ('p99 ms', 'p99, ms'), ('n', 'firings')]),
    'burst': ('1,000 jobs due at one instant', [('last ms', 'last started, ms'), ('ratio', 'to posix_spawn'), ('lost', 'lost')]),
    'dag': ('Graphs, to posix_spawn at the same width', [('ratio chain', 'chain of 1,000'), ('us chain', 'us a node'), ('ratio fan', '1 → 1,000 → 1'),
                                                         ('ratio 10x100', '10 × 100'), ('ratio 100x100', '100 × 100')]),
    'flat': ('Commands without order, to posix_spawn', [('ratio 1000 by 2', '1,000, 2 at once'), ('ratio 1000 by 8', '8 at once'),
                                                        ('ratio 1000 by 32', '32 at once'), ('ratio 10000 by 8', '10,000, 8 at once')]),
}


def show(value):
    if value is None or value != value:
        return ''
    return f'{value:,.0f}' if value >= 100 or value == int(value) else f'{value:.1f}' if value >= 10 else f'{value:.2f}'


def tables(result):
    about = result['about']
    out = [f'{about["version"]}, {about["date"]}, {about["machine"]}.']
    for key, (title, columns) in HEAD.items():
        rows = result.get(key, {})
        columns = [column for column in columns if any(column[0] in row for row in rows.values())]
        if not columns:
            continue
        out += ['', f'**{title}**', '', '| | ' + ' | '.join(head for _, head in columns) + ' |', '| --- |' + ' --: |' * len(columns)]
        for who, row in sorted(rows.items(), key=lambda row: row[0] != 'firelink'):
            cells = [show(row.get(name)) for name, _ in columns]
            if any(cells):
                out.append(f'| {who} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(out)


# The order of the rows.
SUMMARY = [
    ('footprint', 'rss 10', 'memory (RSS) with 10 jobs, kB'),
    ('footprint', 'rss 10000', 'with 10,000 jobs, kB'),
    ('footprint', 'private 10000', 'of it private, kB'),
    ('footprint', 'start ms 10000', 'start with 10,000 jobs, ms'),
    ('idle', 'switches', 'idle for 60 s with 10,000 jobs: context switches'),
    ('idle', 'calls', 'and system calls'),
    ('latency', 'p50 ms', 'from due to the first instruction, median, ms'),
    ('latency', 'p99 ms', 'p99, ms'),
    ('burst', 'ratio', '1,000 due at once, speed to posix_spawn'),
    ('dag', 'ratio chain', 'a chain of 1,000 jobs, speed to posix_spawn'),
    ('dag', 'ratio 100x100', 'a graph of 100 × 100'),
    ('flat', 'ratio 1000 by 8', '1,000 commands, 8 at once'),
]
WHO = [('firelink', ('firelink',)), ('Debian cron', ('Debian cron',)), ('APScheduler', ('APScheduler',)), ('make', ('make',)), ('ninja', ('ninja',)),
       ('bare C', ('posix_spawn', 'timerfd + posix_spawn', 'C in epoll_wait'))]


def summary(result):
    about = result['about']
    out = [f'{about["version"]}, {about["date"]}, {about["machine"]}.', '',
           '| | ' + ' | '.join(name for name, _ in WHO) + ' |', '| --- |' + ' --: |' * len(WHO)]
    for table, key, title in SUMMARY:
        rows = result.get(table, {})
        cells = [next((show(rows[name][key]) for name in names if key in rows.get(name, {})), '') for _, names in WHO]
        if any(cells):
            out.append(f'| {title} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(out)


def plot(result):
    """Bars: what a scheduler with 10,000 jobs keeps for itself, and how late a job is."""
    panels = []
    for table, key, title in (('footprint', 'private 10000', 'private memory with 10,000 jobs, kB'), ('latency', 'p99 ms', 'late by (p99), ms'),
                              ('burst', 'last ms', '1,000 due at once: last started after, ms'), ('dag', 'us 10x100', 'graph of 10 × 100: us a node')):
        rows = [(who, row[key]) for who, row in result.get(table, {}).items() if row.get(key)]
        if rows:
            panels.append((title, sorted(rows, key=lambda row: row[1])))
    body, y = [], 10
    for title, rows in panels:
        body.append(f'<text x="10" y="{y + 14}" font-weight="bold">{title}</text>')
        y += 24
        most = max(value for _, value in rows)
        for who, value in rows:
            colour = '#d9480f' if who == 'firelink' else '#adb5bd'
            width = max(2, 360 * value / most)
            body.append(f'<text x="170" y="{y + 12}" text-anchor="end">{who}</text><rect x="180" y="{y}" width="{width:.1f}" height="14" fill="{colour}"/>'
                        f'<text x="{186 + width:.1f}" y="{y + 12}">{show(value)}</text>')
            y += 19
        y += 12
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{y}" font-family="sans-serif" font-size="12">'
            f'<rect width="100%" height="100%" fill="white"/>{"".join(body)}</svg>\n')


def put(page, body):
    begin, end = '<!-- peers -->', '<!-- /peers -->'
    with open(page) as file:
        text = file.read()
    if begin not in text or end not in text:
        sys.exit(f'{page} has no place for the tables: {begin} and {end}')
    head, rest = text.split(begin, 1)
    with open(page, 'w') as file:
        file.write(f'{head}{begin}\n{body}\n{end}{rest.split(end, 1)[1]}')


if __name__ == '__main__':
    source, page, first, svg = sys.argv[1:5]
    with open(source) as file:
        result = json.load(file)
    put(page, tables(result))
    picture = os.path.relpath(svg, os.path.dirname(first) or '.')
    put(first, f'{summary(result)}\n\n![firelink beside its peers]({picture})')
    with open(svg, 'w') as file:
        file.write(plot(result))
