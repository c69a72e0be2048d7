//! The ROS arguments of a command line: its `--ros-args ... [--]` sections.
//!
//! Contract: pure functions, called once at start-up. The grammar is rcl's (`rcl_parse_arguments`,
//! <https://design.ros2.org/articles/ros_command_line_arguments.html>): sections may stand anywhere, and more than once;
//! `--` or the line's end closes one. What rcl ignores is refused here: an argument that is not known, names it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::NodeOptions;
use super::names::{self, NameError, Remapping, Scope};
use super::params::{self, ParamsError, Source};

/// What the `--ros-args` sections of one command line say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RosArguments {
    /// Remapping rules, in order; the first that applies counts.
    pub rules: Vec<Rule>,
    /// Parameter files and single parameters, in order; the last counts.
    pub parameters: Vec<Source>,
    /// What is logged, and where to.
    pub log: LogOptions,
    /// Arguments that are right but change nothing here, as they were given.
    pub without_effect: Vec<String>,
}

/// One remapping rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `[node:]__node:=name`: the node's name.
    Node {
        /// The node that it is for; `None`: every one.
        of: Option<String>,
        /// The new name.
        to: String,
    },
    /// `[node:]__ns:=/namespace`: the node's namespace.
    Namespace {
        /// The node that it is for; `None`: every one.
        of: Option<String>,
        /// The new namespace.
        to: String,
    },
    /// `[node:]from:=to`: a topic's or service's name.
    Name(Remapping),
}

/// How much is logged. `Fatal` is above all that we log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything but traces.
    Debug,
    /// The usual.
    Info,
    /// Warnings and errors.
    Warn,
    /// Errors.
    Error,
    /// Nothing.
    Fatal,
}

/// What the log arguments say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The level of all loggers that have none of their own.
    pub level: Option<LogLevel>,
    /// Single loggers' levels, in order; the last counts.
    pub loggers: Vec<(String, LogLevel)>,
    /// Whether the console gets the log (`--disable-stdout-logs`).
    pub console: bool,
    /// Whether `/rosout` gets the log (`--disable-rosout-logs`).
    pub rosout: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { level: None, loggers: Vec::new(), console: true, rosout: true }
    }
}

/// The middleware's crates: their own log lines are about inner workings, up to a peer's every leave.
const MIDDLEWARE: [&str; 3] = ["rustdds", "ros2_client", "cdr_encoding"];

/// A crate that logs as an error, whenever a peer leaves, that there was no message to take; what does go wrong it returns.
const SILENT: &str = "r2r=off";

/// Its one line says, at the end of every process, that `lo` has no multicast group to leave.
const LISTENER: &str = "rustdds::network::udp_listener=off";

/// Our own target in the log.
const OURS: &str = env!("CARGO_CRATE_NAME");

/// Why a command line's ROS arguments were refused.
#[derive(Debug, thiserror::Error)]
pub enum ArgumentError {
    /// There is no such ROS argument.
    #[error("`{0}` is no ROS argument (they stand between --ros-args and --)")]
    Unknown(String),
    /// The last argument wants another behind it.
    #[error("`{flag}` must be followed by {expected}")]
    Missing {
        /// The argument.
        flag: String,
        /// What should follow.
        expected: &'static str,
    },
    /// What follows an argument is not what it takes.
    #[error("{flag} `{value}`: {reason}; expected {expected}")]
    Malformed {
        /// The argument.
        flag: String,
        /// What follows it.
        value: String,
        /// What is wrong with it.
        reason: String,
        /// What should follow.
        expected: &'static str,
    },
    /// A single parameter that is none.
    #[error(transparent)]
    Parameter(#[from] ParamsError),
}

const RULE: &str = "from:=to, __node:=name or __ns:=/namespace, with or without `node:` before it";
const PARAMETER: &str = "name:=value, with or without `node:` before it";
const LEVEL: &str = "debug, info, warn, error or fatal, with or without `logger:=` before it";

impl RosArguments {
    /// Takes the ROS arguments out of a command line; the rest is returned in its order.
    ///
    /// # Errors
    /// [`ArgumentError`].
    pub fn split(
        line: impl IntoIterator<Item = OsString>,
    ) -> Result<(RosArguments, Vec<OsString>), ArgumentError> {
        let mut arguments = RosArguments::default();
        let mut rest = Vec::new();
        let mut inside = false;
        let mut line = line.into_iter();
        while let Some(argument) = line.next() {
            match argument.to_str() {
                Some("--ros-args") => inside = true,
                Some("--") if inside => inside = false,
                _ if inside => arguments.take(&argument, &mut line)?,
                _ => rest.push(argument),
            }
        }
        Ok((arguments, rest))
    }

