//! Parameter files and overrides in ROS form.
//!
//! Contract: called at start-up; reads files, allocates, never panics on any content. The form is rcl's
//! (`rcl_yaml_param_parser`): mappings of names down to `ros__parameters`, where the names joined by slashes select
//! nodes (`*` for one part of a name, `**` for any number of them), and below it the parameters, nested keys joined by
//! dots. What stands later counts: later in a file, in a later file, and overrides last of all.
//!
//! ```yaml
//! /**:
//!   ros__parameters:
//!     learner: {name: metagd, rate: 3e-2}
//! /cell/metagd:
//!   ros__parameters:
//!     joints: [lwr_a1, lwr_a2]
//! ```
//!
//! Stricter than rcl: a key twice in one mapping is an error, and so is a parameter without a value.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::config::{self, Config, ConfigError, Value};

/// Why parameters were refused, and where they stand.
#[derive(Debug, thiserror::Error)]
pub enum ParamsError {
    /// The file cannot be read.
    #[error("cannot read parameter file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The text is no YAML, or repeats a key.
    #[error("{origin}: {reason}")]
    Yaml {
        /// File and line, or the override.
        origin: Origin,
        /// What the parser says.
        reason: String,
    },
    /// The YAML is not a parameter file.
    #[error("{origin}: `{key}` is {found}; expected {expected}")]
    Form {
        /// File and line, or the override.
        origin: Origin,
        /// The key, all its levels.
        key: String,
        /// What stands there.
        found: &'static str,
        /// What should stand there.
        expected: &'static str,
    },
    /// An override is not `name:=value`.
    #[error("`{0}` is not a parameter; write it as name:=value")]
    Override(String),
    /// No such parameter, or not such a value of it.
    #[error("{origin}: {source}")]
    Config {
        /// File and line, or the override.
        origin: Origin,
        /// What is wrong.
        source: ConfigError,
    },
}

/// Where a parameter was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file, in this line (0 where the line is not known).
    File(PathBuf, u64),
    /// By an override on the command line.
    Override(String),
    /// By several together.
    All,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, 0) => write!(f, "{}", path.display()),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Override(text) => write!(f, "-p {text}"),
            Origin::All => write!(f, "the parameters"),
        }
    }
}

/// Where parameters come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A parameter file.
    File(PathBuf),
    /// `[node:]name:=value`, the value in YAML.
    Override(String),
    /// A value that came in another way.
    Value(&'static str, Value),
}

/// The configuration of `node` (fully qualified): the preset's defaults, then what the sources give, the later over the
/// earlier.
///
/// # Errors
/// [`ParamsError`]; unknown, mistyped and out-of-range parameters are named with the place where they were given.
pub fn config(sources: &[Source], node: &str) -> Result<Config, ParamsError> {
    let mut given = Vec::new();
    for source in sources {
        match source {
            Source::File(file) => given.extend(read_located(file, node)?),
            Source::Override(text) => {
                let Override { node: of, name, value } = parse_override(text)?;
                if of.is_none_or(|of| matches(&of, node)) {
                    given.push((name, value, Origin::Override(text.clone())));
                }
            }
            Source::Value(name, value) => {
                given.push((name.to_string(), value.clone(), Origin::Override(format!("{name}:={value}"))));
            }
        }
    }
    let mut values = BTreeMap::new();
    for (name, value, origin) in given {
        let value = config::check(&name, value).map_err(|source| ParamsError::Config { origin, source })?;
        values.insert(name, value);
    }
    Config::new(&values).map_err(|source| ParamsError::Config { origin: Origin::All, source })
}

/// The parameters that a file gives the node of this fully qualified name, unchecked; none where it names other nodes
/// only.
///
/// # Errors
/// [`ParamsError`].
pub fn read_file(path: &Path, node: &str) -> Result<BTreeMap<String, Value>, ParamsError> {
    Ok(read_located(path, node)?.into_iter().map(|(name, value, _)| (name, value)).collect())
}

