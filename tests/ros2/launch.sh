#!/usr/bin/env bash
# launch.sh PREFIX: the launch files under a sourced ROS 2, on loopback: each says its arguments, mock and replay run and
# send torques, SIGINT ends them cleanly. PREFIX is what .ci/install-prefix laid out.
set -euo pipefail
set -m # a job of its own group, which gets SIGINT as from a terminal
prefix=$1
set +u
. "$prefix/setup.bash"
set -u
export PYTHONUNBUFFERED=1
case $ROS_DISTRO in
    humble) export ROS_LOCALHOST_ONLY=1 ;;
    *) export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ;;
esac
folder=$(mktemp -d)
export ROS_LOG_DIR=$folder/log
cd "$folder" # checkpoints and runs go here
launch=
trap '[ -z "$launch" ] || kill -KILL -- "-$launch" 2> /dev/null || true; rm -rf "$folder"' EXIT

fail() {
    echo "FAILED: $1" >&2
    [ $# -lt 2 ] || cat "$2" >&2
    exit 1
}

# start NAME ARGUMENT...: ros2 launch in the background, its output in NAME.log.
start() {
    local name=$1
    shift
    ros2 launch metagd "$@" > "$folder/$name.log" 2>&1 &
    launch=$!
}

# torques NAME TOPIC: commands come at 100 Hz at least (1 kHz on a computer that is not busy).
torques() {
    timeout --signal INT 12 ros2 topic hz "$2" > "$folder/hz" 2>&1 || true
    local rate
    rate=$(sed -n 's/^average rate: \([0-9]*\).*/\1/p' "$folder/hz" | tail -1)
    [ "${rate:-0}" -ge 100 ] || { cat "$folder/hz" >&2; fail "$1: $2 at ${rate:-no} Hz" "$folder/$1.log"; }
    echo "$1: $2 at $rate Hz"
}

# statistics TOPIC: the layout for PlotJuggler takes each of its figures from the place where the node puts it.
statistics() {
    timeout 20 ros2 topic echo --once --full-length --qos-durability transient_local --qos-reliability reliable \
        --field data "$1" std_msgs/msg/String > "$folder/names" 2> /dev/null || fail "no names on $1" "$folder/mock.log"
    python3 - "$folder/names" "$prefix/share/metagd/config/plotjuggler.xml" << 'END' || fail "plotjuggler.xml"
import re, sys, xml.etree.ElementTree as tree
names = open(sys.argv[1]).read().replace('/cell/', '/').replace('.cell.', '.').split('\n')
curves = [curve for curve in tree.parse(sys.argv[2]).iter('curve') if '/data[' in curve.get('name')]
assert curves, 'no curve is taken from the statistics'
for curve in curves:
    index = int(re.search(r'\[(\d+)\]', curve.get('name'))[1])
    alias = curve.find('transform').get('alias')
    assert names[index] == alias, f'data[{index}] is {names[index]}, not {alias}'
END
    echo "mock: the layout for PlotJuggler fits $1"
}

# ended NAME: by itself or by a signal, the launch ends with 0 and so does every process in it.
ended() {
    local code=0
    wait "$launch" || code=$?
    launch=
    [ "$code" -eq 0 ] || fail "$1: ros2 launch ended with exit code $code" "$folder/$1.log"
    ! grep -q 'process has died' "$folder/$1.log" || fail "$1: a process died" "$folder/$1.log"
    grep -q '\[metagd-1\]: process has finished cleanly' "$folder/$1.log" ||
        fail "$1: the node did not end with exit code 0" "$folder/$1.log"
    echo "$1: ended with exit code 0"
}

for file in robot mock replay; do
    ros2 launch metagd "$file.launch.py" --show-args > "$folder/args" 2>&1 || fail "$file --show-args" "$folder/args"
    for argument in params_file name namespace urdf robot_description autostart log_level respawn; do
        grep -q "'$argument':" "$folder/args" || fail "$file.launch.py has no argument $argument" "$folder/args"
    done
done
! ros2 launch metagd mock.launch.py task:=juggle > "$folder/refused" 2>&1 || fail "task:=juggle was taken"
grep -q 'rectangle-vertical' "$folder/refused" || fail "the tasks there are are not said" "$folder/refused"

start mock mock.launch.py mounting:=wall namespace:=/cell seconds:=300
torques mock /cell/metagd/commands
statistics /cell/metagd/statistics/names
kill -INT "$launch"
ended mock

metagd simulate --out "$folder/bag" --seconds 12 > /dev/null
start play replay.launch.py bag:="$folder/bag" player:=metagd checkpoint_save:="$folder/learnt.safetensors"
torques play /metagd/commands
ended play
[ -s "$folder/learnt.safetensors" ] || fail "play: no checkpoint"

if ros2 bag play --help > /dev/null 2>&1; then
    start bag replay.launch.py bag:="$folder/bag" checkpoint_load:="$folder/learnt.safetensors"
    torques bag /metagd/commands
    ended bag
else
    echo "SKIPPED: ros2 bag is not there"
fi
