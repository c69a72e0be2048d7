#!/usr/bin/env bash
# `ros2 topic` and our topics.
. "$(dirname "$0")/lib.sh"

start_node node
start_robot
until_active /metagd

expect "topic list -t" \
    '^/joint_states \[sensor_msgs/msg/JointState\]' \
    '^/metagd/feedforward \[sensor_msgs/msg/JointState\]' \
    '^/metagd/commands \[std_msgs/msg/Float64MultiArray\]' \
    '^/metagd/reference \[trajectory_msgs/msg/JointTrajectory\]' \
    '^/metagd/transition_event \[lifecycle_msgs/msg/TransitionEvent\]' \
    '^/parameter_events \[rcl_interfaces/msg/ParameterEvent\]' '^/rosout \[rcl_interfaces/msg/Log\]' \
    -- topic list -t
expect "topic type" '^sensor_msgs/msg/JointState$' -- topic type /metagd/feedforward
expect "topic find" '^/metagd/commands$' -- topic find std_msgs/msg/Float64MultiArray
expect "topic info -v of what we publish" \
    'Publisher count: 1' 'Node name: metagd' 'Endpoint type: PUBLISHER' 'Reliability: RELIABLE' \
    'History \(Depth\): (KEEP_LAST \(1\)|UNKNOWN)' 'Durability: VOLATILE' \
    -- topic info -v /metagd/commands
expect "topic info -v of what we subscribe to" \
    'Subscription count: 1' 'Node name: metagd' 'Endpoint type: SUBSCRIPTION' 'Reliability: BEST_EFFORT' \
    -- topic info -v /joint_states
expect "topic echo" '^- lwr_a6_joint' '^effort:' -- topic echo --once /metagd/feedforward
expect "topic echo, best effort" "^array\('d', \[" -- topic echo --once --qos-reliability best_effort --field data /metagd/commands
LIMIT=8 expect "topic hz" 'average rate: [1-9][0-9]{2}' -- topic hz --window 500 /metagd/feedforward
LIMIT=6 expect "topic delay" 'average delay: [0-9]+\.' -- topic delay /metagd/feedforward
LIMIT=6 expect "topic bw" 'KB/s from' -- topic bw /metagd/commands

# A robot of `ros2 topic pub`: an arm at rest.
start_node fed --namespace /fed
until_active /fed/metagd
names='[lwr_a1_joint, lwr_a2_joint, lwr_e1_joint, lwr_a3_joint, lwr_a4_joint, lwr_a5_joint, lwr_a6_joint]'
zeros='[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]'
start pub ros2 topic pub --rate 100 /fed/joint_states sensor_msgs/msg/JointState \
    "{header: auto, name: $names, position: $zeros, velocity: $zeros, effort: $zeros}"
expect "topic pub" '^- lwr_a1_joint' '^effort:' -- topic echo --once /fed/metagd/feedforward

# What other builds may lack.
tool topic list
topics=$(cat "$folder/out")
for topic in /diagnostics /metagd/statistics/names /metagd/statistics/values; do
    if grep -qx "$topic" <<< "$topics"; then
        expect "topic echo $topic" '^---' -- topic echo --once "$topic"
    else
        skip "topic echo $topic" "this build has no such topic"
    fi
done
expect "topic echo /rosout, late" '^name: (fed\.)?metagd' '^msg: ' -- topic echo --once /rosout
