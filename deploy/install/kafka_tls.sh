# shellcheck shell=bash
# Kafka's TLS and users: the certificate of a node, and who may use the cluster. Part of install.sh.
# ../kafka/users.py creates users.

KAFKA_CERTIFICATES=$KAFKA_ETC/tls
KAFKA_TLS=
KAFKA_USER= # --user
KAFKA_NAMES=()

# Set KAFKA_TLS to a directory with node.pem and ca.crt, made from --tls or in force; empty without TLS.
# Set KAFKA_NAMES to the subjects of all nodes' certificates if there are users; empty without users.
choose_security() { # [--tls]
    KAFKA_TLS=$(tls_in_force)
    if [[ -n $1 ]]; then
        [[ -n $KAFKA_TLS ]] || require_stopped
        check_certificate "$1"
        KAFKA_TLS=$SCRATCH/tls
    fi
    if [[ -n $KAFKA_USER ]] || users_in_force; then name_nodes; fi
    KAFKA_PORTS=(9092 9093 ${KAFKA_TLS:+9094})
}

# Print the directory of the certificates in force, if this node has TLS.
tls_in_force() {
    ! grep -qs '^inter\.broker\.listener\.name=BROKERS' "$KAFKA_PROPERTIES" || printf '%s' "$KAFKA_CERTIFICATES"
}

users_in_force() {
    [[ -n $(tls_in_force) ]] && grep -q '^authorizer\.class\.name=' "$KAFKA_PROPERTIES"
}

