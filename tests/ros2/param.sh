#!/usr/bin/env bash
# `ros2 param` and our parameters.
. "$(dirname "$0")/lib.sh"

start_node node
until_active /metagd

expect "param list" '^  limits\.rate$' '^  learning$' '^  urdf$' -- param list /metagd
expect "param list --filter" '^  limits\.ramp$' -- param list --filter 'limits.*' /metagd
expect "param get" '^Double value is: 2000\.0$' -- param get /metagd limits.rate
expect "param get of an array" 'Double values are: array\(.d., \[0\.0, 0\.0, -9\.81\]\)|\[0\.0, 0\.0, -9\.81\]' \
    -- param get /metagd gravity
expect "param get of none" 'Parameter not set|does not exist|not declared' -- param get /metagd no.such
expect "param describe" 'Type: double' 'Description: .*Nm/s' 'Min value: 0\.0' 'Max value: ' \
    -- param describe /metagd limits.rate
expect "param describe, read-only" 'Type: string' 'Read only: true' -- param describe /metagd preset
expect "param set" '^Set parameter successful' -- param set /metagd limits.rate 1500.0
expect "param set is in force" '^Double value is: 1500\.0$' -- param get /metagd limits.rate
expect "param set, an integer for a double" '^Set parameter successful' -- param set /metagd limits.rate 1400
expect "param set, out of range" 'failed.*limits\.torque.*0 to 1' -- param set /metagd limits.torque 1.5
expect "param set, read-only" 'failed.*ring.*read-only' -- param set /metagd ring 512
expect "param set, wrong type" 'failed.*limits\.torque.*much' -- param set /metagd limits.torque much
expect "param set, unknown" 'failed.*no\.such' -- param set /metagd no.such 1.0
expect "param delete" 'failed|cannot be deleted|Deleting parameter failed' -- param delete /metagd limits.rate
expect "param dump" '^/metagd:' 'ros__parameters:' 'rate: 1400\.0' -- param dump /metagd
cp "$folder/out" "$folder/dumped.yaml"

printf '/metagd:\n  ros__parameters:\n    limits:\n      rate: 900.0\n      torque: 0.5\n' > "$folder/good.yaml"
expect "param load" 'limits\.rate successful' 'limits\.torque successful' -- param load /metagd "$folder/good.yaml"
expect "param load is in force" '^Double value is: 900\.0$' -- param get /metagd limits.rate
printf '/metagd:\n  ros__parameters:\n    limits:\n      torque: 7.0\n' > "$folder/bad.yaml"
expect "param load, out of range" 'limits\.torque failed.*0 to 1' -- param load /metagd "$folder/bad.yaml"

start event ros2 topic echo --field changed_parameters /parameter_events # those of the tools, too
sleep 3
for rate in 801.0 802.0 803.0 804.0; do
    tool param set /metagd limits.rate "$rate"
    ! grep -q 'limits\.rate' "$folder/event.log" || break
done
grep -q 'limits\.rate' "$folder/event.log" && pass "parameter_events" || fail "parameter_events" "none came"

sed -i 's|^/metagd:|/again:|' "$folder/dumped.yaml"
start_node again --node-name again --params-file "$folder/dumped.yaml"
until_active /again
expect "a dump is a parameter file" '^Double value is: 1400\.0$' -- param get /again limits.rate
