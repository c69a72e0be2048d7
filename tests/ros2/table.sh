#!/usr/bin/env bash
# table.sh [LABEL=BINARY ...]: every script beside this one with every middleware that is installed and every binary given
# (by default dds=METAGD_BIN), as one Markdown table; then what the other tools said about us on standard error, by
# pattern.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- "dds=${METAGD_BIN:-$here/../../target/debug/metagd}"
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

# As lines of check, column, cell.
cells() {
    sed -nE \
        -e 's/^PASS (.*) \(try ([23])\)$/\1\tyes, try \2/p; t' \
        -e 's/^PASS (.*)$/\1\tyes/p' \
        -e 's/^FAIL ([^:]*): .*$/\1\t**no**/p' \
        -e 's/^SKIP ([^:]*): .*$/\1\t-/p' "$1" | sed "s/\t/\t$2\t/"
}

columns=()
for binary in "$@"; do
    for rmw in "${middlewares[@]}"; do
        column="${binary%%=*} with ${rmw#rmw_}"
        columns+=("$column")
        began=$SECONDS
        for script in "${scripts[@]}"; do
            code=0
            RMW_IMPLEMENTATION=$rmw METAGD_BIN=${binary#*=} METAGD_WARNINGS="$work/warnings of $column" \
                bash "$here/$script.sh" > "$work/out" 2> "$work/err" || code=$?
            if [ "$code" != 0 ] && ! grep -q '^FAIL' "$work/out"; then
                echo "FAIL $script.sh to its end: exit code $code" >> "$work/out"
            fi
            cells "$work/out" "$column" >> "$work/cells"
            ! grep '^FAIL' "$work/out" >&2 || cat "$work/err" >&2
        done
        echo "$column: $((SECONDS - began)) s" >&2
    done
done

IFS=$'\n'
awk -F '\t' -v columns="${columns[*]}" '
    BEGIN {
        n = split(columns, column, "\n")
        head = "| check |"
        rule = "|---|"
        for (i = 1; i <= n; i++) { head = head " " column[i] " |"; rule = rule "---|" }
        print head "\n" rule
    }
    !($1 in seen) { seen[$1] = 1; check[++m] = $1 }
    { cell[$1, $2] = $3 }
    END {
        for (k = 1; k <= m; k++) {
            row = "| " check[k] " |"
            for (i = 1; i <= n; i++)
                row = row " " (((check[k], column[i]) in cell) ? cell[check[k], column[i]] : "?") " |"
            print row
        }
    }' "$work/cells"

for column in "${columns[@]}"; do
    printf '\n%s, what the other tools say on standard error:\n\n' "$column"
    sed -E "s/\[[0-9]+\.[0-9]+\] ?//; s/'[^']*'/'...'/g; s/[0-9]{3,}/N/g" "$work/warnings of $column" 2> /dev/null \
        | sort | uniq -c | sort -rn | grep . || echo "nothing"
done
! grep -qF '**no**' "$work/cells"
