# shellcheck shell=bash
# Versions of the bridge, side by side, and which one is in force. Part of install.sh and
# of the Debian package.
#
#   /opt/mqtt-kafka-bridge/0.1.0/venv      Python and its packages, from wheels alone
#                               /bin       the commands, and nothing else
#                               /deploy    what this very version is installed with
#                               /haproxy
#                               /complete  the digest of what it was made of; without it: half-made
#   /opt/mqtt-kafka-bridge/current -> 0.1.0
#   /opt/mqtt-kafka-bridge/previous        what `rollback` goes back to

VERSIONS=/opt/mqtt-kafka-bridge
SPACE=400 # MB in /opt, for a version and what it is made with
FOR_MACHINE=() # options of pip, where it is not this one

# What `current` or `previous` points to; empty where it does not exist.
version_at() { # LINK
    [[ ! -L $VERSIONS/$1 ]] || readlink "$VERSIONS/$1"
}

# Sets NEW, the version that the files around this one are, and where it is or will be.
find_new() {
    if [[ -f $SOURCE/complete ]]; then # installed already, and called from there
        NEW=${SOURCE##*/}
        return
    fi
    DIGEST=$(digest)
    NEW=$(version_of_source)
    if [[ -f $VERSIONS/$NEW/complete && $(<"$VERSIONS/$NEW/complete") != "$DIGEST" ]]; then
        NEW+=+${DIGEST:0:8} # the same number for something else: a clone between two releases
    fi
}

version_of_source() {
    sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$SOURCE/bridge/__init__.py"
}

python_version() {
    python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

# Of all that a version is made of, and the Python it is made for.
digest() {
    (
        cd "$SOURCE" || exit
        echo "Python $(python_version)"
        find bridge deploy haproxy pyproject.toml README.md -type f ! -name '*.pyc' -print0 |
            LC_ALL=C sort -z | xargs -0 sha256sum
    ) | sha256sum | cut -d ' ' -f 1
}

# Put NEW beside the others. It is not in force yet.
place_new() {
    local target=$VERSIONS/$NEW
    if [[ -f $target/complete ]]; then
        say "  $target is there already"
        return
    fi
    require_space /opt $SPACE
    if ! compgen -G '/usr/share/python-wheels/pip-*.whl' >/dev/null || ! python3 -c 'import venv' 2>/dev/null; then
        step "apt-get install python3-venv" apt_install python3-venv
    fi
    step "packages for Python $(python_version)" fetch_packages
    step "the bridge's own package" build_wheel
    [[ -d $VERSIONS ]] || undo rmdir "$VERSIONS"
    undo rm -rf "$target"
    step "$target" build_version "$target"
}

fetch_packages() {
    [[ -d $SCRATCH/pip ]] || set_up_pip
    pip download "${FOR_MACHINE[@]}" --only-binary :all: --require-hashes -r "$SOURCE/deploy/requirements.lock" \
        -d "$SCRATCH/wheels" "${FROM_WHEELS[@]}"
}

# pip in the scratch directory, unpacked from Debian's own wheel: `venv` would take ten times as long.
set_up_pip() {
    if ! compgen -G '/usr/share/python-wheels/pip-*.whl'; then
        python3 -m venv "$SCRATCH/pip"
        return
    fi
    python3 -m venv --without-pip "$SCRATCH/pip"
    python3 -m zipfile -e /usr/share/python-wheels/pip-*.whl "$SCRATCH"/pip/lib/python3.*/site-packages
}

build_wheel() {
    pip install --no-compile --only-binary :all: --require-hashes -r "$SOURCE/deploy/build.lock" "${FROM_WHEELS[@]}"
    # A copy, for the one who builds may leave something behind.
    mkdir "$SCRATCH/source"
    cp -r "$SOURCE/bridge" "$SOURCE/pyproject.toml" "$SOURCE/README.md" "$SCRATCH/source"
    pip wheel --no-deps --no-build-isolation --no-index -w "$SCRATCH/wheels" "$SCRATCH/source"
}

build_version() { # DIRECTORY
    rm -rf "$1"
    python3 -m venv --without-pip "$1/venv"
    local install=(--python "$1/venv/bin/python" install --no-index --no-deps --find-links "$SCRATCH/wheels")
    pip "${install[@]}" --require-hashes -r "$SOURCE/deploy/requirements.lock"
    pip "${install[@]}" "$SCRATCH"/wheels/mqtt_kafka_bridge-*.whl
    add_files "$1"
    "$1/bin/mqtt-kafka-bridge" --version
    echo "$DIGEST" >"$1/complete"
}

# All of a version but its Python.
add_files() { # DIRECTORY
    mkdir -p "$1/bin"
    ln -s ../venv/bin/bridge ../venv/bin/mqtt-kafka-bridge "$1/bin/"
    cp -r "$SOURCE/deploy" "$SOURCE/haproxy" "$1/"
}

pip() {
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 "$SCRATCH/pip/bin/python" -m pip "$@"
}

# Bring VERSION into force: links, units, what stands elsewhere in the system.
switch_to() { # VERSION
    local from
    from=$(version_at current)
    [[ -z $from || $from == "$1" ]] || point previous "$from"
    point current "$1"
    install_files
}

point() { # LINK VERSION
    ln -sfT "$2" "$VERSIONS/$1.new" # and never, not for a moment, is there no link
    mv -T "$VERSIONS/$1.new" "$VERSIONS/$1"
}

# Versions that neither `current` nor `previous` points to.
remove_old_versions() {
    local directory name
    for directory in "$VERSIONS"/*/; do
        name=$(basename "$directory")
        case $name in
        current | previous | "$(version_at current)" | "$(version_at previous)") ;;
        *) rm -rf "${VERSIONS:?}/$name" ;;
        esac
    done
}
