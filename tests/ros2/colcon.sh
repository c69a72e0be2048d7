#!/usr/bin/env bash
# colcon.sh PREFIX BINARY: what CMakeLists.txt asks of cargo and installs, under a sourced ROS 2. A stand-in for cargo hands
# out BINARY, so that this takes seconds; PREFIX, laid out by .ci/install-prefix, must hold the same files.
set -euo pipefail
prefix=$1 binary=$2
source=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/cargo" <<'END'
#!/usr/bin/env bash
printf '%s\n' "$@" "IDL_PACKAGE_FILTER=$IDL_PACKAGE_FILTER" > "$FOLDER/asked"
while [ "$1" != --target-dir ]; do shift; done
install -D "$BINARY" "$2/release/metagd"
END
chmod +x "$folder/cargo"
export FOLDER=$folder BINARY=$binary CARGO=$folder/cargo

mkdir -p "$folder/workspace/src"
ln -s "$source" "$folder/workspace/src/metagd"
cd "$folder/workspace"
if command -v colcon > /dev/null; then
    colcon --log-base "$folder/log" build --packages-select metagd
    installed=install/metagd
else
    cmake -S src/metagd -B build -DCMAKE_INSTALL_PREFIX="$PWD/install/metagd"
    cmake --build build --target install
    installed=install/metagd
fi

for asked in build --release --locked --no-default-features rcl; do
    grep -qxF -e "$asked" "$folder/asked" || { echo "cargo was not asked for $asked:"; cat "$folder/asked"; exit 1; }
done
grep -qx 'IDL_PACKAGE_FILTER=.*;std_msgs;std_srvs;.*' "$folder/asked" || { cat "$folder/asked"; exit 1; }
cmp "$binary" "$installed/lib/metagd/metagd"
[ "$(readlink "$installed/bin/metagd")" = ../lib/metagd/metagd ]
files() { (cd "$1/share/metagd" && find package.xml launch config urdf -type f | sort); }
diff <(files "$prefix") <(files "$installed")
[ -e "$installed/share/ament_index/resource_index/packages/metagd" ]

set +u
. "$installed/share/metagd/local_setup.bash"
set -u
[ "$(command -v metagd)" = "$PWD/$installed/bin/metagd" ] || { echo "metagd is not on PATH: $PATH"; exit 1; }
ros2 run metagd metagd --version