/// As [`read_file`], from text; `path` is what errors name.
///
/// # Errors
/// [`ParamsError`].
pub fn read_str(text: &str, path: &Path, node: &str) -> Result<BTreeMap<String, Value>, ParamsError> {
    Ok(parse(text, path, node)?.into_iter().map(|(name, value, _)| (name, value)).collect())
}

/// One parameter as `-p` takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// The node that it is for, by its name in the root namespace; `None`: every one.
    pub node: Option<String>,
    /// The parameter.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// `[node:]name:=value`, the value in YAML: `deadline:=5`, `metagd:joints:=[a1, a2]`.
///
/// # Errors
/// [`ParamsError`].
pub fn parse_override(text: &str) -> Result<Override, ParamsError> {
    let (name, value) = text.split_once(":=").ok_or_else(|| ParamsError::Override(text.to_string()))?;
    let origin = |_| Origin::Override(text.to_string());
    let node = yaml(value).map_err(|(_, reason)| ParamsError::Yaml { origin: origin(0), reason })?;
    let (of, name) = match name.trim().split_once(':') {
        Some((of, name)) => (Some(of.to_string()), name),
        None => (None, name.trim()),
    };
    if name.is_empty() || of.as_ref().is_some_and(String::is_empty) {
        return Err(ParamsError::Override(text.to_string()));
    }
    Ok(Override { node: of, name: name.to_string(), value: typed(name, node, &origin)? })
}

type Located = Vec<(String, Value, Origin)>;

fn read_located(path: &Path, node: &str) -> Result<Located, ParamsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ParamsError::Io { path: path.to_path_buf(), source })?;
    parse(&text, path, node)
}

fn parse(text: &str, path: &Path, node: &str) -> Result<Located, ParamsError> {
    let origin = |line| Origin::File(path.to_path_buf(), line);
    let document = yaml(text).map_err(|(line, reason)| ParamsError::Yaml { origin: origin(line), reason })?;
    let mut found = Vec::new();
    if !matches!(document.value, Yaml::Null) {
        select(document, "", node, &origin, &mut found)?;
    }
    Ok(found)
}

/// Goes down the names of nodes to each `ros__parameters` and takes those that are meant for `node`.
fn select(
    yaml: Node,
    names: &str,
    node: &str,
    origin: &dyn Fn(u64) -> Origin,
    found: &mut Located,
) -> Result<(), ParamsError> {
    let line = yaml.referenced.line();
    let kind = yaml.value.kind();
    let Yaml::Map(entries) = yaml.value else {
        return Err(ParamsError::Form {
            origin: origin(line),
            key: if names.is_empty() { "the file".into() } else { names.into() },
            found: kind,
            expected: "a mapping of node names that ends in `ros__parameters`",
        });
    };
    for (key, value) in entries {
        if key != "ros__parameters" {
            select(value, &format!("{names}/{}", key.trim_matches('/')), node, origin, found)?;
        } else if names.is_empty() {
            return Err(ParamsError::Form {
                origin: origin(line),
                key,
                found: "at the top",
                expected: "it below a node's name, or below `/**` for all nodes",
            });
        } else if matches(names, node) {
            flatten(value, "", origin, found)?;
        }
    }
    Ok(())
}

/// Whether a name with wildcards means this node. Both are split at slashes; `*` is any one part, `**` any number.
fn matches(pattern: &str, node: &str) -> bool {
    fn parts(name: &str) -> Vec<&str> {
        name.split('/').filter(|part| !part.is_empty()).collect()
    }
    // Row by row of the pattern: reached[i] says whether it can stand for the first i parts of the name.
    let node = parts(node);
    let mut reached = vec![false; node.len() + 1];
    reached[0] = true;
    for part in parts(pattern) {
        let mut next = vec![false; node.len() + 1];
        for i in 0..=node.len() {
            next[i] = match part {
                "**" => reached[i] || (i > 0 && next[i - 1]),
                "*" => i > 0 && reached[i - 1],
                word => i > 0 && reached[i - 1] && node[i - 1] == word,
            };
        }
        reached = next;
    }
    reached[node.len()]
}

