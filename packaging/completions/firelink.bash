# Made by FIRELINK_UPDATE=1 cargo test --test reference; what is changed here is lost.
_firelink_jobs() { firelink status --format json 2>/dev/null | grep -o '"name":"[^"]*"' | cut -d '"' -f 4; }

_firelink() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} path='' words='' value='' i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path ${COMP_WORDS[i]}" in
        ' run') path='run' ;;
        ' check') path='check' ;;
        ' next') path='next' ;;
        ' simulate') path='simulate' ;;
        ' schema') path='schema' ;;
        ' graph') path='graph' ;;
        ' import') path='import' ;;
        ' history') path='history' ;;
        ' ctl') path='ctl' ;;
        'ctl status') path='ctl status' ;;
        'ctl trigger') path='ctl trigger' ;;
        'ctl cancel') path='ctl cancel' ;;
        'ctl retry') path='ctl retry' ;;
        'ctl logs') path='ctl logs' ;;
        'ctl events') path='ctl events' ;;
        'ctl pause') path='ctl pause' ;;
        'ctl resume') path='ctl resume' ;;
        'ctl reload') path='ctl reload' ;;
        'ctl stop') path='ctl stop' ;;
        ' status') path='status' ;;
        ' stop') path='stop' ;;
        esac
    done
    case "$path:$prev" in
    'run:--pid-file') value=file ;;
    'run:--log-file') return ;;
    'run:--log-level') words='off error warn info debug trace' ;;
    'run:--log-format') words='text json' ;;
    'run:--state-dir') value=directory ;;
    'run:--socket') value=file ;;
    'check:--state-dir') value=directory ;;
    'check:--format') words='text json' ;;
    'next:--job') words=$(_firelink_jobs) ;;
    'next:--schedule') return ;;
    'next:--timezone') return ;;
    'next:--after') return ;;
    'next:--count') return ;;
    'next:--format') words='text json' ;;
    'simulate:--from') return ;;
    'simulate:--to') return ;;
    'simulate:--format') words='text json' ;;
    'graph:--format') words='text dot mermaid svg' ;;
    'history:--job') words=$(_firelink_jobs) ;;
    'history:--state') words='pending running succeeded failed timed_out cancelled skipped lost missed' ;;
    'history:--since') return ;;
    'history:--until') return ;;
    'history:--limit') return ;;
    'history:--run') return ;;
    'history:--tail') return ;;
    'history:--format') words='text json' ;;
    'history:--state-dir') value=directory ;;
    'history:--config') value=file ;;
    'ctl status:--format') words='text json' ;;
    'ctl status:--socket') value=file ;;
    'ctl trigger:--format') words='text json' ;;
    'ctl trigger:--socket') value=file ;;
    'ctl cancel:--format') words='text json' ;;
    'ctl cancel:--socket') value=file ;;
    'ctl retry:--format') words='text json' ;;
    'ctl retry:--socket') value=file ;;
    'ctl logs:--socket') value=file ;;
    'ctl events:--socket') value=file ;;
    'ctl pause:--socket') value=file ;;
    'ctl resume:--socket') value=file ;;
    'ctl reload:--format') words='text json' ;;
    'ctl reload:--socket') value=file ;;
    'ctl stop:--socket') value=file ;;
    'status:--format') words='text json' ;;
    'status:--socket') value=file ;;
    'stop:--socket') value=file ;;
    *)
        case "$path" in
        '') words='run check next simulate schema graph import history ctl status stop --version --help' ;;
        'run') words='--detach --pid-file --log-file --log-level --log-format --state-dir --socket --help' value=file ;;
        'check') words='--state --state-dir --format --help' value=file ;;
        'next') words='--job --schedule --timezone --after --count --format --help' value=file ;;
        'simulate') words='--from --to --format --help' value=file ;;
        'schema') words='--help' ;;
        'graph') words='--format --help' value=file ;;
        'import') words='--system --user --help' value=file ;;
        'history') words='--job --state --since --until --limit --run --tail --format --state-dir --config --help' ;;
        'ctl') words='status trigger cancel retry logs events pause resume reload stop --help' ;;
        'ctl status') words='--watch --format --socket --help'$' '$(_firelink_jobs) ;;
        'ctl trigger') words='--wait --force --with-deps --format --socket --help'$' '$(_firelink_jobs) ;;
        'ctl cancel') words='--format --socket --help' ;;
        'ctl retry') words='--downstream --wait --format --socket --help' ;;
        'ctl logs') words='-f --follow --socket --help'$' '$(_firelink_jobs) ;;
        'ctl events') words='-f --follow --socket --help' ;;
        'ctl pause') words='--socket --help'$' '$(_firelink_jobs) ;;
        'ctl resume') words='--socket --help'$' '$(_firelink_jobs) ;;
        'ctl reload') words='--dry-run --exec --format --socket --help' ;;
        'ctl stop') words='--now --socket --help' ;;
        'status') words='--watch --format --socket --help'$' '$(_firelink_jobs) ;;
        'stop') words='--now --socket --help' ;;
        esac
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    if [ -n "$value" ] && [[ $cur != -* ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -A "$value" -- "$cur")
    fi
}

complete -F _firelink firelink