    /// Takes one argument and what belongs to it.
    fn take(&mut self, flag: &OsStr, line: &mut impl Iterator<Item = OsString>) -> Result<(), ArgumentError> {
        let shown = flag.to_string_lossy().into_owned();
        let mut raw = |expected| line.next().ok_or(ArgumentError::Missing { flag: shown.clone(), expected });
        let mut text = |expected| {
            raw(expected)?.into_string().map_err(|value| ArgumentError::Malformed {
                flag: shown.clone(),
                value: value.to_string_lossy().into_owned(),
                reason: "it is not UTF-8".into(),
                expected,
            })
        };
        let malformed = |value: &str, reason: String, expected| ArgumentError::Malformed {
            flag: shown.clone(),
            value: value.into(),
            reason,
            expected,
        };
        match shown.as_str() {
            "-r" | "--remap" => {
                let value = text(RULE)?;
                let rule = Rule::parse(&value, true).map_err(|reason| malformed(&value, reason, RULE))?;
                self.rules.push(rule);
            }
            "-p" | "--param" => {
                let value = text(PARAMETER)?;
                params::parse_override(&value)?;
                self.parameters.push(Source::Override(value));
            }
            "--params-file" => self.parameters.push(Source::File(PathBuf::from(raw("a file")?))),
            "--log-level" => {
                let value = text(LEVEL)?;
                self.log.set(&value).map_err(|reason| malformed(&value, reason, LEVEL))?;
            }
            "--enable-stdout-logs" => self.log.console = true,
            "--disable-stdout-logs" => self.log.console = false,
            "--enable-rosout-logs" => self.log.rosout = true,
            "--disable-rosout-logs" => self.log.rosout = false,
            // What they would switch off does not exist here.
            "--disable-external-lib-logs" => {}
            "--enable-external-lib-logs" => self.without_effect.push(shown),
            "--log-config-file" | "--log-file-name" | "-e" | "--enclave" => {
                let value = text("a name")?;
                self.without_effect.push(format!("{shown} {value}"));
            }
            _ => return Err(ArgumentError::Unknown(shown)),
        }
        Ok(())
    }
}

impl Rule {
    /// One rule as `-r` takes it; `ros_args` says whether it stood in a `--ros-args` section.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, ros_args: bool) -> Result<Rule, String> {
        let (from, to) = text.split_once(":=").ok_or("it has no `:=`")?;
        let (scope, of, from) = match from.split_once("://") {
            Some(("rostopic", name)) => (Scope::Topics, None, name),
            Some(("rosservice", name)) => (Scope::Services, None, name),
            Some((other, _)) => match other.split_once(':') {
                Some((node, "rostopic")) => (Scope::Topics, Some(node), &from[other.len() + 3..]),
                Some((node, "rosservice")) => (Scope::Services, Some(node), &from[other.len() + 3..]),
                _ => return Err(format!("`{other}://` is neither rostopic:// nor rosservice://")),
            },
            None => match from.split_once(':') {
                Some((node, name)) => (Scope::Both, Some(node), name),
                None => (Scope::Both, None, from),
            },
        };
        let named = |name: &str| names::node(&NodeOptions::new(name)).map_err(|error| error.to_string());
        if let Some(node) = of {
            named(node)?;
        }
        let of = of.map(str::to_string);
        match (scope, from) {
            (Scope::Both, "__node" | "__name") => {
                named(to)?;
                Ok(Rule::Node { of, to: to.into() })
            }
            (Scope::Both, "__ns") => {
                if !to.starts_with('/') {
                    return Err("the namespace must begin with a slash".into());
                }
                names::namespace(to).map_err(|error| error.to_string())?;
                Ok(Rule::Namespace { of, to: to.into() })
            }
            _ => {
                let rule = Remapping { from: from.into(), to: to.into(), node: of, scope, ros_args };
                rule.check().map_err(|error: NameError| error.to_string())?;
                Ok(Rule::Name(rule))
            }
        }
    }
}

impl LogLevel {
    /// By its name, in whatever case.
    fn parse(name: &str) -> Result<LogLevel, String> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "debug" => LogLevel::Debug,
            "info" => LogLevel::Info,
            "warn" => LogLevel::Warn,
            "error" => LogLevel::Error,
            "fatal" => LogLevel::Fatal,
            _ => return Err(format!("`{name}` is no level")),
        })
    }

    fn directive(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
            LogLevel::Fatal => "off",
        }
    }
}

