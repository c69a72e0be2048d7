#!/usr/bin/env bash
# table.sh [LABEL=BINARY ...]: every script beside this one with every middleware that is installed and every binary given
# (by default dds=METAGD_BIN), as one Markdown table; then what the other tools said about us on standard error, by
# pattern.
set -euo pipefail
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- "dds=${METAGD_BIN:-../../target/debug/metagd}"
scripts=(topic node param service lifecycle bag arguments)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

installed() {
    local prefix
    IFS=: read -ra prefixes <<< "$AMENT_PREFIX_PATH"
    for prefix in "${prefixes[@]}"; do
        [ ! -e "$prefix/lib/lib$1.so" ] || return 0
    done
    return 1
}
middlewares=()
for rmw in rmw_cyclonedds_cpp rmw_fastrtps_cpp; do
    if installed "$rmw"; then middlewares+=("$rmw"); else echo "SKIP $rmw: not installed" >&2; fi
done

columns=()
for binary in "$@"; do
    for rmw in "${middlewares[@]}"; do
        column="${binary%%=*} with ${rmw#rmw_}"
        columns+=("$column")
        for script in "${scripts[@]}"; do
            began=$SECONDS
            RMW_IMPLEMENTATION=$rmw METAGD_BIN=${binary#*=} METAGD_WARNINGS=$work/warnings.$column \
                bash "$script.sh" > "$work/out" 2> "$work/err" || true
            sed "s|^|$script: |" "$work/out" >> "$work/$column"
            echo "$column: $script.sh took $((SECONDS - began)) s" >&2
            ! grep -q '^FAIL' "$work/out" || { grep '^FAIL' "$work/out"; cat "$work/err"; } >&2
            # A script that died says so.
            grep -qE '^(PASS|FAIL)' "$work/out" || echo "$script: FAIL ${script}.sh: $(tail -n 1 "$work/err")" >> "$work/$column"
        done
    done
done

printf '| command |'
printf ' %s |' "${columns[@]}"
printf '\n|---|'
printf '%.0s---|' "${columns[@]}"
printf '\n'
name='s/^\([a-z]*\): \(PASS\|FAIL\|SKIP\) \(.*\)$/\1: \3/; s/ (try [23])$//; t; d'
for column in "${columns[@]}"; do
    sed -e '/: PASS /!s/\(: \(FAIL\|SKIP\) [^:]*\): .*/\1/' "$work/$column" | sed "$name"
done | awk '!seen[$0]++' > "$work/names"
while IFS= read -r row; do
    script=${row%%: *} check=${row#*: }
    printf '| %s |' "$row"
    for column in "${columns[@]}"; do
        line=$(grep -F -e "$script: PASS $check" -e "$script: FAIL $check:" -e "$script: SKIP $check:" "$work/$column" \
            | grep -E "^$script: (PASS $(sed 's/[][().*^$+?{}|\\/]/\\&/g' <<< "$check")( \(try [23]\))?$|FAIL|SKIP)" | head -n 1 || true)
        case $line in
            *": PASS "*"(try "*) printf ' yes, %s |' "${line##*(}" ;;
            *": PASS "*) printf ' yes |' ;;
            *": FAIL "*) printf ' **no** |' ;;
            *": SKIP "*) printf ' - |' ;;
            *) printf ' ? |' ;;
        esac
    done
    printf '\n'
done < "$work/names" | sed 's/, try \([23]\))/, try \1/'

for column in "${columns[@]}"; do
    printf '\n%s, on standard error of other tools:\n\n' "$column"
    if [ -s "$work/warnings.$column" ]; then
        sed -E "s/\[[0-9]+\.[0-9]+\] ?//; s/'[^']*'/'...'/g; s/[0-9]{3,}/N/g" "$work/warnings.$column" | sort | uniq -c | sort -rn
    else
        echo "nothing"
    fi
done
! grep -q ': FAIL ' "${columns[@]/#/$work/}"
