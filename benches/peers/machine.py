"""Processes under measurement, and what /proc says of them. Standard library only."""
import contextlib, ctypes, os, re, shutil, signal, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WORK = os.environ.get('PEERS_DIR', os.path.join(ROOT, 'target', 'peers'))
FIRELINK = os.environ.get('FIRELINK', os.path.join(ROOT, 'target', 'release', 'firelink'))
FLOOR = os.path.join(WORK, 'floor')
CRONIE = os.environ.get('CRONIE_BIN', '')
APS = os.path.join(WORK, 'venv', 'bin', 'python')
BUSYBOX = next((b for b in (os.environ.get('BUSYBOX', ''), shutil.which('busybox') or '') if b), '')
STAMP = [FLOOR, 'stamp']
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def read(path):
    with open(path) as file:
        return file.read()


def median(values):
    values = sorted(values)
    return values[len(values) // 2] if len(values) % 2 else (values[len(values) // 2 - 1] + values[len(values) // 2]) / 2


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p / 100))]


def memory(pid):
    """RSS, private and private dirty kB. Private counts the program's own pages of its file, unless another process has it open too."""
    rollup = read(f'/proc/{pid}/smaps_rollup')
    field = lambda key: int(re.search(rf'^{key}:\s+(\d+)', rollup, re.M).group(1))
    return field('Rss'), field('Private_Clean') + field('Private_Dirty'), field('Private_Dirty')


def tasks(pid):
    return os.listdir(f'/proc/{pid}/task')


def switches(pid):
    status = ''.join(read(f'/proc/{pid}/task/{task}/status') for task in tasks(pid))
    return sum(int(count) for count in re.findall(r'ctxt_switches:\s+(\d+)', status))


def cpu_ms(pid):
    return sum(int(read(f'/proc/{pid}/task/{task}/schedstat').split()[0]) for task in tasks(pid)) / 1e6


def busy(seconds=1.0):
    """How busy the machine is, in percent."""
    def look():
        fields = [int(field) for field in open('/proc/stat').readline().split()[1:9]]
        return sum(fields), fields[3] + fields[4]
    (all0, idle0) = look()
    time.sleep(seconds)
    (all1, idle1) = look()
    return 100 * (1 - (idle1 - idle0) / max(1, all1 - all0))