impl LogOptions {
    /// `LEVEL` or `LOGGER:=LEVEL`.
    fn set(&mut self, text: &str) -> Result<(), String> {
        match text.split_once(":=") {
            None => self.level = Some(LogLevel::parse(text)?),
            Some((logger, level)) => {
                let part = |part: &str| {
                    !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                };
                if !logger.split('.').all(part) {
                    return Err(format!(
                        "`{logger}` is no logger's name, which is made of letters, digits, underscores and dots"
                    ));
                }
                self.loggers.push((logger.into(), LogLevel::parse(level)?));
            }
        }
        Ok(())
    }

    /// The same in `tracing`'s directives. The middleware is quiet unless it is named; a logger with the name of one of
    /// `nodes`, with or without its namespace (`cell.arm`), is all of this program.
    pub fn directives(&self, nodes: &[String]) -> String {
        let level = self.level.unwrap_or(LogLevel::Info);
        let mut directives = vec![level.directive().to_string()];
        for middleware in MIDDLEWARE {
            directives.push(format!("{middleware}={}", level.max(LogLevel::Error).directive()));
        }
        directives.extend([LISTENER, SILENT].map(String::from));
        for (logger, level) in &self.loggers {
            let is_node = nodes.iter().any(|node| {
                let full = node.trim_start_matches('/').replace('/', ".");
                *logger == full || full.rsplit('.').next() == Some(logger)
            });
            let target = if is_node { OURS.to_string() } else { logger.replace('.', "::") };
            directives.push(format!("{target}={}", level.directive()));
        }
        directives.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(line: &[&str]) -> Result<(RosArguments, Vec<String>), String> {
        let line = line.iter().map(OsString::from);
        let (arguments, rest) = RosArguments::split(line).map_err(|error| error.to_string())?;
        Ok((arguments, rest.into_iter().map(|part| part.into_string().unwrap()).collect()))
    }

    fn name(from: &str, to: &str) -> Remapping {
        Remapping { ros_args: true, ..Remapping::new(from, to) }
    }

    #[test]
    fn what_launch_writes_is_understood() {
        let (arguments, rest) = split(&[
            "metagd",
            "node",
            "--ros-args",
            "-r",
            "__node:=arm",
            "-r",
            "__ns:=/cell",
            "--params-file",
            "/tmp/launch_params_x",
            "-p",
            "a:=b",
            "-r",
            "x:=y",
        ])
        .unwrap();
        assert_eq!(rest, ["metagd", "node"]);
        let rules = [
            Rule::Node { of: None, to: "arm".into() },
            Rule::Namespace { of: None, to: "/cell".into() },
            Rule::Name(name("x", "y")),
        ];
        assert_eq!(arguments.rules, rules);
        let sources = [Source::File("/tmp/launch_params_x".into()), Source::Override("a:=b".into())];
        assert_eq!(arguments.parameters, sources);
        assert!(arguments.without_effect.is_empty());
    }

    #[test]
    fn sections_stand_anywhere_and_may_be_empty() {
        let (arguments, rest) = split(&[
            "metagd",
            "--ros-args",
            "-r",
            "a:=b",
            "--",
            "node",
            "--ros-args",
            "--ros-args",
            "--log-level",
            "warn",
            "--",
            "--seconds",
            "1",
            "--",
            "-x",
            "--ros-args",
        ])
        .unwrap();
        assert_eq!(rest, ["metagd", "node", "--seconds", "1", "--", "-x"]);
        assert_eq!(arguments.rules, [Rule::Name(name("a", "b"))]);
        assert_eq!(arguments.log.level, Some(LogLevel::Warn));
    }

    #[test]
    fn rules_have_prefixes_of_node_and_kind() {
        let rule = |text| match Rule::parse(text, true).unwrap() {
            Rule::Name(rule) => rule,
            other => panic!("{other:?}"),
        };
        let of = |rule: Remapping, node: &str| Remapping { node: Some(node.into()), ..rule };
        assert_eq!(rule("arm:a:=/b"), of(name("a", "/b"), "arm"));
        assert_eq!(rule("~/a:=~/b"), name("~/a", "~/b"));
        assert_eq!(rule("rostopic://a:=b"), Remapping { scope: Scope::Topics, ..name("a", "b") });
        assert_eq!(rule("rosservice:///a:=b"), Remapping { scope: Scope::Services, ..name("/a", "b") });
        let both = Remapping { scope: Scope::Services, ..name("~/a", "b") };
        assert_eq!(rule("arm:rosservice://~/a:=b"), of(both, "arm"));
        assert_eq!(
            Rule::parse("arm:__ns:=/", true).unwrap(),
            Rule::Namespace { of: Some("arm".into()), to: "/".into() }
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, part) in [
            (&["--ros-args", "--rate", "5"][..], "`--rate` is no ROS argument"),
            (&["--ros-args", "stray"], "`stray`"),
            (&["--ros-args", "-p=a:=b"], "`-p=a:=b`"),
            (&["--ros-args", "-r"], "`-r` must be followed by from:=to"),
            (&["--ros-args", "--params-file"], "`--params-file` must be followed by a file"),
            (&["--ros-args", "--log-level"], "must be followed by debug"),
            (&["--ros-args", "-e"], "`-e`"),
            (&["--ros-args", "-r", "--", "a:=b"], "-r `--`"),
            (&["--ros-args", "-r", "ab"], "-r `ab`: it has no `:=`"),
            (&["--ros-args", "-r", "a b:=c"], "`a b`"),
            (&["--ros-args", "-r", "a:="], "empty"),
            (&["--ros-args", "-r", ":=a"], "empty"),
            (&["--ros-args", "-r", "*:=a"], "letters"),
            (&["--ros-args", "-r", "2:a:=b"], "`2`"),
            (&["--ros-args", "-r", "http://a:=b"], "rosservice://"),
            (&["--ros-args", "-r", "__node:=a/b"], "a/b"),
            (&["--ros-args", "-r", "__ns:=cell"], "begin with a slash"),
            (&["--ros-args", "-r", "__ns:=/cell/"], "/cell/"),
            (&["--ros-args", "-p", "deadline"], "deadline"),
            (&["--ros-args", "-p", "x:=["], "x:=["),
            (&["--ros-args", "--log-level", "loud"], "`loud` is no level"),
            (&["--ros-args", "--log-level", "a b:=info"], "`a b`"),
            (&["--ros-args", "--log-level", "a:="], "`` is no level"),
        ] {
            let error = split(line).unwrap_err();
            assert!(error.contains(part), "{line:?}: {error}");
        }
    }

    #[test]
    fn what_has_no_effect_is_kept_to_be_told() {
        let (arguments, rest) = split(&[
            "--ros-args",
            "-e",
            "/secure",
            "--log-config-file",
            "x",
            "--log-file-name",
            "y",
            "--enable-external-lib-logs",
            "--disable-external-lib-logs",
            "--disable-rosout-logs",
            "--disable-stdout-logs",
            "--enable-stdout-logs",
        ])
        .unwrap();
        assert!(rest.is_empty());
        let told = ["-e /secure", "--log-config-file x", "--log-file-name y", "--enable-external-lib-logs"];
        assert_eq!(arguments.without_effect, told);
        assert!(!arguments.log.rosout && arguments.log.console);
    }

    #[test]
    fn log_levels_become_directives() {
        let directives = |levels: &[&str]| {
            let mut log = LogOptions::default();
            levels.iter().for_each(|level| log.set(level).unwrap());
            log.directives(&["/cell/arm".into()])
        };
        let quiet = format!("rustdds=error,ros2_client=error,cdr_encoding=error,{LISTENER},{SILENT}");
        assert_eq!(directives(&[]), format!("info,{quiet}"));
        assert_eq!(directives(&["info", "DEBUG"]), format!("debug,{quiet}"));
        assert_eq!(directives(&["Fatal"]), format!("off,{}", quiet.replace("error", "off")));
        assert_eq!(
            directives(&["rustdds:=warn", "metagd.ros:=debug", "rustdds:=Info"]),
            format!("info,{quiet},rustdds=warn,metagd::ros=debug,rustdds=info")
        );
        for logger in ["arm:=warn", "cell.arm:=warn"] {
            assert_eq!(directives(&[logger]), format!("info,{quiet},metagd=warn"));
        }
        assert_eq!(directives(&["other:=warn"]), format!("info,{quiet},other=warn"));
    }

    proptest! {
        #[test]
        fn any_line_is_split_or_refused(
            line in prop::collection::vec(
                prop_oneof![
                    "[-a-z:=/_~*.0-9\\[ ]{0,12}", Just("--ros-args".into()), Just("--".into()), Just("-r".into()),
                    Just("-p".into()), Just("--log-level".into()), Just("a:=b".into()), Just("info".into()),
                ],
                0..12,
            )
        ) {
            let _ = RosArguments::split(line.iter().map(OsString::from));
        }

        #[test]
        fn a_line_without_a_section_is_left_alone(line in prop::collection::vec("[-a-z:=]{0,8}", 0..8)) {
            let (arguments, rest) = split(&line.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(arguments, RosArguments::default());
            prop_assert_eq!(rest, line);
        }

        #[test]
        fn directives_are_always_a_filter(levels in prop::collection::vec("([a-z_.0-9]{1,9}:=)?(debug|warn|FATAL)", 0..5)) {
            let mut log = LogOptions::default();
            levels.iter().for_each(|level| { let _ = log.set(level); });
            prop_assert!(tracing_subscriber::EnvFilter::try_new(log.directives(&["/arm".into()])).is_ok());
        }
    }
}
