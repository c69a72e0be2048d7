# Sourced by the scripts beside it, under a sourced ROS 2: a domain of their own on loopback, our processes, and checks that
# print `PASS name`, `FAIL name: why` or `SKIP name: why`. METAGD_BIN names the binary.
set -euo pipefail
set -m # each process of ours in a group of its own, which ends as a whole
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
METAGD_BIN=$(realpath "${METAGD_BIN:-$repository/target/debug/metagd}")
urdf=$repository/urdf/kuka_lwr.urdf
folder=$(mktemp -d)
export ROS_LOG_DIR=$folder/log PYTHONUNBUFFERED=1
export ROS_AUTOMATIC_DISCOVERY_RANGE=${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}
groups=()
failures=0

# A domain, 1 to 101, in which nobody on this host listens.
free_domain() {
    local domain port
    while :; do
        domain=$((1 + RANDOM % 101))
        port=$(printf ':%04X ' $((7400 + 250 * domain))) # of its multicast discovery
        grep -q "$port" /proc/net/udp || break
    done
    echo "$domain"
}
ROS_DOMAIN_ID=$(free_domain)
export ROS_DOMAIN_ID

finish() {
    local code=$? group
    trap - EXIT
    for group in "${groups[@]}"; do
        { kill -KILL -- "-$group" && wait "$group"; } 2> /dev/null || true
    done
    timeout 10 ros2 daemon stop > /dev/null 2>&1 || true
    [ -z "${METAGD_WARNINGS:-}" ] || grep -hE 'WARN|ERROR' "$folder/warnings" >> "$METAGD_WARNINGS" 2> /dev/null || true
    if [ "$code" != 0 ] || [ "$failures" != 0 ]; then
        for log in "$folder"/*.log; do
            [ ! -s "$log" ] || { echo "--- $(basename "$log")"; tail -n 15 "$log" | cut -c -300; } >&2
        done
    fi
    rm -rf "$folder"
    [ "$code" = 0 ] || exit "$code"
    [ "$failures" = 0 ]
}
trap finish EXIT

pass() { echo "PASS $1"; }
skip() { echo "SKIP $1: $2"; }
fail() {
    echo "FAIL $1: $2"
    failures=$((failures + 1))
}

# start NAME COMMAND...: in the background, its output in NAME.log; its process id is then $started.
start() {
    local name=$1
    shift
    : > "$folder/$name.log"
    "$@" > "$folder/$name.log" 2>&1 < /dev/null &
    started=$!
    groups+=("$started")
}

metagd() { ROS_LOCALHOST_ONLY=1 "$METAGD_BIN" "$@"; }

# start_node NAME ARGUMENT...: our node with the arm's URDF.
start_node() {
    local name=$1
    shift
    start "$name" env ROS_LOCALHOST_ONLY=1 "$METAGD_BIN" node --urdf "$urdf" "$@"
}

# start_robot ARGUMENT...: the simulated arm, at 1 kHz.
start_robot() { start robot env ROS_LOCALHOST_ONLY=1 "$METAGD_BIN" simulate --live --seconds 600 "$@"; }

# stop PID [SIGNAL]: ends a process that was started, and waits for it; its exit code is then $code.
stop() {
    kill "-${2:-TERM}" -- "-$1" 2> /dev/null || true
    code=0
    wait "$1" 2> /dev/null || code=$?
}

# tool ARGUMENT...: `ros2 ARGUMENT...`, for LIMIT seconds at most; what it prints is then in $folder/out. A tool that goes
# on for ever gets SIGINT, as from a user.
tool() {
    timeout -s INT -k 5 "${LIMIT:-25}" ros2 "$@" > "$folder/out" 2> "$folder/stderr" < /dev/null || true
    grep -vE '^\[(WARN|ERROR)\]' "$folder/stderr" >> "$folder/out" || true
    cat "$folder/stderr" >> "$folder/warnings"
}

# said: the last of what the tool printed, in one line.
said() { tail -n 6 "$folder/out" | tr '\n' ' ' | tail -c 400; }

# expect NAME PATTERN... -- ARGUMENT...: `ros2 ARGUMENT...` prints a line for every pattern, in three tries at most (as
# discovery takes its time); a later try is said.
expect() {
    local name=$1 patterns=() try pattern missing
    shift
    while [ "$1" != -- ]; do
        patterns+=("$1")
        shift
    done
    shift
    for try in 1 2 3; do
        tool "$@"
        missing=
        for pattern in "${patterns[@]}"; do
            grep -qE -e "$pattern" "$folder/out" || missing=$pattern
        done
        if [ -z "$missing" ]; then
            [ "$try" = 1 ] && pass "$name" || pass "$name (try $try)"
            return
        fi
        sleep 1
    done
    fail "$name" "no line like \`$missing\` in: $(said)"
}

# until_active NODE: waits for the node's state.
until_active() {
    local _
    for _ in $(seq 20); do
        LIMIT=10 tool lifecycle get "$1"
        ! grep -q '^active' "$folder/out" || return 0
        sleep 0.5
    done
    fail "$1 becomes active" "$(said)"
}