def fresh(name):
    path = os.path.join(WORK, 'run', name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def write(path, text, mode=0o644):
    with open(path, 'w') as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def stamps(path):
    try:
        data = open(path, 'rb').read()
    except FileNotFoundError:
        return []
    return [int.from_bytes(data[at:at + 8], 'little') for at in range(0, len(data) // 8 * 8, 8)]


libc = ctypes.CDLL(None, use_errno=True)


class Daemon:
    """A program that is measured. With `mounts` it lives in a mount namespace of its own: (what or 'tmpfs', where)."""

    def __init__(self, argv, mounts=(), env=None):
        def enter():
            if mounts and libc.unshare(0x00020000):
                os._exit(120)
            if mounts:
                libc.mount(b'none', b'/', None, 0x4000 | (1 << 18), None)
            for what, where in mounts:
                bind = libc.mount(b'tmpfs', where.encode(), b'tmpfs', 0, None) if what == 'tmpfs' else libc.mount(
                    what.encode(), where.encode(), None, 0x1000, None)
                if bind:
                    os._exit(121)
        null = subprocess.DEVNULL
        self.started = time.monotonic()
        self.process = subprocess.Popen(argv, stdin=null, stdout=null, stderr=null, env={**os.environ, **(env or {})},
                                        start_new_session=True, preexec_fn=enter, cwd='/')
        self.pid = self.process.pid

    def asleep(self, calm=0.7, limit=60):
        """Seconds from the start until it last used the processor before a rest: loaded."""
        last, seen = self.started, None
        while time.monotonic() < self.started + limit:
            if self.process.poll() is not None:
                raise RuntimeError(f'it ended with {self.process.returncode}')
            now = time.monotonic()
            look = read(f'/proc/{self.pid}/schedstat'), read(f'/proc/{self.pid}/stat').rsplit(')', 1)[1].split()[0]
            if look != seen:
                seen, last = look, now
            elif now - last > calm and look[1] == 'S':
                return last - self.started
            time.sleep(0.0005)
        return float('nan')

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# A job is (five or six fields, argv).
def firelink_yaml(jobs, top='', more=''):
    lines = (f'  - {{ name: j{index}, trigger: cron, schedule: "{when}", command: {list_of(argv)}{more} }}\n'
             for index, (when, argv) in enumerate(jobs))
    return f'{top}jobs:\n' + ''.join(lines)


def list_of(argv):
    return '[' + ', '.join(f'"{word}"' for word in argv) + ']'


def firelink_daemon(folder, yaml):
    config = write(f'{folder}/firelink.yaml', yaml)
    env = {'FIRELINK_SOCKET': f'{folder}/socket'}
    return Daemon([FIRELINK, 'run', config, '--state-dir', f'{folder}/state', '--socket', f'{folder}/socket', '--log-level', 'warn'], env=env)


def firelink(folder, jobs):
    return firelink_daemon(folder, firelink_yaml(jobs, 'max_parallel: 64\n'))


def crontab(jobs, user=''):
    return ''.join(f'{when} {user}{" ".join(argv)}\n' for when, argv in jobs)


def debian_cron(folder, jobs):
    os.makedirs(f'{folder}/cron.d')
    os.makedirs(f'{folder}/spool')
    write(f'{folder}/cron.d/peers', 'MAILTO=""\n' + crontab(jobs, 'root '))
    write(f'{folder}/crontab', '')
    return Daemon(['/usr/sbin/cron', '-f'], [(f'{folder}/cron.d', '/etc/cron.d'), (f'{folder}/crontab', '/etc/crontab'),
                                             (f'{folder}/spool', '/var/spool/cron/crontabs'), ('tmpfs', '/run')])


def busybox_crond(folder, jobs):
    os.makedirs(f'{folder}/tabs')
    write(f'{folder}/tabs/root', crontab(jobs), 0o600)
    return Daemon([BUSYBOX, 'crond', '-f', '-c', f'{folder}/tabs'])


APSCHEDULER = '''import subprocess, sys
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.cron import CronTrigger
scheduler = BlockingScheduler(job_defaults={"misfire_grace_time": None})
for line in open(sys.argv[1]):
    when, command = line.rstrip("\\n").split("\\t")
    f = when.split()
    f = f if len(f) == 6 else ["0"] + f
    trigger = CronTrigger(second=f[0], minute=f[1], hour=f[2], day=f[3], month=f[4], day_of_week=f[5])
    scheduler.add_job(subprocess.run, trigger, args=[command.split()])
scheduler.start()
'''


def apscheduler(folder, jobs):
    write(f'{folder}/jobs', ''.join(f'{when}\t{" ".join(argv)}\n' for when, argv in jobs))
    write(f'{folder}/main.py', APSCHEDULER)
    return Daemon([APS, f'{folder}/main.py', f'{folder}/jobs'])


def daemons():
    """The installed schedulers, firelink first; those with seconds in their schedules are marked."""
    here = {'firelink': firelink}
    if os.path.exists('/usr/sbin/cron') and os.geteuid() == 0:
        here['Debian cron'] = debian_cron
    applets = subprocess.run([BUSYBOX, '--list'], capture_output=True, text=True).stdout.split() if BUSYBOX else []
    if 'crond' in applets and os.geteuid() == 0:
        here['busybox crond'] = busybox_crond
    if os.path.exists(APS):
        here['APScheduler'] = apscheduler
    return here


SECONDS = ('firelink', 'APScheduler')


def far(count):
    """Jobs that are not due for months."""
    month = (time.gmtime().tm_mon + 5) % 12 + 1
    return [(f'{index % 60} {index // 60 % 24} 1 {month} *', STAMP + ['/dev/null']) for index in range(count)]
