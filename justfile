# What .ci/run does, by hand: `just` lists the recipes, `just ci` runs them all.

default:
    @just --list

# Format the code.
fmt:
    cargo fmt

# Formatting, lints and documentation, warnings denied.
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

# The tests, as the README gives them.
test:
    cargo test --release

# The tests with every foreign peer (PyPI's rosbags, pin, cyclonedds, hdrhistogram) required.
test-peers:
    METAGD_REQUIRE_PEERS=1 cargo test --release

# The networks' kernels under Miri, in plain Rust (some minutes; needs a nightly toolchain with the component miri).
miri:
    MIRIFLAGS=-Zmiri-disable-isolation METAGD_KERNEL=portable cargo +nightly miri test --lib -- learn::network learn::reference::a_block

# Licences, sources and known advisories of the dependency tree (cargo install cargo-deny).
deny:
    cargo deny check licenses bans sources
    cargo deny check advisories

# The main job on this machine.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# Time the learning step, prediction and rigid-body dynamics.
bench:
    cargo bench

# Time our inverse dynamics beside Pinocchio's (needs g++, and PyPI's pin in a venv of its own).
pinocchio:
    bash bench/pinocchio/run

# The learning step against JAX, candle and, where it is installed, PyTorch (`just peers --quick` for a first look).
peers *ARGS:
    test -n "${METAGD_PYTHON:-}" || test -x target/peers-venv/bin/python || python3 -m venv target/peers-venv
    test -n "${METAGD_PYTHON:-}" || target/peers-venv/bin/pip install --quiet --disable-pip-version-check -r bench/peers/requirements.txt
    cd bench/peers && cargo run --release --locked -- {{ARGS}}

# Lay out what colcon installs in DIR, without ROS: `. DIR/setup.bash` after any ROS 2, then `ros2 launch metagd ...`.
install-prefix DIR:
    bash .ci/install-prefix {{quote(DIR)}}

# Everything that CI runs.
ci:
    bash .ci/run
