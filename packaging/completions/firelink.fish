# Made by FIRELINK_UPDATE=1 cargo test --test reference; what is changed here is lost.
function __firelink_jobs
    firelink status --format json 2>/dev/null | grep -o '"name":"[^"]*"' | cut -d '"' -f 4
end

# The words of the command so far, without options.
function __firelink_at
    set -l words (commandline -opc | string match -v -- '-*')[2..]
    set -l depth (count $argv)
    if test $depth -gt 0; and test "$words[1..$depth]" != "$argv"
        return 1
    end
    set -l next (math $depth + 1)
    not contains -- "$words[$next]" (__firelink_below $argv)
end

function __firelink_below
    switch "$argv"
        case ''
            printf '%s\n' run check next simulate schema graph import history ctl status stop
        case 'ctl'
            printf '%s\n' status trigger cancel retry logs events pause resume reload stop
    end
end

complete -c firelink -f
complete -c firelink -n '__firelink_at' -a run -d 'run the daemon, in the foreground unless --detach is given'
complete -c firelink -n '__firelink_at' -a check -d 'check a configuration and show when each job fires next; with --state, check the state instead'
complete -c firelink -n '__firelink_at' -a next -d 'show when a schedule, or each cron job of a configuration, fires next'
complete -c firelink -n '__firelink_at' -a simulate -d 'show what would run when, by the real engine in virtual time: no process is started, each attempt succeeds at once, and nothing comes from buckets, files or plugins'
complete -c firelink -n '__firelink_at' -a schema -d 'print the JSON Schema of the configuration, with which editors complete and check it'
complete -c firelink -n '__firelink_at' -a graph -d 'draw the dependencies of the jobs'
complete -c firelink -n '__firelink_at' -a import -d 'write a crontab as a configuration, to stdout'
complete -c firelink -n '__firelink_at' -a history -d 'show past runs, newest first'
complete -c firelink -n '__firelink_at' -a ctl -d 'talk to the daemon'
complete -c firelink -n '__firelink_at' -a status -d 'show how the daemon and its jobs stand'
complete -c firelink -n '__firelink_at' -a stop -d 'end the daemon: nothing new starts, running jobs get shutdown_timeout, then SIGTERM, then SIGKILL'
complete -c firelink -n '__firelink_at' -l version -d 'print the version'
complete -c firelink -n '__firelink_at run' -F
complete -c firelink -n '__firelink_at run' -l detach -d 'go on in the background once everything is armed; the log is then firelink.log in the state\'s directory, if not --log-file'
complete -c firelink -n '__firelink_at run' -l pid-file -r -F -d 'a file to hold the daemon\'s pid while it runs'
complete -c firelink -n '__firelink_at run' -l log-file -x -d 'a file for the log instead of stderr; SIGUSR1 opens it anew'
complete -c firelink -n '__firelink_at run' -l log-level -x -a 'off error warn info debug trace' -d 'off, error, warn, info (default), debug or trace'
complete -c firelink -n '__firelink_at run' -l log-format -x -a 'text json' -d 'text (default) or json'
complete -c firelink -n '__firelink_at run' -l state-dir -x -a '(__fish_complete_directories)' -d 'where the state is kept, instead of the configuration\'s or the default place'
complete -c firelink -n '__firelink_at run' -l socket -r -F -d 'the control socket, instead of $FIRELINK_SOCKET or the default place'
complete -c firelink -n '__firelink_at check' -F
complete -c firelink -n '__firelink_at check' -l state -d 'check the database in the state directory: the configuration\'s, that of --state-dir, or the default place'
complete -c firelink -n '__firelink_at check' -l state-dir -x -a '(__fish_complete_directories)' -d 'where the state is kept, for --state'
complete -c firelink -n '__firelink_at check' -l format -x -a 'text json' -d 'text (default) or json'
complete -c firelink -n '__firelink_at next' -F
complete -c firelink -n '__firelink_at next' -l job -x -a '(__firelink_jobs)' -d 'only this job of the configuration'
complete -c firelink -n '__firelink_at next' -l schedule -x -d 'a schedule: five fields, six with leading seconds, or a macro like @daily'
complete -c firelink -n '__firelink_at next' -l timezone -x -d 'the zone it is read in, like Europe/Berlin; the system\'s own if not given'
complete -c firelink -n '__firelink_at next' -l after -x -d 'the instant, in RFC 3339, after which to look; now if not given'
complete -c firelink -n '__firelink_at next' -l count -x -d 'how many firings; 5 if not given'
complete -c firelink -n '__firelink_at next' -l format -x -a 'text json' -d 'text (default) or json'
complete -c firelink -n '__firelink_at simulate' -F
complete -c firelink -n '__firelink_at simulate' -l from -x -d 'the first instant, in RFC 3339, like 2026-10-25T00:00:00+02:00'
complete -c firelink -n '__firelink_at simulate' -l to -x -d 'the instant at which to stop, which is not part of it'
complete -c firelink -n '__firelink_at simulate' -l format -x -a 'text json' -d 'text (default) or json'
complete -c firelink -n '__firelink_at graph' -F
complete -c firelink -n '__firelink_at graph' -l format -x -a 'text dot mermaid svg' -d 'text (default), dot, mermaid or svg'
complete -c firelink -n '__firelink_at import' -F
complete -c firelink -n '__firelink_at import' -l system -d 'each line names a user before its command, like /etc/crontab, which is known by its path'
complete -c firelink -n '__firelink_at import' -l user -d 'no line names a user'
complete -c firelink -n '__firelink_at history' -l job -x -a '(__firelink_jobs)' -d 'of this job only'
complete -c firelink -n '__firelink_at history' -l state -x -a 'pending running succeeded failed timed_out cancelled skipped lost missed' -d 'in this state only: pending, running, succeeded, failed, timed_out, cancelled, skipped, lost or missed'
complete -c firelink -n '__firelink_at history' -l since -x -d 'due then or later: an instant in RFC 3339, or how long ago, like 2h'
complete -c firelink -n '__firelink_at history' -l until -x -d 'due before then: an instant in RFC 3339, or how long ago, like 2h'
complete -c firelink -n '__firelink_at history' -l limit -x -d 'at most this many; 20 if not given'
complete -c firelink -n '__firelink_at history' -l run -x -d 'this run alone, with its attempts and the end of its output'
complete -c firelink -n '__firelink_at history' -l tail -x -d 'how many lines of the output --run shows; 10 if not given'
complete -c firelink -n '__firelink_at history' -l format -x -a 'text json' -d 'text (default) or json'
complete -c firelink -n '__firelink_at history' -l state-dir -x -a '(__fish_complete_directories)' -d 'where the state is kept, if not in the default place'
complete -c firelink -n '__firelink_at history' -l config -r -F -d 'the configuration, for its state_dir and its time zone'
complete -c firelink -n '__firelink_at ctl' -a status -d 'show how the daemon and its jobs stand'
complete -c firelink -n '__firelink_at ctl' -a trigger -d 'run a job now, or as soon as its dependencies allow'
complete -c firelink -n '__firelink_at ctl' -a cancel -d 'end a run: SIGTERM now, SIGKILL after its kill_grace'
complete -c firelink -n '__firelink_at ctl' -a retry -d 'run once more what did not succeed: a new run of the same event, whatever its dependencies did meanwhile'
complete -c firelink -n '__firelink_at ctl' -a logs -d 'show the output of a run'
complete -c firelink -n '__firelink_at ctl' -a events -d 'follow what happens, as JSON lines'
complete -c firelink -n '__firelink_at ctl' -a pause -d 'hold a job, or all: nothing of it starts until it is resumed'
complete -c firelink -n '__firelink_at ctl' -a resume -d 'let a paused job, or all, go on'
complete -c firelink -n '__firelink_at ctl' -a reload -d 'read the configuration anew; a wrong one changes nothing'
complete -c firelink -n '__firelink_at ctl' -a stop -d 'end the daemon: nothing new starts, running jobs get shutdown_timeout, then SIGTERM, then SIGKILL'
complete -c firelink -n '__firelink_at ctl status' -a '(__firelink_jobs)'
complete -c firelink -n '__firelink_at ctl status' -l watch -d 'stay, and draw anew what changes; Ctrl-C ends it'
complete -c firelink -n '__firelink_at ctl status' -l format -x -a 'text json' -d 'text (default) or json'
complete -c firelink -n '__firelink_at ctl status' -l socket -r -F -d 'the daemon\'s socket, instead of $FIRELINK_SOCKET or the default place'
complete -c firelink -n '__firelink_at ctl trigger' -a '(__firelink_jobs)'
complete -c firelink -n '__firelink_at ctl trigger' -l wait -d 'wait for the run\'s end; exit with 1 unless it succeeded'
complete -c firelink -n '__firelink_at ctl trigger' -l force -d 'run now, whatever its dependencies did'
complete -c firelink -n '__firelink_at ctl trigger' -l with-deps -d 'run all jobs that it depends on first, in order'
complete -c firelink -n '__firelink_at ctl trigger' -l format -x -a 'text json' -d 'text (default) or json'
complete -c firelink -n '__firelink_at ctl trigger' -l socket -r -F -d 'the daemon\'s socket, instead of $FIRELINK_SOCKET or the default place'
complete -c firelink -n '__firelink_at ctl cancel' -l format -x -a 'text json' -d 'text (default) or json'
complete -c firelink -n '__firelink_at ctl cancel' -l socket -r -F -d 'the daemon\'s socket, instead of $FIRELINK_SOCKET or the default place'
complete -c firelink -n '__firelink_at ctl retry' -l downstream -d 'also run what was skipped because of it, once this has succeeded'
complete -c firelink -n '__firelink_at ctl retry' -l wait -d 'wait for the run\'s end; exit with 1 unless it succeeded'
complete -c firelink -n '__firelink_at ctl retry' -l format -x -a 'text json' -d 'text (default) or json'
complete -c firelink -n '__firelink_at ctl retry' -l socket -r -F -d 'the daemon\'s socket, instead of $FIRELINK_SOCKET or the default place'
complete -c firelink -n '__firelink_at ctl logs' -a '(__firelink_jobs)'
complete -c firelink -n '__firelink_at ctl logs' -s f -l follow -d 'follow the output until the run ends'
complete -c firelink -n '__firelink_at ctl logs' -l socket -r -F -d 'the daemon\'s socket, instead of $FIRELINK_SOCKET or the default place'
complete -c firelink -n '__firelink_at ctl events' -s f -l follow -d 'follow; there is nothing else to do with events, so it is always on'
complete -c firelink -n '__firelink_at ctl events' -l socket -r -F -d 'the daemon\'s socket, instead of $FIRELINK_SOCKET or the default place'
complete -c firelink -n '__firelink_at ctl pause' -a '(__firelink_jobs)'
complete -c firelink -n '__firelink_at ctl pause' -l socket -r -F -d 'the daemon\'s socket, instead of $FIRELINK_SOCKET or the default place'
complete -c firelink -n '__firelink_at ctl resume' -a '(__firelink_jobs)'
complete -c firelink -n '__firelink_at ctl resume' -l socket -r -F -d 'the daemon\'s socket, instead of $FIRELINK_SOCKET or the default place'
complete -c firelink -n '__firelink_at ctl reload' -l dry-run -d 'show what would change, and change nothing'
complete -c firelink -n '__firelink_at ctl reload' -l exec -d 'replace the daemon by the program at its path, for an upgrade; what runs goes on'
complete -c firelink -n '__firelink_at ctl reload' -l format -x -a 'text json' -d 'text (default) or json'
complete -c firelink -n '__firelink_at ctl reload' -l socket -r -F -d 'the daemon\'s socket, instead of $FIRELINK_SOCKET or the default place'
complete -c firelink -n '__firelink_at ctl stop' -l now -d 'kill running jobs at once'
complete -c firelink -n '__firelink_at ctl stop' -l socket -r -F -d 'the daemon\'s socket, instead of $FIRELINK_SOCKET or the default place'
complete -c firelink -n '__firelink_at status' -a '(__firelink_jobs)'
complete -c firelink -n '__firelink_at status' -l watch -d 'stay, and draw anew what changes; Ctrl-C ends it'
complete -c firelink -n '__firelink_at status' -l format -x -a 'text json' -d 'text (default) or json'
complete -c firelink -n '__firelink_at status' -l socket -r -F -d 'the daemon\'s socket, instead of $FIRELINK_SOCKET or the default place'
complete -c firelink -n '__firelink_at stop' -l now -d 'kill running jobs at once'
complete -c firelink -n '__firelink_at stop' -l socket -r -F -d 'the daemon\'s socket, instead of $FIRELINK_SOCKET or the default place'