fn flatten(
    yaml: Node,
    prefix: &str,
    origin: &dyn Fn(u64) -> Origin,
    found: &mut Located,
) -> Result<(), ParamsError> {
    let line = yaml.referenced.line();
    match yaml.value {
        Yaml::Map(entries) => {
            for (key, value) in entries {
                let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                flatten(value, &name, origin, found)?;
            }
            Ok(())
        }
        Yaml::Null if prefix.is_empty() => Ok(()),
        other if prefix.is_empty() => Err(ParamsError::Form {
            origin: origin(line),
            key: "ros__parameters".into(),
            found: other.kind(),
            expected: "a mapping of parameters",
        }),
        value => {
            let value = typed(prefix, Node { value, ..yaml }, origin)?;
            found.push((prefix.to_string(), value, origin(line)));
            Ok(())
        }
    }
}

/// A scalar or an array of one type; integers among floats are floats.
fn typed(name: &str, yaml: Node, origin: &dyn Fn(u64) -> Origin) -> Result<Value, ParamsError> {
    let form = |line, found, expected| ParamsError::Form {
        origin: origin(line),
        key: name.to_string(),
        found,
        expected,
    };
    let line = yaml.referenced.line();
    let items = match yaml.value {
        Yaml::Bool(v) => return Ok(Value::Bool(v)),
        Yaml::Int(v) => return Ok(Value::Int(v)),
        Yaml::Float(v) => return Ok(Value::Float(v)),
        Yaml::Text(v) => return Ok(Value::Text(v)),
        Yaml::List(items) => items,
        other => {
            return Err(form(line, other.kind(), "a bool, integer, double, string or array of one of these"));
        }
    };
    let all = |is: fn(&Yaml) -> bool| items.iter().all(|item| is(&item.value));
    if all(|item| matches!(item, Yaml::Text(_))) {
        Ok(Value::Texts(items.into_iter().filter_map(|item| item.value.into_text()).collect()))
    } else if all(|item| matches!(item, Yaml::Int(_))) {
        Ok(Value::Ints(items.iter().filter_map(|item| item.value.as_int()).collect()))
    } else if all(|item| matches!(item, Yaml::Int(_) | Yaml::Float(_))) {
        Ok(Value::Floats(items.iter().filter_map(|item| item.value.as_float()).collect()))
    } else {
        let expected = "an array of integers, of doubles or of strings";
        let odd =
            items.iter().find(|item| !matches!(item.value, Yaml::Text(_) | Yaml::Int(_) | Yaml::Float(_)));
        match odd {
            Some(odd) => Err(form(odd.referenced.line(), odd.value.array_kind(), expected)),
            None => Err(form(line, "an array of strings and numbers", expected)),
        }
    }
}

/// Nesting deeper than this is refused; a parameter file needs five levels.
const MAX_DEPTH: usize = 64;

fn yaml(text: &str) -> Result<Node, (u64, String)> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |at| at.line());
        (line, error.without_snippet().to_string())
    })
}

type Node = Spanned<Yaml>;

/// Any YAML, scalars typed by their look.
#[derive(Debug)]
enum Yaml {
    Null,
    Bool(bool),
    Int(i64),
    /// An integer past 64 bits with sign.
    Huge,
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Yaml {
    fn kind(&self) -> &'static str {
        match self {
            Yaml::Null => "without a value",
            Yaml::Bool(_) => "a bool",
            Yaml::Int(_) => "an integer",
            Yaml::Huge => "an integer past 64 bits",
            Yaml::Float(_) => "a double",
            Yaml::Text(_) => "a string",
            Yaml::List(_) => "an array",
            Yaml::Map(_) => "a mapping",
        }
    }

