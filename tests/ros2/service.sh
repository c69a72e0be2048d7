#!/usr/bin/env bash
# `ros2 service` and our services.
. "$(dirname "$0")/lib.sh"

checkpoint=$folder/learnt.safetensors
start_node first -p "checkpoint.save:=$checkpoint"
until_active /metagd
stop "$started" # saves, so that there is something to load
start_node node -p "checkpoint.save:=$checkpoint" -p "checkpoint.load:=$checkpoint"
until_active /metagd

expect "service list -t" \
    '^/metagd/save \[std_srvs/srv/Trigger\]' '^/metagd/enable \[std_srvs/srv/SetBool\]' \
    '^/metagd/get_state \[lifecycle_msgs/srv/GetState\]' \
    '^/metagd/list_parameters \[rcl_interfaces/srv/ListParameters\]' \
    -- service list -t
expect "service type" '^std_srvs/srv/SetBool$' -- service type /metagd/set_learning
expect "service find" '^/metagd/new_task$' '^/metagd/reset$' -- service find std_srvs/srv/Trigger
trigger=std_srvs/srv/Trigger
rm "$checkpoint"
expect "service call save" 'success=True' 'saved .*learnt\.safetensors' -- service call /metagd/save $trigger
[ -s "$checkpoint" ] && pass "save wrote the file" || fail "save wrote the file" "there is none"
expect "service call load" 'success=True.*loaded' -- service call /metagd/load $trigger
expect "service call reset" 'success=True' -- service call /metagd/reset $trigger
expect "service call new_task" 'success=True' -- service call /metagd/new_task $trigger
for name in set_learning enable; do
    parameter=learning
    [ $name = set_learning ] || parameter=enabled
    expect "service call $name" 'success=True' -- service call /metagd/$name std_srvs/srv/SetBool '{data: false}'
    expect "$name is in force" 'Boolean value is: False' -- param get /metagd $parameter
done
rm "$checkpoint"
expect "service call load, no file" 'success=False.*learnt\.safetensors' -- service call /metagd/load $trigger
expect "service call of rcl_interfaces" "name='limits\.rate'" \
    -- service call /metagd/describe_parameters rcl_interfaces/srv/DescribeParameters '{names: [limits.rate]}'
