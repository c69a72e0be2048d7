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
fn batch() {
    let dir = tempfile::tempdir().unwrap();
    let text = experiment("batch", dir.path(), &["--dropout", "0.05"]);
    assert!(
        text.starts_with("metagd experiment batch --quick --dropout 0.05 --memory-rate 0.01\n"),
        "{text}"
    );
    let report = report(dir.path());
    let rows = report["tables"][0]["rows"].as_array().unwrap();
    let row = |learner: &str, task: &str| {
        let of = |row: &&Value| row[0] == learner && row[1] == task;
        rows.iter().find(of).unwrap_or_else(|| panic!("no {learner}, {task} in {rows:?}"))
    };
    for (learner, task) in
        [("GD", "horizontal"), ("MetaGD", "vertical"), ("MetaGD, memory carried", "vertical")]
    {
        let (before, after) =
            (row(learner, task)[2].as_f64().unwrap(), row(learner, task)[4].as_f64().unwrap());
        assert!(after < 0.7 * before, "{learner}, {task}: {before} {after}");
    }
    // The same start, another descent.
    let [fresh, carried] = ["MetaGD", "MetaGD, memory carried"].map(|learner| row(learner, "vertical"));
    assert!(fresh[2] == carried[2] && fresh[3] != carried[3], "{fresh} {carried}");
    assert_eq!(report["claims"].as_array().unwrap().len(), 4);
}

/// The titles of a report's tables.
fn titles(report: &Value) -> Vec<&str> {
    report["tables"].as_array().unwrap().iter().map(|table| table["title"].as_str().unwrap()).collect()
}

/// The cells of the row called `name` in table number `table`.
fn row<'a>(report: &'a Value, table: usize, name: &str) -> &'a [Value] {
    let rows = report["tables"][table]["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no row {name}: {rows:?}"));
    &row.as_array().unwrap()[1..]
}

#[test]
fn online() {
    let dir = tempfile::tempdir().unwrap();
    let text = experiment("online", dir.path(), &[]);
    let report = report(dir.path());
    assert!(titles(&report)[0].starts_with("Table I"), "{:?}", titles(&report));
    let paper: Vec<f64> =
        row(&report, 0, "metagd, paper").iter().map(|cell| cell.as_f64().unwrap()).collect();
    assert_eq!(paper, [125.0, 124.0, 106.0, 6.7, 0.39]);
    let ours = row(&report, 0, "metagd, here");
    assert!(ours.len() == 5 && ours.iter().all(|cell| cell["mean"].as_f64().unwrap() > 0.0), "{ours:?}");
    assert!(text.contains("CPU time of a learning step"), "{text}");
    assert!(titles(&report).iter().all(|title| !title.contains("CPU time")), "a file holds what repeats");
    let claims = report["claims"].as_array().unwrap();
    assert_eq!(claims[0]["holds"], "yes", "MetaGD below GD: {claims:?}");
    assert_eq!(claims[6]["holds"], "no", "MetaGD not below persistence: {claims:?}");
}

#[test]
fn real_takes_the_recordings_named_and_tells_which_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let files = [("one.csv", 2.0), ("two.csv", 5.0)].map(|(name, torque)| {
        let mut text = String::from("t,q1,qd1,tau1\n");
        for k in 0..400 {
            let t = 0.005 * f64::from(k);
            text += &format!("{t},{},{},{torque}\n", (3.0 * t).sin(), 3.0 * (3.0 * t).cos());
        }
        std::fs::write(place(name), text).unwrap();
        place(name).to_str().unwrap().to_string()
    });
    let none = place("none");
    let data = ["--data", none.to_str().unwrap()];
    let [first, second] = files.each_ref().map(String::as_str);
    let out = place("out");
    let text = experiment("real", &out, &[&data[..], &[first, second]].concat());
    assert!(text.contains("skipped: no recording at"), "{text}");
    let report = report(&out);
    assert!(titles(&report).iter().all(|title| title.starts_with("given: ")), "{:?}", titles(&report));
    // Of 800 samples ten are wrong by 2 Nm, from nothing, and ten by 3 Nm, when the second recording begins; in the second pass
    // ten more by 3 Nm, when the first one comes again.
    let cells = row(&report, 0, "persistence");
    let expected = [(130.0_f64 / 800.0).sqrt(), (180.0_f64 / 800.0).sqrt(), 3.0];
    for (cell, expected) in cells.iter().zip(expected) {
        assert!((cell.as_f64().unwrap() - expected).abs() < 1e-9, "{cells:?}");
    }
    let metagd = row(&report, 0, "metagd, robot")[0].as_f64().unwrap();
    assert!(metagd > 0.0 && metagd < 1.0, "{metagd}");
    assert!(!text.contains("\nrls "), "nobody gave a URDF: {text}");

    let text = experiment("real", &place("nothing"), &data);
    assert!(text.contains("kuka_lwr4plus_meas1.csv.gz") && text.contains("METAGD_DATA"), "{text}");
}

