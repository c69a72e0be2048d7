//! Time what lies on the way of a sample besides learning: `cargo bench --bench path`.

fn main() {
    divan::main();
}
