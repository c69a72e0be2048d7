#!/usr/bin/env bash
# `ros2 lifecycle` and our states.
. "$(dirname "$0")/lib.sh"

start_node node -p autostart:=false
expect "lifecycle nodes" '^/metagd$' -- lifecycle nodes
expect "lifecycle get" '^unconfigured \[1\]' -- lifecycle get /metagd
expect "lifecycle list" '^- configure \[1\]' '^- shutdown \[5\]' 'Goal: configuring' -- lifecycle list /metagd
expect "lifecycle list -a" '^- activate \[3\]' '^- transition_error \[62\]' -- lifecycle list -a /metagd
expect "lifecycle set, not from here" 'Unknown transition|available ones' -- lifecycle set /metagd cleanup

start events ros2 topic echo /metagd/transition_event
sleep 3
# once NAME TRANSITION STATE: a transition, asked for once, leads to the state.
once() {
    tool lifecycle set /metagd "$2"
    if grep -q 'Transitioning successful' "$folder/out"; then
        expect "$1" "^$3" -- lifecycle get /metagd
    else
        fail "$1" "$(said)"
    fi
}
once "lifecycle set configure" configure inactive
once "lifecycle set activate" activate active
once "lifecycle set deactivate" deactivate inactive
once "lifecycle set cleanup" cleanup unconfigured
once "lifecycle set configure again" configure inactive
once "lifecycle set shutdown" shutdown finalized
told=$(grep -A2 'goal_state' "$folder/events.log" | sed -n 's/.*label: //p' | tr '\n' ' ')
case $told in
    *'configuring inactive activating active deactivating inactive cleaningup unconfigured '*' finalized '*)
        pass "transition_event" ;;
    *) fail "transition_event" "told were: $told" ;;
esac