    fn array_kind(&self) -> &'static str {
        match self {
            Yaml::Bool(_) => "an array with a bool",
            Yaml::Null => "an array with an empty item",
            Yaml::Huge => "an array with an integer past 64 bits",
            Yaml::List(_) => "an array of arrays",
            _ => "an array with a mapping",
        }
    }

    fn as_int(&self) -> Option<i64> {
        match self {
            Yaml::Int(v) => Some(*v),
            _ => None,
        }
    }

    fn as_float(&self) -> Option<f64> {
        match self {
            Yaml::Int(v) => Some(*v as f64),
            Yaml::Float(v) => Some(*v),
            _ => None,
        }
    }

    fn into_text(self) -> Option<String> {
        match self {
            Yaml::Text(v) => Some(v),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlVisitor)
    }
}

struct YamlVisitor;

impl<'de> Visitor<'de> for YamlVisitor {
    type Value = Yaml;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_none<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Yaml, E> {
        Ok(Yaml::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Yaml, E> {
        Ok(Yaml::Int(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Yaml, E> {
        Ok(i64::try_from(v).map_or(Yaml::Huge, Yaml::Int))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Yaml, E> {
        Ok(Yaml::Float(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Yaml, E> {
        Ok(Yaml::Text(v.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Yaml, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Yaml::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Yaml, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Yaml::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NODE: &str = "/cell/metagd";

    fn read(text: &str) -> Result<BTreeMap<String, Value>, String> {
        read_str(text, Path::new("lwr.yaml"), NODE).map_err(|e| e.to_string())
    }

    fn below_all(parameters: &str) -> String {
        let indented: String = parameters.lines().map(|line| format!("    {line}\n")).collect();
        format!("/**:\n  ros__parameters:\n{indented}")
    }

    #[test]
    fn every_form_of_selecting_a_node_is_understood() {
        for (form, meant) in [
            ("/**: {ros__parameters: {x: 1}}", true),
            ("'/**': {ros__parameters: {x: 1}}", true),
            ("/cell/metagd: {ros__parameters: {x: 1}}", true),
            ("cell/metagd: {ros__parameters: {x: 1}}", true),
            ("cell: {metagd: {ros__parameters: {x: 1}}}", true),
            ("/cell: {metagd: {ros__parameters: {x: 1}}}", true),
            ("/*/metagd: {ros__parameters: {x: 1}}", true),
            ("/**/metagd: {ros__parameters: {x: 1}}", true),
            ("/cell/**: {ros__parameters: {x: 1}}", true),
            ("/cell/*: {ros__parameters: {x: 1}}", true),
            ("/cell/metagd/**: {ros__parameters: {x: 1}}", true),
            ("metagd: {ros__parameters: {x: 1}}", false),
            ("/metagd: {ros__parameters: {x: 1}}", false),
            ("/cell/other: {ros__parameters: {x: 1}}", false),
            ("/*: {ros__parameters: {x: 1}}", false),
            ("/cell/metagd/*: {ros__parameters: {x: 1}}", false),
        ] {
            assert_eq!(read(form).unwrap().contains_key("x"), meant, "{form}");
        }
        let bare = read_str("metagd: {ros__parameters: {x: 1}}", Path::new("f"), "/metagd").unwrap();
        assert_eq!(bare["x"], Value::Int(1));
    }

    #[test]
    fn what_stands_later_counts() {
        let text = "/**: {ros__parameters: {x: 1, y: 1}}\n/cell/metagd: {ros__parameters: {x: 2}}\n\
                    /*/metagd: {ros__parameters: {y: 3}}\n";
        let values = read(text).unwrap();
        assert_eq!((&values["x"], &values["y"]), (&Value::Int(2), &Value::Int(3)));
    }

    #[test]
    fn scalars_and_arrays_have_the_types_that_ros_gives_them() {
        let values = read(&below_all(
            "truth: true\nwhole: -3\nhex: 0x10\nreal: 1.0\nsmall: 1e-3\nnan: .nan\ninf: -.inf\nword: lwr\n\
             agreed: yes\noff: Off\nsaid: 'yes'\nquoted: '5'\nnone: []\nints: [1, 2]\nmixed: [1, 2.5]\nwords: [a, '1']\nlearner:\n  \
             scale: {torque: 5}\n  name: gd\ndotted.key: 1",
        ))
        .unwrap();
        let expected = [
            ("truth", Value::Bool(true)),
            ("whole", Value::Int(-3)),
            ("hex", Value::Int(16)),
            ("real", Value::Float(1.0)),
            ("small", Value::Float(1e-3)),
            ("inf", Value::Float(f64::NEG_INFINITY)),
            ("word", Value::Text("lwr".into())),
            ("agreed", Value::Bool(true)),
            ("off", Value::Bool(false)),
            ("said", Value::Text("yes".into())),
            ("quoted", Value::Text("5".into())),
            ("none", Value::Texts(vec![])),
            ("ints", Value::Ints(vec![1, 2])),
            ("mixed", Value::Floats(vec![1.0, 2.5])),
            ("words", Value::Texts(vec!["a".into(), "1".into()])),
            ("learner.scale.torque", Value::Int(5)),
            ("learner.name", Value::Text("gd".into())),
            ("dotted.key", Value::Int(1)),
        ];
        for (name, value) in &expected {
            assert_eq!(values.get(*name), Some(value), "{name}");
        }
        assert!(matches!(values["nan"], Value::Float(v) if v.is_nan()));
        assert_eq!(values.len(), expected.len() + 1);
    }

    #[test]
    fn an_empty_file_and_one_for_other_nodes_give_nothing() {
        for text in ["", "# only a comment\n", "other: {ros__parameters: {x: 1}}", "/**: {ros__parameters: }"]
        {
            assert!(read(text).unwrap().is_empty(), "{text}");
        }
    }

    #[test]
    fn errors_name_file_line_key_and_what_is_expected() {
        for (text, parts) in [
            ("/**:\n  ros__parameters:\n    a: 1\n    a: 2\n", &["lwr.yaml:4", "a"][..]),
            (
                "/**:\n  ros__parameters:\n    learner:\n      rate:\n",
                &["lwr.yaml:4", "learner.rate", "value"],
            ),
            ("/**:\n  ros__parameters:\n    x: [1, two]\n", &["lwr.yaml:3", "`x`", "array"]),
            ("/**:\n  ros__parameters:\n    x: [true]\n", &["lwr.yaml:3", "`x`", "bool"]),
            ("/**:\n  ros__parameters:\n    x: 10000000000000000000\n", &["lwr.yaml:3", "64 bits"]),
            ("/**:\n  ros__parameters: 5\n", &["lwr.yaml:2", "ros__parameters", "mapping"]),
            ("/**:\n  deadline: 5\n", &["lwr.yaml:2", "/**/deadline", "ros__parameters"]),
            ("ros__parameters: {x: 1}", &["lwr.yaml:1", "node's name"]),
            ("- 1", &["lwr.yaml:1", "mapping"]),
            ("a: [1", &["lwr.yaml"]),
            ("a: &x [*x]", &["lwr.yaml"]),
        ] {
            let error = read(text).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{text}: {error} lacks {part}");
            }
        }
        let missing = read_file(Path::new("/nowhere/lwr.yaml"), NODE).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/lwr.yaml"), "{missing}");
    }

    #[test]
    fn overrides_are_parsed_as_yaml() {
        let parsed = |text| {
            let Override { node, name, value } = parse_override(text).unwrap();
            assert_eq!(node, None);
            (name, value)
        };
        let of = parse_override("metagd:learner.rate:=5").unwrap();
        assert_eq!((of.node.as_deref(), of.name.as_str()), (Some("metagd"), "learner.rate"));
        assert_eq!(parsed("deadline:=5"), ("deadline".into(), Value::Int(5)));
        assert_eq!(parsed("learner.name:=gd"), ("learner.name".into(), Value::Text("gd".into())));
        assert_eq!(parsed("joints:=[a, b]").1, Value::Texts(vec!["a".into(), "b".into()]));
        assert_eq!(parsed("urdf:=''").1, Value::Text(String::new()));
        assert_eq!(parsed("x:=a:=b").1, Value::Text("a:=b".into()));
        for bad in [
            "deadline",
            "deadline=5",
            ":=5",
            ":x:=5",
            "a::=5",
            "x:=",
            "x:=[1, a]",
            "x:={a: 1}",
            "x:=[",
            "x:=a: b: c",
        ] {
            let error = parse_override(bad).unwrap_err().to_string();
            assert!(error.contains(bad), "{bad}: {error}");
        }
    }

    #[test]
    fn a_configuration_comes_from_files_then_overrides_and_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let first = file("a.yaml", "/**: {ros__parameters: {preset: paper, deadline: 4, batch_typo: 1}}");
        let error = config(&[Source::File(first)], NODE).unwrap_err().to_string();
        assert!(error.contains("a.yaml:1") && error.contains("batch_typo"), "{error}");

        let first = file("a.yaml", "/**: {ros__parameters: {preset: paper, deadline: 4, joints: []}}");
        let second = file("b.yaml", "/**:\n  ros__parameters:\n    deadline: 6\n    ring: 16\n");
        let over = |text: &str| Source::Override(text.into());
        let files = [Source::File(first), Source::File(second)];
        let with = |more: &[Source]| config(&[&files[..], more].concat(), NODE);
        let made = with(&[over("ring:=32")]).unwrap();
        assert_eq!((made.preset.as_str(), made.deadline, made.ring), ("paper", 6.0, 32));
        assert!(!made.residual);
        assert_eq!(with(&[over("ring:=32"), over("ring:=64")]).unwrap().ring, 64);
        assert_eq!(with(&[over("ring:=32"), files[1].clone()]).unwrap().ring, 16);

        let error = with(&[over("ring:=1")]).unwrap_err().to_string();
        assert!(error.contains("-p ring:=1") && error.contains("2 to 65536"), "{error}");
    }

    #[test]
    fn an_override_for_another_node_is_passed_over() {
        let over = |text: &str| [Source::Override(text.into())];
        assert_eq!(config(&over("metagd:ring:=32"), "/metagd").unwrap().ring, 32);
        for other in ["metagd", "/cell/arm", "/"] {
            let made = config(&over("arm:no.such.parameter:=32"), other).unwrap();
            assert_eq!(made, config(&[], other).unwrap(), "{other}");
        }
        assert!(config(&over("arm:no.such.parameter:=32"), "/arm").is_err());
    }

    #[test]
    fn deep_nesting_is_an_error_not_an_overflow() {
        for text in ["[".repeat(100_000), "a: {".repeat(5_000), "- ".repeat(5_000)] {
            assert!(read(&text).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = read(&text);
            let _ = parse_override(&text);
        }

        #[test]
        fn yaml_like_text_is_read_or_refused(
            text in "([ \n:*&!|>'\"\\[\\]{},#/-]|ros__parameters|/\\*\\*|a|1|\\.nan|true|\n  ){0,60}"
        ) {
            let _ = read(&text);
        }

        #[test]
        fn numbers_come_back(ints in prop::collection::vec(any::<i64>(), 0..5), float in any::<f64>()) {
            let values = read(&below_all(&format!("ints: {ints:?}\nfloat: {float:?}"))).unwrap();
            match &values["ints"] {
                Value::Ints(read) => prop_assert_eq!(read, &ints),
                Value::Texts(read) => prop_assert!(read.is_empty() && ints.is_empty()),
                other => prop_assert!(false, "{}", other),
            }
            if float.is_finite() {
                prop_assert_eq!(&values["float"], &Value::Float(float));
            }
        }
    }
}
