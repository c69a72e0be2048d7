//! Time the rigid-body dynamics: `cargo bench --bench dynamics`.

fn main() {
    divan::main();
}