# Nodes with TLS and nodes without it do not understand each other.
require_stopped() {
    if ((${#NODES[@]} > 1)) && systemctl is-active --quiet "$KAFKA_UNIT"; then
        fail "Kafka runs without TLS: stop it on each node (sudo systemctl stop kafka), then run this on each"
    fi
}

# Refuse a directory whose files are not the certificate of this node. Make node.pem and ca.crt of them.
check_certificate() { # DIRECTORY
    local name said file purpose
    local -a keys
    [[ -d $1 ]] || fail "--tls $1: no such directory"
    command -v openssl >/dev/null || fail "there is no openssl: sudo apt-get install openssl"
    [[ ! -e $1/ca.key ]] || fail "--tls $1: has the authority's ca.key, which belongs on no Pi: give the directory \
that deploy/make-certificates made for this node"
    mapfile -t keys < <(compgen -G "$1/*.key")
    ((${#keys[@]} == 1)) || fail "--tls $1: must have one NAME.key, NAME.crt and ca.crt, and has ${#keys[@]} keys: \
give the directory that deploy/make-certificates made for this node"
    name=${keys[0]%.key}
    for file in "$1/ca.crt" "$name.crt" "$name.key"; do
        [[ -f $file ]] || fail "$file: no such file, deploy/make-certificates makes it"
        cat "$file" >/dev/null 2>&1 || fail "$file: cannot be read"
    done
    for file in "$1/ca.crt" "$name.crt"; do
        openssl x509 -in "$file" -noout 2>/dev/null || fail "$file: is no certificate: copy it again"
    done
    openssl pkey -in "$name.key" -passin pass: -noout 2>/dev/null ||
        fail "$name.key: is no key, or has a passphrase: openssl pkey -in FILE -out FILE removes it"
    [[ $(openssl x509 -in "$name.crt" -noout -pubkey) == $(openssl pkey -in "$name.key" -passin pass: -pubout) ]] ||
        fail "$name.key: does not fit $name.crt: copy both again"
    for purpose in sslserver sslclient; do
        said=$(openssl verify -purpose "$purpose" -CAfile "$1/ca.crt" "$name.crt" 2>&1) ||
            fail "$name.crt: $(sed -n 's/^error [0-9]* at [0-9]* depth lookup: *//p' <<<"$said" | head -n 1): is the \
clock right (timedatectl)? Otherwise deploy/make-certificates makes a new one"
    done
    is_for "$name.crt" "${NODES[NODE - 1]}" ||
        fail "$name.crt: is not for ${NODES[NODE - 1]}, but for $(names_in "$name.crt"): \
deploy/make-certificates DIRECTORY ${name##*/}=${NODES[NODE - 1]}"
    openssl x509 -in "$name.crt" -noout -checkend 2592000 >/dev/null ||
        warn "$name.crt ends within 30 days: make a new one, and run this command again"
    mkdir "$SCRATCH/tls"
    { openssl pkey -in "$name.key" -passin pass: && cat "$name.crt"; } >"$SCRATCH/tls/node.pem"
    cat "$1/ca.crt" >"$SCRATCH/tls/ca.crt"
}

is_for() { # CERTIFICATE HOST
    local by=-checkhost
    [[ ! $2 =~ ^[0-9.]+$ && $2 != *:* ]] || by=-checkip
    openssl x509 -in "$1" -noout "$by" "$2" | grep -q 'does match'
}

names_in() { # CERTIFICATE
    openssl x509 -in "$1" -noout -ext subjectAltName 2>/dev/null | sed -n 's/^ *\(.*:.*[^:]\)$/\1/p' | tail -n 1
}

# A node logs in to the others by its certificate, so each must know the names in the others' certificates.
name_nodes() {
    local subject common number other
    [[ -n $KAFKA_TLS ]] || misuse "--user $KAFKA_USER: needs --tls DIRECTORY too, or the nodes could not log in"
    subject=$(openssl x509 -in "$KAFKA_TLS/node.pem" -noout -subject -nameopt RFC2253)
    subject=${subject#subject=}
    common=$(sed -n 's/^\(.*,\)\{0,1\}CN=\([^,]*\).*/\2/p' <<<"$subject")
    for number in "${!NODES[@]}"; do
        if ((${#NODES[@]} == 1)); then
            other=$common
        elif [[ $common == "${NODES[NODE - 1]}" ]]; then
            other=${NODES[number]}
        elif [[ $common == *[!0-9]"$NODE" ]]; then
            other=${common%"$NODE"}$((number + 1))
        else
            fail "the certificate has the name $common: in the certificate of node $NODE it must end with $NODE, such \
as kafka$NODE, or be ${NODES[NODE - 1]}; the other nodes take it for one of them by that"
        fi
        KAFKA_NAMES+=("${subject/"CN=$common"/CN=$other}")
    done
}

check_user() {
    [[ -z $KAFKA_USER || $KAFKA_USER =~ ^[A-Za-z0-9._-]{1,100}$ ]] ||
        misuse "--user $KAFKA_USER: must have up to 100 letters, digits, dots, dashes or underscores"
}

# Print the lines of the settings that say who may connect, and how.
security_properties() {
    local name super=''
    if [[ -z $KAFKA_TLS ]]; then
        cat "$SOURCE/deploy/kafka/plain.properties"
        return
    fi
    sed "s|@CLIENTS@|$([[ -n ${KAFKA_NAMES[*]} ]] && echo SASL_SSL || echo SSL)|" "$SOURCE/deploy/kafka/tls.properties"
    [[ -n ${KAFKA_NAMES[*]} ]] || return 0
    for name in "${KAFKA_NAMES[@]}"; do
        super+=${super:+;}User:$name
    done
    printf '\n'
    sed "s|@NODES@|$super|" "$SOURCE/deploy/kafka/users.properties"
}

# Create the user of --user, once the cluster takes it. Only the terminal gets the password.
create_user() {
    local said
    [[ -n $KAFKA_USER ]] || return 0
    said=$(python3 -B "$SOURCE/deploy/kafka/users.py" "$KAFKA_TLS" "${NODES[NODE - 1]}" "$KAFKA_USER") ||
        fail "user $KAFKA_USER: $said" "$NOT_LIVE"
    if [[ -z $said ]]; then
        say "  user $KAFKA_USER is there already"
    else
        say "  user $KAFKA_USER, who may write to each topic, and create it. The password, shown only now:"
        printf '      %s\n' "$said"
    fi
}

# Print what `status` says of it.
describe_security() {
    local until
    if [[ -z $KAFKA_TLS ]]; then
        echo "security   none: whoever reaches port 9092 may read, write and delete"
        return
    fi
    until=$(openssl x509 -in "$KAFKA_TLS/node.pem" -noout -enddate | sed 's/^notAfter=//')
    echo "security   TLS, with a certificate until $until; $(users_in_force && echo 'users log in by password' ||
        echo 'whoever reaches port 9092 may read, write and delete')"
    openssl x509 -in "$KAFKA_TLS/node.pem" -noout -checkend 2592000 >/dev/null ||
        warn "the certificate ends within 30 days, and the node then leaves the cluster: make a new one, and run \
deploy/install.sh kafka --nodes ... --tls DIRECTORY again"
}
