# shellcheck shell=bash
# Steps: what is shown, what is logged, what is undone when one fails. Part of install.sh and build-deb.

LOG=${INSTALL_LOG:-/var/log/mqtt-kafka-bridge-install.log}
DRY_RUN=
CHANGED=        # set once a step was made
UNDO=()         # commands, the last one first
WARNINGS=()

# One line for people, kept in the log too.
say() { # TEXT
    printf '%s\n' "$1"
    log "$1"
}

log() { # TEXT
    [[ -n $DRY_RUN ]] || printf '%(%Y-%m-%dT%H:%M:%S%z)T %s\n' -1 "$1" >>"$LOG"
}

# Said at the end, where it is not scrolled away.
warn() { # TEXT
    WARNINGS+=("$1")
    log "warning: $1"
}

# The way out of a failure: what is wrong, and what helps. Everything is put back.
fail() { # TEXT [EXIT-STATUS]
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    [[ ! -w $LOG ]] || log "failed: $1"
    exit "${2:-1}"
}

# Run one step, its output going to the log. With --dry-run only say it.
step() { # TEXT COMMAND...
    local text=$1 status=0 began=$SECONDS where
    shift
    if [[ -n $DRY_RUN ]]; then
        printf '  would: %s\n' "$text"
        return
    fi
    printf '  %s ...' "$text"
    log "step: $text: $*"
    where=$(wc -c <"$LOG")
    set +e
    ( set -e; "$@" ) >>"$LOG" 2>&1 </dev/null
    status=$?
    set -e
    # shellcheck disable=SC2034 # install.sh asks
    CHANGED=yes
    if ((status)); then
        printf ' failed\n'
        tail -c "+$((where + 1))" "$LOG" | sed '/^[[:space:]]*$/d' | tail -n 8 | sed 's/^/      /' >&2
        fail "$text: failed ($(way_out "$where"); all of it: $LOG)"
    fi
    printf ' %d s\n' $((SECONDS - began))
}

# What a person can do about the end of the log, from byte FROM on.
way_out() { # FROM
    local text
    text=$(tail -c "+$(($1 + 1))" "$LOG")
    case $text in
    *"No space left"* | *"not enough free space"*) echo "the disk is full: df -h /opt /var" ;;
    *"Temporary failure"* | *"Could not resolve"* | *"Name or service not known"* | *"unreachable"* | \
        *"Connection refused"* | *"Could not connect"* | *"NewConnectionError"* | *"timed out"*)
        echo "no network, which is needed to download packages: try again when there is one" ;;
    *"CERTIFICATE_VERIFY_FAILED"* | *"certificate verify failed"*)
        echo "a certificate is not trusted: is the clock right? (timedatectl), then update-ca-certificates" ;;
    *"Could not get lock"* | *"lock-frontend"*) echo "another apt or dpkg is at work: try again when it is done" ;;
    *"DO NOT MATCH THE HASHES"*) echo "a package is not the one that was locked: do not install it" ;;
    *"No matching distribution"*) echo "no package for this Python: $(python3 --version), $(uname -m)" ;;
    *) echo "the lines above say why" ;;
    esac
}

# What puts back the step that comes next, should a later one fail.
undo() { # COMMAND...
    [[ -n $DRY_RUN ]] || UNDO=("$(printf '%q ' "$@")" "${UNDO[@]}")
}

# What was done is kept, whatever comes.
keep() {
    UNDO=()
}

finish() { # by the trap at the end of the program
    local status=$? command
    trap - EXIT
    set +e
    if ((status)) && ((${#UNDO[@]})); then
        printf '%s: putting everything back ...' "${0##*/}" >&2
        for command in "${UNDO[@]}"; do
            log "undo: $command"
            eval "$command" >>"$LOG" 2>&1 </dev/null
        done
        printf ' as it was before\n' >&2
    fi
    [[ -z ${SCRATCH-} ]] || rm -rf "$SCRATCH"
    ((${#WARNINGS[@]} == 0)) || printf 'note: %s\n' "${WARNINGS[@]}" >&2
    exit $status
}
