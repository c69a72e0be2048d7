//! What a user installs and launches: the packages' files, the prefix that `.ci/install-prefix` lays out, and, where a
//! ROS 2 is sourced, colcon and the launch files themselves.
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_metagd");
const FOLDERS: [&str; 3] = ["launch", "config", "urdf"];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = package().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below these folders of `root`, relative to it, but what Python leaves behind.
fn files(root: &Path, folders: &[&str]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = open.pop() {
        for entry in
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("__pycache__") => {}
                true => open.push(path),
                false => drop(found.insert(path.strip_prefix(root).unwrap().to_path_buf())),
            }
        }
    }
    found
}

/// Runs `.ci/install-prefix` with the program under test as its executable.
fn install(prefix: &Path) -> Output {
    let script = package().join(".ci/install-prefix");
    Command::new("bash").arg(script).arg(prefix).env("METAGD_BINARY", PROGRAM).output().expect("bash starts")
}

/// What a line of bash prints; it must succeed.
fn bash(line: &str, prefix: &Path) -> String {
    let mut command = Command::new("bash");
    let output = command.args(["-euc", line, "bash"]).arg(prefix).output().expect("bash starts");
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Skips, and says so, where Python is not there.
fn python(program: &str, arguments: &[PathBuf]) {
    let python = std::env::var("METAGD_PYTHON").unwrap_or_else(|_| "python3".into());
    let output = match Command::new(&python).args(["-c", program]).args(arguments).output() {
        Ok(output) => output,
        Err(error) if std::env::var_os("METAGD_REQUIRE_PEERS").is_none() => {
            return eprintln!("SKIPPED: {python}: {error}");
        }
        Err(error) => panic!("{python}: {error}"),
    };
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn launch_files_are_python_and_package_and_layout_are_xml() {
    let launch: Vec<PathBuf> = files(package(), &["launch"])
        .into_iter()
        .filter(|file| file.to_string_lossy().ends_with(".launch.py"))
        .collect();
    assert_eq!(launch.len(), 3, "{launch:?}");
    let absolute: Vec<PathBuf> = launch.iter().map(|file| package().join(file)).collect();
    python(
        "import sys\nfor f in sys.argv[1:]: compile(open(f, encoding='utf-8').read(), f, 'exec')",
        &absolute,
    );
    python(
        "import sys, xml.etree.ElementTree as tree\nfor f in sys.argv[1:]: tree.parse(f)",
        &[package().join("package.xml"), package().join("config/plotjuggler.xml")],
    );
}

#[test]
fn package_xml_tells_what_cargo_toml_tells() {
    let xml = read("package.xml");
    for tag in [
        format!("<name>{}</name>", env!("CARGO_PKG_NAME")),
        format!("<version>{}</version>", env!("CARGO_PKG_VERSION")),
        "<build_type>ament_cmake</build_type>".to_string(),
    ] {
        assert!(xml.contains(&tag), "package.xml lacks {tag}");
    }
    for licence in env!("CARGO_PKG_LICENSE").split(" OR ") {
        assert!(xml.contains(&format!(">{licence}</license>")), "package.xml lacks the licence {licence}");
    }
    for file in xml.split("file=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(package().join(file).is_file(), "package.xml names {file}, which is not there");
    }
}

#[test]
fn every_message_package_that_is_bound_is_a_dependency() {
    let (cmake, xml) = (read("CMakeLists.txt"), read("package.xml"));
    let list = cmake.split("set(METAGD_MESSAGES").nth(1).and_then(|rest| rest.split(')').next()).unwrap();
    assert!(list.split_whitespace().count() > 8, "{list}");
    for name in list.split_whitespace() {
        assert!(xml.contains(&format!("<depend>{name}</depend>")), "package.xml lacks {name}");
    }
}

#[test]
fn the_prefix_holds_all_that_is_launched_and_can_be_sourced_twice_and_moved() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("a prefix");
    for _ in 0..2 {
        let output = install(&prefix);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let share = prefix.join("share/metagd");
    assert_eq!(files(&share, &FOLDERS), files(package(), &FOLDERS));
    assert_eq!(
        std::fs::read(share.join("package.xml")).unwrap(),
        std::fs::read(package().join("package.xml")).unwrap()
    );
    assert!(prefix.join("share/ament_index/resource_index/packages/metagd").is_file());

    let moved = folder.path().join("moved");
    std::fs::rename(&prefix, &moved).unwrap();
    let printed = bash(
        "export AMENT_PREFIX_PATH=/opt/other; . \"$1/setup.bash\"; . \"$1/local_setup.bash\"
         echo \"$AMENT_PREFIX_PATH\"; command -v metagd; metagd --version; \"$1/lib/metagd/metagd\" --version",
        &moved,
    );
    let (at, version) = (moved.display(), concat!("metagd ", env!("CARGO_PKG_VERSION")));
    assert_eq!(printed, format!("{at}:/opt/other\n{at}/bin/metagd\n{version}\n{version}\n"));
    assert_eq!(
        bash("unset AMENT_PREFIX_PATH; . \"$1/setup.bash\"; echo $AMENT_PREFIX_PATH", &moved),
        format!("{at}\n")
    );
}

#[test]
fn a_prefix_of_others_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("setup.bash");
    std::fs::write(&theirs, "# another installation\n").unwrap();
    let output = install(folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("belongs to another installation"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_to_string(theirs).unwrap(), "# another installation\n");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_named_urdf_is_found_from_the_package_as_the_parameter_files_name_it() {
    for file in
        files(package(), &["config"]).iter().filter(|file| file.extension().is_some_and(|e| e == "yaml"))
    {
        let content = read(file);
        let urdf = content.lines().find_map(|line| line.trim().strip_prefix("urdf: ")).unwrap();
        assert!(package().join(urdf).is_file(), "{}: {urdf}", file.display());
        assert!(content.contains("\n/**:\n"), "{} speaks of one node's name only", file.display());
    }
}

/// Runs one of tests/ros2/ with these arguments, in a domain of its own; skips, and says so, where no ROS 2 is sourced.
fn under_ros2(script: &str) {
    if std::env::var_os("ROS_DISTRO").is_none() {
        return eprintln!("SKIPPED: {script}: no ROS 2 is sourced");
    }
    let folder = tempfile::tempdir().unwrap();
    let installed = install(folder.path());
    assert!(installed.status.success(), "{}", text(&installed.stderr));
    let output = Command::new("bash")
        .arg(package().join("tests/ros2").join(script))
        .arg(folder.path())
        .arg(PROGRAM)
        .env("ROS_DOMAIN_ID", (1 + std::process::id() % 100).to_string())
        .output()
        .expect("bash starts");
    eprintln!("{}", text(&output.stdout));
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn colcon_builds_and_installs_it() {
    under_ros2("colcon.sh");
}

#[test]
fn launch_files_start_it_and_end_it_cleanly() {
    under_ros2("launch.sh");
}
