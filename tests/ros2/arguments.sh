#!/usr/bin/env bash
# `ros2 run` with ROS 2's own arguments, as rcl understands them.
. "$(dirname "$0")/lib.sh"

# An installed package, as `ros2 run` looks for it.
prefix=$folder/prefix
mkdir -p "$prefix/lib/metagd" "$prefix/share/metagd" "$prefix/share/ament_index/resource_index/packages"
ln -s "$METAGD_BIN" "$prefix/lib/metagd/metagd"
touch "$prefix/share/ament_index/resource_index/packages/metagd"
printf '<package format="3"><name>metagd</name><version>0.0.0</version></package>\n' > "$prefix/share/metagd/package.xml"
export AMENT_PREFIX_PATH=$prefix:$AMENT_PREFIX_PATH

# run NAME ARGUMENT...: our node by ros2 run.
run() {
    local name=$1
    shift
    start "$name" env ROS_LOCALHOST_ONLY=1 ros2 run metagd metagd node --urdf "$urdf" "$@"
}

run plain
until_active /metagd
stop "$started"

cat > "$folder/first.yaml" << END
/**:
  ros__parameters:
    limits: {rate: 111.0, torque: 0.1, ramp: 0.1}
/cell/arm:
  ros__parameters:
    limits.torque: 0.2
/other:
  ros__parameters:
    limits.ramp: 9.0
END
printf '/cell/*:\n  ros__parameters:\n    limits.rate: 222.0\n' > "$folder/second.yaml"
run full --ros-args -r __node:=arm -r __ns:=/cell -r joint_states:=/robot/state -r '~/commands:=effort' \
    -r arm:new_task:=unused --params-file "$folder/first.yaml" --params-file "$folder/second.yaml" \
    -p limits.decay:=0.25 -p learning:=false -p limits.effort:='[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]' --log-level warn --
until_active /cell/arm
expect "-r __node, -r __ns" '^/cell/arm$' -- node list
expect "-r of a topic" '/robot/state: sensor_msgs/msg/JointState' '/cell/effort: std_msgs/msg/Float64MultiArray' \
    '/cell/arm/feedforward: sensor_msgs/msg/JointState' -- node info /cell/arm
expect "params file, the node's own section" '^Double value is: 0\.2$' -- param get /cell/arm limits.torque
expect "params file, wildcard section" '^Double value is: 0\.1$' -- param get /cell/arm limits.ramp
expect "the later params file wins" '^Double value is: 222\.0$' -- param get /cell/arm limits.rate
expect "-p" '^Double value is: 0\.25$' -- param get /cell/arm limits.decay
expect "-p of a bool" 'Boolean value is: False' -- param get /cell/arm learning
expect "-p of an array" '1\.0, 2\.0, 3\.0' -- param get /cell/arm limits.effort
if grep -q INFO "$folder/full.log"; then
    fail "--log-level warn" "$(grep -m1 INFO "$folder/full.log")"
else
    pass "--log-level warn"
fi
stop "$started"

start env env ROS_NAMESPACE=/from_environment ROS_LOCALHOST_ONLY=1 ros2 run metagd metagd node --urdf "$urdf"
expect "ROS_NAMESPACE" '^/from_environment/metagd$' -- node list
stop "$started"

run sections --ros-args -r __ns:=/one -- --seconds 60 --ros-args -p limits.rate:=333.0
until_active /one/metagd
expect "two --ros-args sections" '^Double value is: 333\.0$' -- param get /one/metagd limits.rate
stop "$started"

run sim_time --ros-args -p use_sim_time:=true -r __ns:=/sim
until_active /sim/metagd
expect "use_sim_time is a parameter" 'Boolean value is: True' -- param get /sim/metagd use_sim_time
expect "use_sim_time listens to the clock" '/clock: rosgraph_msgs/msg/Clock' -- node info /sim/metagd
stop "$started"

# refused NAME PART ARGUMENT...: it does not start, and says what is wrong.
refused() {
    local name=$1 part=$2 code=0
    shift 2
    timeout 20 "$METAGD_BIN" node --urdf "$urdf" --ros-args "$@" > "$folder/refused.out" 2>&1 || code=$?
    if [ "$code" != 0 ] && [ "$code" != 124 ] && grep -qE -e "$part" "$folder/refused.out"; then
        pass "$name"
    else
        fail "$name" "exit code $code: $(tail -n 2 "$folder/refused.out" | tr '\n' ' ')"
    fi
}
refused "an argument that is none is refused" 'no-such' --no-such
refused "a remapping that is none is refused" 'joint_states' -r joint_states
refused "an invalid node name is refused" 'a b' -r '__node:=a b'
refused "an unknown parameter is refused" 'limits\.rat' -p limits.rat:=1.0
refused "a params file that is not there is refused" 'nowhere\.yaml' --params-file "$folder/nowhere.yaml"
