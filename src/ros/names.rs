//! Names in the ROS graph: expansion, remapping and the rules they must follow.
//!
//! Contract: pure functions, called at start-up. The rules are those of rcl and rmw
//! (<https://design.ros2.org/articles/topic_and_service_names.html>, `rcl_expand_topic_name`,
//! `rmw_validate_full_topic_name`).

use super::NodeOptions;

/// Replaces the name `from` by `to`; both may be relative, absolute or private (`~/...`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remapping {
    /// The name as the program has it.
    pub from: String,
    /// The name to use instead.
    pub to: String,
    /// The name of the node that this is for; `None`: every one.
    pub node: Option<String>,
    /// What kind of names it is for.
    pub scope: Scope,
    /// Whether it stood in a `--ros-args` section, where an rcl that reads the command line finds it itself.
    pub ros_args: bool,
}

/// What kind of names a [`Remapping`] is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Topics and services.
    #[default]
    Both,
    /// Topics alone (`rostopic://`).
    Topics,
    /// Services alone (`rosservice://`).
    Services,
}

impl Remapping {
    /// A remapping for every node, of topics and services, from outside a `--ros-args` section.
    pub fn new(from: &str, to: &str) -> Self {
        Remapping { from: from.into(), to: to.into(), node: None, scope: Scope::Both, ros_args: false }
    }

    /// Whether both its names are names.
    ///
    /// # Errors
    /// [`NameError`], of the first that is not.
    pub fn check(&self) -> Result<(), NameError> {
        let kind = if self.scope == Scope::Services { &SERVICE } else { &TOPIC };
        let any = NodeOptions::new("node");
        expand_as(kind, &self.from, &any)?;
        expand_as(kind, &self.to, &any)?;
        Ok(())
    }
}

/// A name that breaks a rule, and which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a valid {kind}: {rule}")]
pub struct NameError {
    /// The name as given.
    pub name: String,
    /// What it should name.
    pub kind: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
}

const MAX_NODE_NAME: usize = 255;
const MAX_NAMESPACE: usize = 245;

/// What is named, and how long its full name may be.
struct Kind {
    name: &'static str,
    scope: Scope,
    max: usize,
    too_long: &'static str,
}

const TOPIC: Kind =
    Kind { name: "topic name", scope: Scope::Topics, max: 247, too_long: "it is longer than 247 characters" };

/// In DDS a service is two topics, `rq<name>Request` and `rr<name>Reply`, of at most 255 characters.
const SERVICE: Kind = Kind {
    name: "service name",
    scope: Scope::Services,
    max: 246,
    too_long: "it is longer than 246 characters",
};

fn broken(name: &str, kind: &'static str, rule: &'static str) -> NameError {
    NameError { name: name.to_string(), kind, rule }
}

fn check_token(token: &str) -> Result<(), &'static str> {
    if token.is_empty() {
        Err("slashes must not stand side by side or at the end")
    } else if token.starts_with(|c: char| c.is_ascii_digit()) {
        Err("no part may begin with a digit")
    } else if !token.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        Err("only letters, digits, underscores and slashes may be used")
    } else {
        Ok(())
    }
}

/// A node's namespace in its full form: with a leading slash, and `/` for none.
///
/// # Errors
/// [`NameError`].
pub fn namespace(given: &str) -> Result<String, NameError> {
    let kind = "namespace";
    if given.is_empty() || given == "/" {
        return Ok("/".to_string());
    }
    for token in given.strip_prefix('/').unwrap_or(given).split('/') {
        check_token(token).map_err(|rule| broken(given, kind, rule))?;
    }
    let full = if given.starts_with('/') { given.to_string() } else { format!("/{given}") };
    if full.len() > MAX_NAMESPACE {
        return Err(broken(given, kind, "it is longer than 245 characters"));
    }
    Ok(full)
}

