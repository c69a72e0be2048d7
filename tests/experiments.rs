//! `metagd experiment`, run as a user runs it, in its small size.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn metagd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_metagd")).args(arguments).env("RUST_LOG", "warn").output().unwrap()
}

/// Standard output of a run that must succeed.
fn experiment(name: &str, out: &Path, more: &[&str]) -> String {
    let arguments = [&["experiment", name, "--quick", "--out", out.to_str().unwrap()], more].concat();
    let output = metagd(&arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The report in a folder, whose figures must be there.
fn report(out: &Path) -> Value {
    let report: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    for figure in report["figures"].as_array().unwrap() {
        let file = out.join(figure["file"].as_str().unwrap());
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{}", file.display());
    }
    report
}

#[test]
fn rosenbrock() {
    let dir = tempfile::tempdir().unwrap();
    let text = experiment("rosenbrock", dir.path(), &[]);
    assert!(text.contains("\nMetaGD, run 2"), "{text}");
    let report = report(dir.path());
    assert_eq!(report["figures"].as_array().unwrap().len(), 3);
    // The reference values, and the paper's claims: all hold at the paper's start.
    let claims = report["claims"].as_array().unwrap();
    assert!(claims.len() == 9 && claims.iter().all(|claim| claim["holds"] == "yes"), "{claims:?}");
    assert_eq!(report["header"]["quick"], true);
}

#[test]
fn a_sweep_resumed_or_shared_reports_what_the_whole_does() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let whole = place("whole");
    let printed = experiment("rosenbrock", &whole, &["--json"]);
    let expected = std::fs::read(whole.join("report.json")).unwrap();
    assert_eq!(printed.as_bytes(), expected);
    let svg = |out: &Path| std::fs::read(out.join("rosenbrock-curves.svg")).unwrap();

    // Killed while it wrote the second run.
    let runs = std::fs::read(whole.join("runs.jsonl")).unwrap();
    let ends: Vec<usize> = (0..runs.len()).filter(|at| runs[*at] == b'\n').collect();
    assert_eq!(ends.len(), 4, "the header and three runs");
    let cut = place("cut");
    std::fs::create_dir(&cut).unwrap();
    std::fs::write(cut.join("runs.jsonl"), &runs[..ends[1] + 100]).unwrap();
    experiment("rosenbrock", &cut, &[]);
    assert_eq!(std::fs::read(cut.join("report.json")).unwrap(), expected);

    let shards = [place("shard0"), place("shard1")];
    for (index, shard) in shards.iter().enumerate() {
        let text = experiment("rosenbrock", shard, &["--shard", &format!("{index}/2")]);
        assert!(text.is_empty() && !shard.join("report.json").exists(), "{text}");
    }
    let [first, second] = shards.each_ref().map(|shard| shard.to_str().unwrap());
    let merged = place("merged");
    experiment("rosenbrock", &merged, &["--merge", first, second]);
    assert_eq!(std::fs::read(merged.join("report.json")).unwrap(), expected);
    assert_eq!(svg(&merged), svg(&whole));

    let (first, incomplete) = (first.to_string(), place("incomplete"));
    let output = metagd(&[
        "experiment",
        "rosenbrock",
        "--quick",
        "--out",
        incomplete.to_str().unwrap(),
        "--merge",
        &first,
    ]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && errors.contains("1 of 3 runs are missing"), "{errors}");
}

#[test]
fn index() {
    let dir = tempfile::tempdir().unwrap();
    let text = experiment("index", dir.path(), &["--data", "nowhere"]);
    assert!(text.contains("skipped, no recording in nowhere") && text.contains("\n+ agreement"), "{text}");
    let report = report(dir.path());
    assert_eq!(report["claims"].as_array().unwrap().len(), 2);
    for table in report["tables"].as_array().unwrap() {
        let rows = table["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 7);
        assert!(rows.iter().flat_map(|row| &row.as_array().unwrap()[1..]).all(|cell| cell.is_f64()), "{table}");
    }
}
