#!/usr/bin/env bash
# `ros2 bag` records what we say, we replay what it records, and what it plays we hear.
. "$(dirname "$0")/lib.sh"

start_node node
node=$started
start_robot
robot=$started
until_active /metagd
for storage in mcap sqlite3; do
    start "record-$storage" ros2 bag record -s "$storage" -o "$folder/$storage" \
        /joint_states /metagd/reference /metagd/feedforward /metagd/commands
    recorder=$started
    for _ in $(seq 20); do
        ! grep -q 'All requested topics are subscribed' "$folder/record-$storage.log" || break
        sleep 0.5
    done
    sleep 4
    stop "$recorder" INT
    expect "bag record, $storage" \
        'Topic: /joint_states .* Count: [1-9][0-9]{2}' 'Topic: /metagd/feedforward .* Count: [1-9][0-9]{2}' \
        'Topic: /metagd/commands .* Count: [1-9][0-9]{2}' \
        -- bag info "$folder/$storage"
done
stop "$robot"
stop "$node"

for storage in mcap sqlite3; do
    if metagd replay "$folder/$storage" --urdf "$urdf" > "$folder/replay.log" 2>&1; then
        grep -q 'rigid-body' "$folder/replay.log" && pass "metagd replay, $storage" \
            || fail "metagd replay, $storage" "$(tail -n 3 "$folder/replay.log" | tr '\n' ' ')"
    else
        fail "metagd replay, $storage" "$(tail -n 3 "$folder/replay.log" | tr '\n' ' ')"
    fi
done

start_node listener
until_active /metagd
start play ros2 bag play --loop --topics /joint_states -- "$folder/mcap"
expect "bag play" '^- lwr_a1_joint' '^effort:' -- topic echo --once /metagd/feedforward