/// The node's fully qualified name.
///
/// # Errors
/// [`NameError`].
pub fn node(options: &NodeOptions) -> Result<String, NameError> {
    let (name, kind) = (options.name.as_str(), "node name");
    if name.is_empty() {
        return Err(broken(name, kind, "it is empty"));
    }
    if name.contains('/') {
        return Err(broken(name, kind, "slashes belong into the namespace"));
    }
    check_token(name).map_err(|rule| broken(name, kind, rule))?;
    if name.len() > MAX_NODE_NAME {
        return Err(broken(name, kind, "it is longer than 255 characters"));
    }
    Ok(join(&namespace(&options.namespace)?, name))
}

/// A topic's fully qualified name: a relative name is in the node's namespace, `~` is the node's own name,
/// `{node}`, `{ns}` and `{namespace}` are replaced; remappings are not applied.
///
/// # Errors
/// [`NameError`].
pub fn expand(topic: &str, options: &NodeOptions) -> Result<String, NameError> {
    expand_as(&TOPIC, topic, options)
}

fn expand_as(kind: &Kind, topic: &str, options: &NodeOptions) -> Result<String, NameError> {
    let fail = |rule| broken(topic, kind.name, rule);
    let namespace = namespace(&options.namespace)?;
    let node = node(options)?;
    if topic.is_empty() {
        return Err(fail("it is empty"));
    }
    let replaced = topic
        .replace("{node}", &options.name)
        .replace("{namespace}", namespace.trim_end_matches('/'))
        .replace("{ns}", namespace.trim_end_matches('/'));
    let full = if replaced.starts_with('/') {
        replaced
    } else if let Some(rest) = replaced.strip_prefix('~') {
        if !(rest.is_empty() || rest.starts_with('/')) {
            return Err(fail("`~` must be followed by a slash"));
        }
        format!("{node}{rest}")
    } else {
        join(&namespace, &replaced)
    };
    if full.contains('~') {
        return Err(fail("`~` may stand at the beginning only"));
    }
    if full.contains(['{', '}']) {
        return Err(fail("only {node}, {ns} and {namespace} may be substituted"));
    }
    for token in full[1..].split('/') {
        check_token(token).map_err(fail)?;
    }
    if full.len() > kind.max {
        return Err(fail(kind.too_long));
    }
    Ok(full)
}

/// [`expand`], then the first remapping for this node whose expanded `from` is this name, expanded in turn.
///
/// # Errors
/// [`NameError`], of the topic or of its replacement.
pub fn resolve(topic: &str, options: &NodeOptions) -> Result<String, NameError> {
    resolve_as(&TOPIC, topic, options)
}

/// As [`resolve`], for a service.
///
/// # Errors
/// [`NameError`], of the service or of its replacement.
pub fn resolve_service(service: &str, options: &NodeOptions) -> Result<String, NameError> {
    resolve_as(&SERVICE, service, options)
}

fn resolve_as(kind: &Kind, name: &str, options: &NodeOptions) -> Result<String, NameError> {
    let full = expand_as(kind, name, options)?;
    for remapping in &options.remappings {
        let meant = remapping.node.as_ref().is_none_or(|node| *node == options.name)
            && (remapping.scope == Scope::Both || remapping.scope == kind.scope);
        if meant && expand_as(kind, &remapping.from, options).is_ok_and(|from| from == full) {
            return expand_as(kind, &remapping.to, options);
        }
    }
    Ok(full)
}