/// MNIST's four files, of `count` images each: a blob for every digit in a place of its own, a little off it each time.
#[cfg(feature = "experiments")]
fn blobs(dir: &Path, count: u32) {
    use std::io::Write;
    const SIDE: u32 = 12;
    for name in ["train", "t10k"] {
        let header = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        let mut images = header(&[0x0803, count, SIDE, SIDE]);
        let mut labels = header(&[0x0801, count]);
        for index in 0..count {
            let (digit, off) = (index % 6, index * 7 % 5 % 3);
            let (top, left) = (digit / 3 * 5 + off, digit % 3 * 3 + (index / 6) % 3);
            let inside = |row, column| (top..top + 4).contains(&row) && (left..left + 3).contains(&column);
            let pixels = (0..SIDE * SIDE).map(|at| if inside(at / SIDE, at % SIDE) { 255 } else { 0 });
            images.extend(pixels);
            labels.push(digit as u8);
        }
        for (kind, bytes) in [("images-idx3", images), ("labels-idx1", labels)] {
            let file = std::fs::File::create(dir.join(format!("{name}-{kind}-ubyte.gz"))).unwrap();
            let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            packed.write_all(&bytes).unwrap();
            packed.finish().unwrap();
        }
    }
}

#[cfg(feature = "experiments")]
#[test]
fn mnist() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("out"));
    std::fs::create_dir(&data).unwrap();
    blobs(&data, 120);
    let data = data.to_str().unwrap();
    let text = experiment("mnist", &out, &["--data", data, "--jobs", "2"]);
    for name in ["MetaGDMemAdam, carried", "Adam with memory, carried", "L2LBGDBGD"] {
        assert!(text.contains(&format!("\n{name} ")), "{text}");
    }
    assert_eq!(report(&out)["figures"].as_array().unwrap().len(), 3);
    assert!(std::fs::read_to_string(out.join("mnist-curves.svg")).unwrap().contains("training loss"));
    // What is learnt does not depend on how many runs are side by side.
    let alone = dir.path().join("alone");
    experiment("mnist", &alone, &["--data", data, "--jobs", "1"]);
    assert_eq!(report(&alone), report(&out));
    let output = metagd(&["experiment", "mnist", "--data", out.to_str().unwrap()]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && errors.contains("train-images-idx3-ubyte"), "{errors}");
}

#[cfg(not(feature = "experiments"))]
#[test]
fn mnist_says_which_feature_it_needs() {
    let output = metagd(&["experiment", "mnist", "--data", "somewhere", "--quick"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && errors.contains("feature `experiments`"), "{errors}");
}

#[test]
fn beyond() {
    let dir = tempfile::tempdir().unwrap();
    let text = experiment("beyond", dir.path(), &[]);
    assert!(text.contains("mix, MetaGD networks"), "{text}");
    let report = report(dir.path());
    let tables = report["tables"].as_array().unwrap();
    let title =
        |text: &str| tables.iter().find(|table| table["title"].as_str().unwrap().contains(text)).unwrap();
    for table in ["lifting", "the goal", "constants one by one", "closed loop"] {
        assert!(!title(table)["rows"].as_array().unwrap().is_empty(), "{table}");
    }
    // Even in the small size nothing is far from the best baseline while it learns.
    for row in title("the goal")["rows"].as_array().unwrap() {
        assert!(row[5].as_f64().unwrap() < 25.0, "{row}");
    }
}

#[test]
fn index() {
    let dir = tempfile::tempdir().unwrap();
    let text = experiment("index", dir.path(), &["--data", "nowhere"]);
    assert!(text.contains("skipped, no recording in nowhere") && text.contains("\n+ agreement"), "{text}");
    let report = report(dir.path());
    assert_eq!(report["claims"].as_array().unwrap().len(), 2);
    assert_eq!(titles(&report).len(), 4, "two presets, two figures");
    for table in report["tables"].as_array().unwrap() {
        let rows = table["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 7);
        assert!(
            rows.iter().flat_map(|row| &row.as_array().unwrap()[1..]).all(|cell| cell.is_f64()),
            "{table}"
        );
    }
}
