# shellcheck shell=bash
# Runs steps: prints them, logs them, and undoes them if one fails. Part of install.sh and build-deb.

LOG=${INSTALL_LOG:-/var/log/mqtt-kafka-bridge-install.log}
DRY_RUN=
CHANGED=        # set after the first step
PACKAGES_STAY=  # set once apt has installed packages, which no undo() removes
UNDO=()         # commands that undo the steps, the newest first
WARNINGS=()

# Print one line, and log it too.
say() { # TEXT
    printf '%s\n' "$1"
    log "$1"
}

log() { # TEXT
    [[ -n $DRY_RUN ]] || printf '%(%Y-%m-%dT%H:%M:%S%z)T %s\n' -1 "$1" >>"$LOG"
}

# Print a warning at the end, where it does not scroll away.
warn() { # TEXT
    WARNINGS+=("$1")
    log "warning: $1"
}

# End with an error: print what is wrong and what helps. finish() then undoes all steps.
fail() { # TEXT [EXIT-STATUS]
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    [[ ! -w $LOG ]] || log "failed: $1"
    exit "${2:-1}"
}

# Run one step and send its output to the log. With --dry-run only print the step.
step() { # TEXT COMMAND...
    local text=$1 status=0 began=$SECONDS where
    shift
    if [[ -n $DRY_RUN ]]; then
        printf '  would: %s\n' "$text"
        return
    fi
    printf '  %s ...' "$text"
    log "step: $text: $*"
    case $1 in apt_install | install_emqx_package) PACKAGES_STAY=", but for packages of apt" ;; esac
    where=$(wc -c <"$LOG")
    set +e
    ( set -e; "$@" ) >>"$LOG" 2>&1 </dev/null 9>&- # what a step starts and leaves running must not hold the lock
    status=$?
    set -e
    # shellcheck disable=SC2034 # install.sh reads it
    CHANGED=yes
    if ((status)); then
        printf ' failed\n'
        tail -c "+$((where + 1))" "$LOG" | sed '/^[[:space:]]*$/d' | tail -n 8 | sed 's/^/      /' >&2
        fail "$text: failed ($(way_out "$where"); all of it: $LOG)"
    fi
    printf ' %d s\n' $((SECONDS - began))
}

# Print a remedy for the failure that the log shows from byte FROM on. Indented lines are a service's own (last_words):
# if the bridge does not reach Kafka, no download has failed.
way_out() { # FROM
    local text
    text=$(tail -c "+$(($1 + 1))" "$LOG" | sed '/^      /d')
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

# Register a command that undoes the next step, in case a later step fails.
undo() { # COMMAND...
    [[ -n $DRY_RUN ]] || UNDO=("$(printf '%q ' "$@")" "${UNDO[@]}")
}

# Keep the steps done so far, even if a later step fails.
keep() {
    UNDO=()
}

# Have finish() called at the end of the program, also if a signal ends it: HUP comes when the ssh connection breaks, PIPE
# when the program that reads the output has ended.
finish_in_any_case() {
    trap finish EXIT
    trap 'exit 130' HUP INT PIPE TERM
}

# Until finish_in_any_case() is called again a signal keeps the steps done so far: a person who stops waiting until a
# service is ready must not lose what the service has by then.
keep_in_any_case() { # WHAT-TO-SAY-THEN
    WHEN_CUT_OFF=$1
    trap 'keep; warn "$WHEN_CUT_OFF"; exit 130' HUP INT PIPE TERM
}

finish() {
    local status=$? command
    trap - EXIT
    trap '' HUP INT PIPE TERM # a second one must not cut the undoing short
    set +e
    if ((status)) && ((${#UNDO[@]})); then
        printf '%s: putting everything back ...' "${0##*/}" >&2
        for command in "${UNDO[@]}"; do
            log "undo: $command"
            eval "$command" >>"$LOG" 2>&1 </dev/null
        done
        printf ' as it was before%s\n' "$PACKAGES_STAY" >&2
    fi
    [[ -z ${SCRATCH-} ]] || rm -rf "$SCRATCH"
    ((${#WARNINGS[@]} == 0)) || printf 'note: %s\n' "${WARNINGS[@]}" >&2
    exit $status
}
