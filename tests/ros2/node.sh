#!/usr/bin/env bash
# `ros2 node` and our node.
. "$(dirname "$0")/lib.sh"

start_node node --namespace /cell
node=$started
until_active /cell/metagd

expect "node list" '^/cell/metagd$' -- node list
expect "node list -c" '^1$' -- node list -c
expect "node info" \
    '^  Subscribers:' '/cell/joint_states: sensor_msgs/msg/JointState' \
    '/cell/metagd/reference: trajectory_msgs/msg/JointTrajectory' \
    '/cell/metagd/commands: std_msgs/msg/Float64MultiArray' '/cell/metagd/feedforward: sensor_msgs/msg/JointState' \
    '/parameter_events: rcl_interfaces/msg/ParameterEvent' '/rosout: rcl_interfaces/msg/Log' \
    '/cell/metagd/set_parameters: rcl_interfaces/srv/SetParameters' \
    '/cell/metagd/change_state: lifecycle_msgs/srv/ChangeState' '/cell/metagd/save: std_srvs/srv/Trigger' \
    -- node info /cell/metagd

stop "$node"
[ "$code" = 0 ] && pass "SIGTERM ends it with 0" || fail "SIGTERM ends it with 0" "it was $code"
for _ in 1 2 3 4 5; do
    tool node list
    grep -q metagd "$folder/out" || break
    sleep 1
done
if grep -q metagd "$folder/out"; then fail "gone from node list" "$(said)"; else pass "gone from node list"; fi