fn join(namespace: &str, name: &str) -> String {
    format!("{}/{name}", namespace.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arm() -> NodeOptions {
        NodeOptions { namespace: "/cell/left".into(), ..NodeOptions::new("metagd") }
    }

    #[test]
    fn relative_absolute_and_private_names_expand() {
        let arm = arm();
        for (name, full) in [
            ("joint_states", "/cell/left/joint_states"),
            ("/joint_states", "/joint_states"),
            ("~/feedforward", "/cell/left/metagd/feedforward"),
            ("~", "/cell/left/metagd"),
            ("{node}/x", "/cell/left/metagd/x"),
            ("{ns}/x", "/cell/left/x"),
            ("a/b", "/cell/left/a/b"),
        ] {
            assert_eq!(expand(name, &arm).as_deref(), Ok(full), "{name}");
        }
        let bare = NodeOptions::new("metagd");
        assert_eq!(expand("joint_states", &bare).unwrap(), "/joint_states");
        assert_eq!(expand("~/commands", &bare).unwrap(), "/metagd/commands");
        assert_eq!(expand("{ns}/x", &bare).unwrap(), "/x");
    }

    #[test]
    fn names_that_break_a_rule_are_refused_and_named() {
        for bad in
            ["", "/", "a/", "a//b", "2", "a/2b", "~x", "a~", "a/~/b", "a b", "é", "{other}/x", "a{b", "-"]
        {
            let error = expand(bad, &arm()).unwrap_err();
            assert!(error.to_string().contains(&format!("`{bad}`")), "{error}");
        }
        for bad in ["", "a/b", "2a", "a-b", &"a".repeat(256)] {
            assert!(node(&NodeOptions::new(bad)).is_err(), "{bad}");
        }
        for bad in ["/a/", "//", "a b", "/2"] {
            assert!(namespace(bad).is_err(), "{bad}");
        }
        assert_eq!(namespace("cell").unwrap(), "/cell");
    }

    #[test]
    fn the_first_matching_remapping_counts_once() {
        let mut arm = arm();
        let map = Remapping::new;
        arm.remappings = vec![
            map("other", "/never"),
            map("/cell/left/joint_states", "/robot/joint_states"),
            map("joint_states", "/too/late"),
            map("/robot/joint_states", "/not/twice"),
            map("~/feedforward", "effort"),
        ];
        assert_eq!(resolve("joint_states", &arm).unwrap(), "/robot/joint_states");
        assert_eq!(resolve("~/feedforward", &arm).unwrap(), "/cell/left/effort");
        assert_eq!(resolve("~/commands", &arm).unwrap(), "/cell/left/metagd/commands");
    }

    #[test]
    fn remappings_for_others_are_passed_over() {
        let mut arm = arm();
        let map = Remapping::new;
        arm.remappings = vec![
            Remapping { node: Some("other".into()), ..map("x", "/other") },
            Remapping { scope: Scope::Services, ..map("x", "/service") },
            Remapping { scope: Scope::Topics, ..map("x", "/topic") },
            Remapping { node: Some("metagd".into()), ..map("y", "~/mine") },
        ];
        assert_eq!(resolve("x", &arm).unwrap(), "/topic");
        assert_eq!(resolve_service("x", &arm).unwrap(), "/service");
        assert_eq!(resolve_service("y", &arm).unwrap(), "/cell/left/metagd/mine");
        assert_eq!(resolve("y", &arm), resolve_service("y", &arm));
    }

    #[test]
    fn names_fit_what_dds_takes() {
        let bare = NodeOptions::new("metagd");
        let name = |len: usize| format!("/{}", "a".repeat(len - 1));
        assert!(resolve(&name(247), &bare).is_ok() && resolve(&name(248), &bare).is_err());
        assert!(resolve_service(&name(246), &bare).is_ok());
        let error = resolve_service(&name(247), &bare).unwrap_err().to_string();
        assert!(error.contains("service name") && error.contains("246"), "{error}");
    }

    proptest! {
        #[test]
        fn whatever_expands_is_valid_and_expands_to_itself(topic in "[~/a-z0-9_{}]{0,12}") {
            if let Ok(full) = expand(&topic, &arm()) {
                prop_assert!(full.starts_with('/') && !full.ends_with('/') && !full.contains("//"));
                prop_assert_eq!(expand(&full, &arm()), Ok(full));
            }
        }

        #[test]
        fn any_text_is_expanded_or_refused(topic in ".*", name in ".*", namespace in ".*") {
            let options = NodeOptions { namespace, ..NodeOptions::new(&name) };
            let _ = resolve(&topic, &options);
        }
    }
}
