# shellcheck shell=bash
# The installed versions of the bridge, and which of them is in force. Part of install.sh and
# of the Debian package.
#
#   /opt/mqtt-kafka-bridge/0.1.0/venv      Python and its packages, only from wheels
#                               /bin       only the commands
#                               /deploy    the installer of this version
#                               /haproxy
#                               /complete  the digest of its sources; missing if the build did not finish
#   /opt/mqtt-kafka-bridge/current -> 0.1.0
#   /opt/mqtt-kafka-bridge/previous        the version that `rollback` restores

VERSIONS=/opt/mqtt-kafka-bridge
SPACE=400 # MB in /opt, for a version and its build files
FOR_MACHINE=() # pip's options for another machine than this one

# Print the version to which `current` or `previous` points; empty if the link does not exist.
version_at() { # LINK
    [[ ! -L $VERSIONS/$1 ]] || readlink "$VERSIONS/$1"
}

# Set NEW to the version of the files around this one.
find_new() {
    if [[ -f $SOURCE/complete ]]; then # this is an installed version
        NEW=${SOURCE##*/}
        return
    fi
    DIGEST=$(digest)
    NEW=$(version_of_source)
    if [[ -f $VERSIONS/$NEW/complete && $(<"$VERSIONS/$NEW/complete") != "$DIGEST" ]]; then
        NEW+=+${DIGEST:0:8} # same number, other sources: a clone between two releases
    fi
}

version_of_source() {
    sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$SOURCE/bridge/__init__.py"
}

python_version() {
    python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

# Print the digest of all sources of a version, and of the Python version.
digest() {
    (
        cd "$SOURCE" || exit
        echo "Python $(python_version)"
        find bridge deploy haproxy pyproject.toml README.md LICENSE -type f ! -name '*.pyc' -print0 |
            LC_ALL=C sort -z | xargs -0 sha256sum
    ) | sha256sum | cut -d ' ' -f 1
}

# Install NEW beside the other versions. It is not in force yet.
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

# Unpack pip from Debian's own wheel into the scratch directory; `venv` would take ten times as long.
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
    # Build from a copy, because the build may leave files behind.
    mkdir "$SCRATCH/source"
    cp -r "$SOURCE"/{bridge,pyproject.toml,README.md,LICENSE} "$SCRATCH/source"
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
    sync -f "$1" # before the mark, or a power cut could leave a marked version with empty files
    echo "$DIGEST" >"$1/complete"
}

# Add all files of a version except its Python.
add_files() { # DIRECTORY
    mkdir -p "$1/bin"
    ln -s ../venv/bin/bridge ../venv/bin/mqtt-kafka-bridge "$1/bin/"
    cp -r "$SOURCE/deploy" "$SOURCE/haproxy" "$1/"
}

pip() {
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 "$SCRATCH/pip/bin/python" -m pip "$@"
}

# Bring VERSION into force: links, units, and its other files in the system.
switch_to() { # VERSION
    local from
    from=$(version_at current)
    [[ -z $from || $from == "$1" ]] || point previous "$from"
    point current "$1"
    install_files
}

point() { # LINK VERSION
    replace_link "$VERSIONS/$1" "$2"
}

# Make the link, or have it point elsewhere without a gap.
replace_link() { # LINK TARGET
    ln -sfT "$2" "$1.new"
    mv -T "$1.new" "$1"
}

# Remove versions to which neither `current` nor `previous` points.
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
