//! `metagd params`: every parameter there is, from the one table in [`crate::config`].

use anyhow::Result;

use crate::config::{PARAMETERS, Value};

/// Prints every parameter: name, type, default, range, unit, whether it may change while the node runs, meaning.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print JSON instead of a Markdown table.
    #[arg(long)]
    json: bool,
}

/// Runs `metagd params`.
pub fn run(args: &Args) -> Result<()> {
    super::print(&if args.json { json() } else { markdown() })
}

/// The table as the README has it.
pub fn markdown() -> String {
    let mut table =
        String::from("| parameter | type | default | range | live | meaning |\n|---|---|---|---|---|---|\n");
    for p in PARAMETERS {
        let default = (p.default)();
        let paper = p.paper.map(|paper| format!(" (paper: {})", paper())).unwrap_or_default();
        let unit = if p.unit.is_empty() { String::new() } else { format!(" {}", p.unit) };
        let range = p.range.to_string().replace('|', "\\|");
        table += &format!(
            "| `{}` | {} | {default}{paper} | {range}{unit} | {} | {} |\n",
            p.name,
            default.type_name(),
            if p.live { "live" } else { "" },
            p.doc
        );
    }
    table
}

fn json() -> String {
    let of = |value: Value| match value {
        Value::Bool(v) => serde_json::json!(v),
        Value::Int(v) => serde_json::json!(v),
        Value::Float(v) => serde_json::json!(v),
        Value::Text(v) => serde_json::json!(v),
        Value::Ints(v) => serde_json::json!(v),
        Value::Floats(v) => serde_json::json!(v),
        Value::Texts(v) => serde_json::json!(v),
    };
    let rows: Vec<_> = PARAMETERS
        .iter()
        .map(|p| {
            serde_json::json!({
                "name": p.name,
                "type": (p.default)().type_name(),
                "default": of((p.default)()),
                "default_paper": of(p.default_under("paper")),
                "range": p.range.to_string(),
                "unit": p.unit,
                "live": p.live,
                "description": p.doc,
            })
        })
        .collect();
    serde_json::to_string_pretty(&rows).expect("plain values serialise") + "\n"
}

#[cfg(test)]
mod tests {
    use crate::ros::params::Source;

    #[test]
    fn the_robots_parameter_file_is_right() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/lwr.yaml");
        let config = crate::ros::params::config(&[Source::File(file)], "/metagd").unwrap();
        let arm =
            crate::dynamics::Arm::from_urdf_str(crate::sim::LWR_URDF, &config.joints, [0.0, 0.0, -9.81])
                .unwrap();
        assert_eq!((arm.len(), config.realtime.as_str()), (7, "enforce"));
    }

    #[test]
    fn every_parameter_file_holds_known_parameters_in_range() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let mut files = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_some_and(|e| e == "yaml") {
                let given = crate::ros::params::read_file(&file, "/metagd").unwrap();
                assert!(!given.is_empty(), "{} gives /metagd nothing", file.display());
                crate::config::Config::new(&given).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
                files += 1;
            }
        }
        assert!(files > 0);
    }

    #[test]
    fn the_readme_holds_the_table() {
        let readme = include_str!("../../README.md");
        assert!(
            readme.contains(&super::markdown()),
            "README.md: replace its parameter table by what `metagd params` prints"
        );
    }
}
