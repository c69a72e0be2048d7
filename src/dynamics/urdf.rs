//! From a URDF to an [`Arm`].
//!
//! Contract: called at start-up and by tools; allocates, reads the one file that it is told to, and returns an error
//! (never a panic) for any text.
//!
//! The arm is the chain of joints from the URDF's root to the last of the joints asked for. Links behind fixed joints
//! are lumped into the moving link that carries them, and so are those behind moving joints off the chain, such as a
//! gripper's fingers, held at zero; [`Arm::notes`] says so. Links that no joint of the arm moves do not count.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nalgebra::{Isometry3, Matrix3, Translation3, UnitQuaternion, Vector3};
use urdf_rs::{Inertial, Joint, JointType, Pose, Robot};

use super::arm::{Arm, JointLimits, LinkDescription, LinkInertia};
use crate::config::Config;
use crate::sample::MAX_JOINTS;

/// Why a URDF does not describe an arm that can be used.
#[derive(Debug, thiserror::Error)]
pub enum UrdfError {
    /// What follows concerns this file.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The URDF's path as given.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<UrdfError>,
    },
    /// The file cannot be read.
    #[error("cannot read the URDF: {0}")]
    Read(#[from] std::io::Error),
    /// The text is a xacro macro file.
    #[error("this is a xacro file: expand it first (`xacro robot.urdf.xacro > robot.urdf`)")]
    Xacro,
    /// The text is not a URDF.
    #[error("not a URDF: {0}")]
    Xml(String),
    /// Two links or two joints have one name.
    #[error("two {what}s are named `{name}`")]
    Duplicate {
        /// `link` or `joint`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A joint's parent or child is not there.
    #[error("joint `{joint}` refers to link `{link}`, which is not in the URDF")]
    UnknownLink {
        /// The joint.
        joint: String,
        /// The link that it names.
        link: String,
    },
    /// A link hangs on two joints.
    #[error("link `{link}` is the child of both joint `{first}` and joint `{second}`")]
    TwoParents {
        /// The link.
        link: String,
        /// One joint.
        first: String,
        /// The other joint.
        second: String,
    },
    /// The links form several trees.
    #[error("the URDF has several roots ({}): join them by fixed joints", links.join(", "))]
    Roots {
        /// The links that are no joint's child.
        links: Vec<String>,
    },
    /// Going from child to parent never arrives at a root.
    #[error("the joints around link `{link}` form a cycle")]
    Cycle {
        /// A link on the cycle or behind it.
        link: String,
    },
    /// A number is infinite, not a number, or above 1e12.
    #[error("{what} is not finite (or beyond 1e12)")]
    NotFinite {
        /// What it is, with the name of its link or joint.
        what: String,
    },
    /// A mass is below zero.
    #[error("link `{link}` has the negative mass {mass} kg")]
    NegativeMass {
        /// The link.
        link: String,
        /// Its mass, kg.
        mass: f64,
    },
    /// A moving link has no mass.
    #[error(
        "link `{link}`, which joint `{joint}` moves, has no mass, nor has anything that is fixed to it: give it an <inertial>"
    )]
    Massless {
        /// The link.
        link: String,
        /// Its joint.
        joint: String,
    },
    /// An axis has no direction.
    #[error("joint `{joint}` has a zero axis")]
    ZeroAxis {
        /// The joint.
        joint: String,
    },
    /// The lower position limit lies above the upper one, or a limit is negative where it may not be.
    #[error("joint `{joint}` has impossible limits: {what}")]
    Limits {
        /// The joint.
        joint: String,
        /// The limits as given.
        what: String,
    },
    /// A joint of the arm has more than one degree of freedom.
    #[error("joint `{joint}` is {kind}; an arm's joints are revolute, continuous, prismatic or fixed")]
    Unsupported {
        /// The joint.
        joint: String,
        /// Its type.
        kind: &'static str,
    },
    /// A joint of the arm mimics another.
    #[error(
        "joint `{joint}` mimics joint `{other}`: it is no joint of its own, and such couplings are not modelled"
    )]
    Mimic {
        /// The joint.
        joint: String,
        /// The joint that it mimics.
        other: String,
    },
    /// A joint asked for is not there.
    #[error("`joints` names `{joint}`, which is not in the URDF; its moving joints are {}", known.join(", "))]
    UnknownJoint {
        /// The name asked for.
        joint: String,
        /// The moving joints that there are.
        known: Vec<String>,
    },
    /// A joint asked for does not move.
    #[error("`joints` names `{joint}`, which is a fixed joint")]
    FixedJoint {
        /// The joint.
        joint: String,
    },
    /// Joints asked for do not lie behind one another.
    #[error("`joints` names `{joint}` and `{other}`, which do not lie on one chain from the base outwards")]
    NotOneChain {
        /// One joint.
        joint: String,
        /// The other joint.
        other: String,
    },
    /// A joint moves the arm and was not asked for.
    #[error(
        "joint `{joint}` moves the arm but is not among `joints`: add it there, or make it fixed in the URDF"
    )]
    NotListed {
        /// The joint.
        joint: String,
    },
    /// The joints asked for are named twice or not from the base outwards.
    #[error("`joints` must name each joint once, from the base outwards: {}", expected.join(", "))]
    Order {
        /// The right order.
        expected: Vec<String>,
    },
    /// Nothing moves.
    #[error("the URDF has no moving joint")]
    NoMovingJoint,
    /// More joints move than an arm may have.
    #[error(
        "the arm has {found} moving joints; at most {MAX_JOINTS} are possible: name the arm's in `joints`"
    )]
    TooManyJoints {
        /// How many there are.
        found: usize,
    },
    /// Without names it is not clear which joints are the arm's.
    #[error(
        "the moving joints branch (`{joint}` does not lie on the way to `{other}`): name the arm's own in `joints`, from the base outwards"
    )]
    Branching {
        /// A joint beside the longest chain.
        joint: String,
        /// The last joint of the longest chain.
        other: String,
    },
    /// A parameter has not as many numbers as it needs.
    #[error("parameter `{name}` needs 3 numbers (x, y, z), but has {given}")]
    NotThree {
        /// The parameter.
        name: &'static str,
        /// How many it has.
        given: usize,
    },
}

impl Arm {
    /// The arm that a URDF file describes.
    ///
    /// `joints` are the arm's moving joints from the base outwards; if empty, all moving joints of the URDF, which then
    /// must form one chain. `gravity` is in the frame of the URDF's root, m/s².
    ///
    /// # Errors
    /// [`UrdfError::InFile`], around what is wrong.
    pub fn from_urdf(path: &Path, joints: &[String], gravity: [f64; 3]) -> Result<Arm, UrdfError> {
        std::fs::read_to_string(path)
            .map_err(UrdfError::Read)
            .and_then(|xml| Arm::from_urdf_str(&xml, joints, gravity))
            .map_err(|source| UrdfError::InFile { path: path.to_path_buf(), source: Box::new(source) })
    }

    /// The arm that a URDF's text describes: as [`Arm::from_urdf`].
    ///
    /// # Errors
    /// [`UrdfError`], anything but [`UrdfError::InFile`] and [`UrdfError::Read`].
    pub fn from_urdf_str(xml: &str, joints: &[String], gravity: [f64; 3]) -> Result<Arm, UrdfError> {
        if !finite(&gravity) {
            return Err(UrdfError::NotFinite { what: "gravity".into() });
        }
        let robot = parse(xml)?;
        let tree = Tree::new(&robot)?;
        let chain = if joints.is_empty() { tree.only_chain()? } else { tree.named_chain(joints)? };
        tree.arm(&chain, gravity)
    }

    /// The arm of the parameters `urdf` or else `robot_description`, `joints`, `gravity`, `payload.mass` and `payload.com`;
    /// `None` without a URDF.
    ///
    /// # Errors
    /// [`UrdfError`].
    pub fn from_config(config: &Config) -> Result<Option<Arm>, UrdfError> {
        let three = |name, v: &[f64]| {
            <[f64; 3]>::try_from(v).map_err(|_| UrdfError::NotThree { name, given: v.len() })
        };
        let gravity = three("gravity", &config.gravity)?;
        let payload = three("payload.com", &config.payload_com)?;
        let arm = match (config.urdf.as_str(), config.robot_description.as_str()) {
            ("", "") => return Ok(None),
            ("", text) => Arm::from_urdf_str(text, &config.joints, gravity)?,
            (path, _) => Arm::from_urdf(Path::new(path), &config.joints, gravity)?,
        };
        Ok(Some(arm.with_payload(config.payload_mass, payload)))
    }
}

/// No URDF nests deeper; the XML parser recurses, and so could be led to exhaust the stack.
const MAX_DEPTH: usize = 64;

fn parse(xml: &str) -> Result<Robot, UrdfError> {
    if depth(xml) > MAX_DEPTH {
        return Err(UrdfError::Xml(format!("elements are nested deeper than {MAX_DEPTH}, or not closed")));
    }
    if xml.contains("<xacro:") || xml.contains("${") {
        return Err(UrdfError::Xacro);
    }
    // The parser beneath urdf-rs panics on some abuses of XML namespaces.
    std::panic::catch_unwind(|| urdf_rs::read_from_string(xml))
        .map_err(|_| UrdfError::Xml("the XML parser gave up on its namespaces".into()))?
        .map_err(|error| UrdfError::Xml(error.to_string()))
}

/// The greatest depth of nesting, for well-formed XML; else at least that of the part that a parser would read.
fn depth(xml: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut rest = xml;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        let skipped = [("!--", "-->"), ("![CDATA[", "]]>"), ("?", "?>"), ("!", ">")];
        if let Some((_, end)) = skipped.iter().find(|(begin, _)| rest.starts_with(begin)) {
            rest = rest.find(end).map_or("", |at| &rest[at..]);
        } else if rest.starts_with('/') {
            depth = depth.saturating_sub(1);
        } else {
            deepest = deepest.max(depth + 1);
            let closed = rest.find('>').is_some_and(|at| rest[..at].ends_with('/'));
            depth += usize::from(!closed);
        }
    }
    deepest
}

/// The URDF's links as a tree, names resolved.
struct Tree<'a> {
    robot: &'a Robot,
    /// Of each joint: its parent link and child link.
    ends: Vec<(usize, usize)>,
    /// Of each link: the joint that carries it; of the root: none.
    carrier: Vec<Option<usize>>,
    /// All links, each after its parent.
    outwards: Vec<usize>,
}

impl<'a> Tree<'a> {
    fn new(robot: &'a Robot) -> Result<Self, UrdfError> {
        let mut links = BTreeMap::new();
        for (index, link) in robot.links.iter().enumerate() {
            if links.insert(link.name.as_str(), index).is_some() {
                return Err(UrdfError::Duplicate { what: "link", name: link.name.clone() });
            }
        }
        let mut names = BTreeMap::new();
        let mut ends = Vec::with_capacity(robot.joints.len());
        let mut carrier: Vec<Option<usize>> = vec![None; robot.links.len()];
        for (index, joint) in robot.joints.iter().enumerate() {
            if names.insert(joint.name.as_str(), index).is_some() {
                return Err(UrdfError::Duplicate { what: "joint", name: joint.name.clone() });
            }
            let link = |name: &String| {
                links
                    .get(name.as_str())
                    .copied()
                    .ok_or_else(|| UrdfError::UnknownLink { joint: joint.name.clone(), link: name.clone() })
            };
            let (parent, child) = (link(&joint.parent.link)?, link(&joint.child.link)?);
            if let Some(first) = carrier[child].replace(index) {
                return Err(UrdfError::TwoParents {
                    link: joint.child.link.clone(),
                    first: robot.joints[first].name.clone(),
                    second: joint.name.clone(),
                });
            }
            ends.push((parent, child));
        }
        let roots: Vec<usize> = (0..robot.links.len()).filter(|link| carrier[*link].is_none()).collect();
        let mut outwards = match (roots.as_slice(), robot.links.first()) {
            ([root], _) => vec![*root],
            ([], None) => return Err(UrdfError::Xml("it has no links".into())),
            ([], Some(link)) => return Err(UrdfError::Cycle { link: link.name.clone() }),
            (several, _) => {
                let links = several.iter().map(|link| robot.links[*link].name.clone()).collect();
                return Err(UrdfError::Roots { links });
            }
        };
        let mut children = vec![vec![]; robot.links.len()];
        for (parent, child) in &ends {
            children[*parent].push(*child);
        }
        let mut next = 0;
        while let Some(link) = outwards.get(next) {
            outwards.extend(&children[*link]);
            next += 1;
        }
        if outwards.len() < robot.links.len() {
            let beyond = (0..robot.links.len()).find(|link| !outwards.contains(link)).unwrap_or(0);
            return Err(UrdfError::Cycle { link: robot.links[beyond].name.clone() });
        }
        Ok(Tree { robot, ends, carrier, outwards })
    }

    fn joint(&self, index: usize) -> &'a Joint {
        &self.robot.joints[index]
    }

    fn moves(&self, index: usize) -> bool {
        self.joint(index).joint_type != JointType::Fixed
    }

    /// The moving joints from the root to joint `last`, itself included.
    fn moving_up_to(&self, last: usize) -> Vec<usize> {
        let mut path = vec![last];
        let mut link = self.ends[last].0;
        while let Some(joint) = self.carrier[link] {
            path.push(joint);
            link = self.ends[joint].0;
        }
        path.retain(|joint| self.moves(*joint));
        path.reverse();
        path
    }

    /// Of these joints the one with the most moving joints before it; the first of several.
    fn last_of(&self, joints: &[usize]) -> Option<usize> {
        let depth = |joint: &usize| self.moving_up_to(*joint).len();
        joints.iter().rev().copied().max_by_key(depth)
    }

    fn only_chain(&self) -> Result<Vec<usize>, UrdfError> {
        let moving: Vec<usize> = (0..self.ends.len()).filter(|joint| self.moves(*joint)).collect();
        let last = self.last_of(&moving).ok_or(UrdfError::NoMovingJoint)?;
        let chain = self.moving_up_to(last);
        match moving.iter().find(|joint| !chain.contains(joint)) {
            None => Ok(chain),
            Some(beside) => Err(UrdfError::Branching {
                joint: self.joint(*beside).name.clone(),
                other: self.joint(last).name.clone(),
            }),
        }
    }

    fn named_chain(&self, names: &[String]) -> Result<Vec<usize>, UrdfError> {
        let named: Vec<usize> = names
            .iter()
            .map(|name| match self.robot.joints.iter().position(|joint| joint.name == *name) {
                Some(joint) if self.moves(joint) => Ok(joint),
                Some(_) => Err(UrdfError::FixedJoint { joint: name.clone() }),
                None => Err(UrdfError::UnknownJoint {
                    joint: name.clone(),
                    known: (0..self.ends.len())
                        .filter(|joint| self.moves(*joint))
                        .map(|joint| self.joint(joint).name.clone())
                        .collect(),
                }),
            })
            .collect::<Result<_, _>>()?;
        let last = self.last_of(&named).ok_or(UrdfError::NoMovingJoint)?;
        let chain = self.moving_up_to(last);
        if let Some(beside) = named.iter().find(|joint| !chain.contains(joint)) {
            return Err(UrdfError::NotOneChain {
                joint: self.joint(*beside).name.clone(),
                other: self.joint(last).name.clone(),
            });
        }
        if let Some(missing) = chain.iter().find(|joint| !named.contains(joint)) {
            return Err(UrdfError::NotListed { joint: self.joint(*missing).name.clone() });
        }
        if chain != named {
            let expected = chain.iter().map(|joint| self.joint(*joint).name.clone()).collect();
            return Err(UrdfError::Order { expected });
        }
        Ok(chain)
    }

    fn arm(&self, chain: &[usize], gravity: [f64; 3]) -> Result<Arm, UrdfError> {
        if chain.len() > MAX_JOINTS {
            return Err(UrdfError::TooManyJoints { found: chain.len() });
        }
        let mut notes = vec![];
        let mut moving: Vec<LinkDescription> = vec![];
        // Of each link: the moving link to which it is fixed (none: to the base), and its pose there.
        let mut places: Vec<(Option<usize>, Isometry3<f64>)> =
            vec![(None, Isometry3::identity()); self.robot.links.len()];
        for link in &self.outwards {
            if let Some(index) = self.carrier[*link] {
                let joint = self.joint(index);
                let (owner, parent) = places[self.ends[index].0];
                let pose = parent * pose(&joint.origin, || format!("the origin of joint `{}`", joint.name))?;
                if chain.contains(&index) {
                    places[*link] = (Some(moving.len()), Isometry3::identity());
                    moving.push(describe(joint, pose, &mut notes)?);
                } else {
                    places[*link] = (owner, pose);
                    if self.moves(index) && owner.is_some() {
                        notes.push(format!(
                            "joint `{}` is not one of the arm's: it is held at zero, its links count as fixed",
                            joint.name
                        ));
                    }
                }
            }
            let (owner, pose) = places[*link];
            if let Some(owner) = owner {
                let link = &self.robot.links[*link];
                let inertia = inertia(&link.inertial, &link.name, &mut notes)?;
                moving[owner].inertia = moving[owner].inertia.joined(&inertia.moved(&pose));
            }
        }
        for (description, index) in moving.iter().zip(chain) {
            let link = || self.joint(*index).child.link.clone();
            let LinkInertia { mass, com, inertia } = &description.inertia;
            if !(mass.is_finite() && finite(com.as_slice()) && finite(inertia.as_slice())) {
                return Err(UrdfError::NotFinite { what: format!("the inertia of link `{}`", link()) });
            }
            if *mass <= 0.0 {
                return Err(UrdfError::Massless { link: link(), joint: description.joint.clone() });
            }
        }
        let flange = self.flange(chain, &places);
        Ok(Arm::new(moving, flange, gravity, notes))
    }

    /// From the last moving link outwards along fixed joints, as far as these do not branch.
    fn flange(
        &self,
        chain: &[usize],
        places: &[(Option<usize>, Isometry3<f64>)],
    ) -> (String, Isometry3<f64>) {
        let mut link = chain.last().map_or(self.outwards[0], |last| self.ends[*last].1);
        loop {
            let mut onwards = (0..self.ends.len()).filter(|joint| self.ends[*joint].0 == link);
            match (onwards.next(), onwards.next()) {
                (Some(joint), None) if !self.moves(joint) => link = self.ends[joint].1,
                _ => return (self.robot.links[link].name.clone(), places[link].1),
            }
        }
    }
}

/// Whether all are finite, and small enough that what is computed from them is finite too.
fn finite(values: &[f64]) -> bool {
    values.iter().all(|value| value.abs() <= 1e12)
}

fn pose(pose: &Pose, what: impl Fn() -> String) -> Result<Isometry3<f64>, UrdfError> {
    if !(finite(&pose.xyz.0) && finite(&pose.rpy.0)) {
        return Err(UrdfError::NotFinite { what: what() });
    }
    let [roll, pitch, yaw] = pose.rpy.0;
    Ok(Isometry3::from_parts(
        Translation3::from(pose.xyz.0),
        UnitQuaternion::from_euler_angles(roll, pitch, yaw),
    ))
}

/// A joint of the arm, its link still without inertia.
fn describe(
    joint: &Joint,
    placement: Isometry3<f64>,
    notes: &mut Vec<String>,
) -> Result<LinkDescription, UrdfError> {
    let name = || joint.name.clone();
    let unsupported = |kind| Err(UrdfError::Unsupported { joint: name(), kind });
    let prismatic = match joint.joint_type {
        JointType::Revolute | JointType::Continuous => false,
        JointType::Prismatic => true,
        JointType::Fixed => return Err(UrdfError::FixedJoint { joint: name() }),
        JointType::Floating => return unsupported("floating"),
        JointType::Planar => return unsupported("planar"),
        JointType::Spherical => return unsupported("spherical"),
    };
    if let Some(mimic) = &joint.mimic {
        return Err(UrdfError::Mimic { joint: name(), other: mimic.joint.clone() });
    }
    let axis = Vector3::from(joint.axis.xyz.0);
    if !finite(axis.as_slice()) {
        return Err(UrdfError::NotFinite { what: format!("the axis of joint `{}`", joint.name) });
    }
    // Scaled first, so that the square of a large axis does not overflow.
    let largest = axis.amax();
    if largest < 1e-9 {
        return Err(UrdfError::ZeroAxis { joint: name() });
    }
    let axis = (axis / largest).normalize();
    Ok(LinkDescription {
        joint: name(),
        placement,
        axis,
        prismatic,
        limits: limits(joint, notes)?,
        inertia: LinkInertia::zero(),
    })
}

fn limits(joint: &Joint, notes: &mut Vec<String>) -> Result<JointLimits, UrdfError> {
    let given = &joint.limit;
    let impossible = |what: String| Err(UrdfError::Limits { joint: joint.name.clone(), what });
    if [given.lower, given.upper, given.velocity, given.effort].iter().any(|limit| limit.is_nan()) {
        return Err(UrdfError::NotFinite { what: format!("a limit of joint `{}`", joint.name) });
    }
    if given.lower > given.upper {
        return impossible(format!("lower {} above upper {}", given.lower, given.upper));
    }
    if given.velocity < 0.0 || given.effort < 0.0 {
        return impossible(format!("velocity {}, effort {}", given.velocity, given.effort));
    }
    // urdf-rs gives zeros where there is no <limit>, and from URDF 1.2 on infinities.
    let no_range = joint.joint_type == JointType::Continuous || (given.lower == 0.0 && given.upper == 0.0);
    let finite_or_zero = |limit: f64| if limit.is_finite() { limit } else { 0.0 };
    let limits = JointLimits {
        lower: if no_range { f64::NEG_INFINITY } else { given.lower },
        upper: if no_range { f64::INFINITY } else { given.upper },
        velocity: finite_or_zero(given.velocity),
        effort: finite_or_zero(given.effort),
    };
    if limits.effort == 0.0 {
        notes.push(format!("joint `{}` has no effort limit: give it one in `limits.effort`", joint.name));
    }
    Ok(limits)
}

fn inertia(given: &Inertial, link: &str, notes: &mut Vec<String>) -> Result<LinkInertia, UrdfError> {
    let mass = given.mass.value;
    let i = &given.inertia;
    if !finite(&[mass, i.ixx, i.ixy, i.ixz, i.iyy, i.iyz, i.izz]) {
        return Err(UrdfError::NotFinite { what: format!("the inertia of link `{link}`") });
    }
    if mass < 0.0 {
        return Err(UrdfError::NegativeMass { link: link.to_string(), mass });
    }
    let origin = pose(&given.origin, || format!("the centre of mass of link `{link}`"))?;
    let inertia = Matrix3::new(i.ixx, i.ixy, i.ixz, i.ixy, i.iyy, i.iyz, i.ixz, i.iyz, i.izz);
    if !is_physical(&inertia) {
        notes.push(format!(
            "link `{link}` has an inertia that no body has (its principal moments break the triangle inequality)"
        ));
    }
    Ok(LinkInertia { mass, com: Vector3::zeros(), inertia }.moved(&origin))
}

/// Whether a body can have this inertia about its centre of mass, to a millionth of its size: whether its second
/// moments, `trace / 2 - inertia`, are positive semidefinite (all principal minors at or above zero).
fn is_physical(inertia: &Matrix3<f64>) -> bool {
    let size = inertia.amax();
    if size == 0.0 {
        return true;
    }
    let scaled = inertia / size;
    let s = Matrix3::identity() * (scaled.trace() / 2.0 + 1e-6) - scaled;
    let minor = |a: usize, b: usize| s[(a, a)] * s[(b, b)] - s[(a, b)] * s[(b, a)];
    let minors = [s[(0, 0)], s[(1, 1)], s[(2, 2)], minor(0, 1), minor(0, 2), minor(1, 2), s.determinant()];
    minors.iter().all(|minor| *minor >= -1e-12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Motion;
    use proptest::prelude::*;

    const FLOOR: [f64; 3] = [0.0, 0.0, -9.81];
    const LWR: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/urdf/kuka_lwr.urdf"));

    const BODY: &str = r#"<inertial><origin xyz="0.1 0 0.2"/><mass value="1"/>
        <inertia ixx="0.01" ixy="0" ixz="0" iyy="0.01" iyz="0" izz="0.01"/></inertial>"#;

    fn joint(name: &str, kind: &str, parent: &str, child: &str) -> String {
        format!(
            r#"<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>
            <origin xyz="0 0 0.3" rpy="0.2 0 0"/><axis xyz="0 1 0"/>
            <limit lower="-1" upper="1" velocity="1" effort="10"/></joint>"#
        )
    }

    fn link(name: &str) -> String {
        format!(r#"<link name="{name}">{BODY}</link>"#)
    }

    fn robot(parts: &[String]) -> String {
        format!(r#"<robot name="r">{}</robot>"#, parts.concat())
    }

    /// Two joints `j1`, `j2`; on the flange a fixed hand with two fingers, the second a mimic of the first.
    fn with_gripper() -> String {
        let finger =
            joint("f2", "prismatic", "hand", "finger2").replace("</joint>", r#"<mimic joint="f1"/></joint>"#);
        robot(&[
            link("base"),
            joint("j1", "revolute", "base", "l1"),
            link("l1"),
            joint("j2", "revolute", "l1", "l2"),
            link("l2"),
            joint("mount", "fixed", "l2", "hand"),
            link("hand"),
            joint("f1", "prismatic", "hand", "finger1"),
            link("finger1"),
            finger,
            link("finger2"),
        ])
    }

    fn load(xml: &str, joints: &[&str]) -> Result<Arm, UrdfError> {
        let joints: Vec<String> = joints.iter().map(|joint| joint.to_string()).collect();
        Arm::from_urdf_str(xml, &joints, FLOOR)
    }

    fn refusal(xml: &str, joints: &[&str]) -> String {
        load(xml, joints).unwrap_err().to_string()
    }

    #[test]
    fn the_lwr_is_as_its_data_sheet_has_it() {
        let arm = load(LWR, &[]).unwrap();
        let names = ["a1", "a2", "e1", "a3", "a4", "a5", "a6"].map(|name| format!("lwr_{name}_joint"));
        assert_eq!(arm.joint_names(), names);
        assert_eq!(arm.flange_name(), "lwr_flange");
        assert!(arm.notes().is_empty(), "{:?}", arm.notes());
        let height = arm.flange_pose(&Motion::default().q).translation.z;
        assert!((height - 1.1785).abs() < 1e-12, "{height}");
        let limits = arm.limits(5);
        assert_eq!((limits.effort, arm.limits(0).effort), (38.0, 176.0));
        assert!((limits.upper.to_degrees() - 120.0).abs() < 1e-6 && limits.lower == -limits.upper);
        assert!((limits.velocity.to_degrees() - 184.0).abs() < 1e-6);
    }

    #[test]
    fn a_gripper_on_the_named_chain_is_lumped_and_said() {
        let arm = load(&with_gripper(), &["j1", "j2"]).unwrap();
        assert_eq!(arm.joint_names(), ["j1", "j2"]);
        assert_eq!(arm.flange_name(), "hand");
        assert_eq!(arm.inertial_parameters()[10], 4.0, "link 2, the hand and both fingers");
        assert!(arm.notes()[0].contains("`f1`") && arm.notes()[1].contains("`f2`"), "{:?}", arm.notes());

        let fixed = with_gripper().replace("prismatic", "fixed");
        let same = load(&fixed, &[]).unwrap();
        assert_eq!(same.inertial_parameters(), arm.inertial_parameters());
    }

    #[test]
    fn which_joints_are_the_arms_must_be_clear() {
        let xml = with_gripper();
        let error = refusal(&xml, &[]);
        assert!(error.contains("branch") && error.contains("`joints`"), "{error}");
        assert!(refusal(&xml, &["j2"]).contains("`j1` moves the arm"));
        assert!(refusal(&xml, &["j2", "j1"]).ends_with("j1, j2"));
        assert!(refusal(&xml, &["j1", "j2", "j2"]).ends_with("j1, j2"));
        assert!(refusal(&xml, &["j1", "j2", "f1", "f2"]).contains("one chain"));
        assert!(refusal(&xml, &["j1", "j2", "f2"]).contains("mimics joint `f1`"));
        assert!(refusal(&xml, &["j1", "mount"]).contains("fixed"));
        assert!(refusal(&xml, &["j1", "elbow"]).contains("j1, j2, f1, f2"));
    }

    #[test]
    fn a_urdf_that_is_no_arm_is_refused_by_name() {
        let base = || [link("base"), joint("j1", "revolute", "base", "l1"), link("l1")];
        let plain = robot(&base());
        assert!(load(&plain, &[]).is_ok());
        for (from, to, expected) in [
            ("xyz=\"0 1 0\"", "xyz=\"0 0 0\"", "`j1` has a zero axis"),
            ("xyz=\"0 1 0\"", "xyz=\"0 nan 0\"", "axis of joint `j1` is not finite"),
            ("rpy=\"0.2 0 0\"", "rpy=\"inf 0 0\"", "origin of joint `j1` is not finite"),
            ("mass value=\"1\"", "mass value=\"-1\"", "link `l1` has the negative mass -1"),
            ("mass value=\"1\"", "mass value=\"NaN\"", "inertia of link `l1` is not finite"),
            ("mass value=\"1\"", "mass value=\"1e308\"", "inertia of link `l1` is not finite"),
            ("mass value=\"1\"", "mass value=\"0\"", "link `l1`, which joint `j1` moves, has no mass"),
            ("mass value=\"1\"", "mass value=\"heavy\"", "not a URDF"),
            ("ixx=\"0.01\"", "ixx=\"inf\"", "inertia of link `l1` is not finite"),
            ("lower=\"-1\"", "lower=\"2\"", "`j1` has impossible limits: lower 2 above upper 1"),
            ("effort=\"10\"", "effort=\"-10\"", "`j1` has impossible limits"),
            ("effort=\"10\"", "effort=\"nan\"", "limit of joint `j1` is not finite"),
            ("child link=\"l1\"", "child link=\"l7\"", "`j1` refers to link `l7`"),
            ("parent link=\"base\"", "parent link=\"l1\"", "several roots|cycle"),
            ("revolute", "floating", "`j1` is floating"),
            ("revolute", "planar", "`j1` is planar"),
            ("revolute", "fixed", "no moving joint"),
            ("name=\"l1\"", "name=\"base\"", "two links are named `base`"),
            ("</robot>", "", "not a URDF"),
            ("<robot", "<robot xmlns:xacro=\"x\"><xacro:macro/>", "xacro"),
            ("<axis", "<mimic joint=\"j0\"/><axis", "`j1` mimics joint `j0`"),
        ] {
            assert!(plain.contains(from), "{from}");
            let error = refusal(&plain.replace(from, to), &[]);
            assert!(expected.split('|').any(|part| error.contains(part)), "{to}: {error}");
        }
        assert!(refusal("", &[]).contains("not a URDF"));
        assert!(refusal("<robot/>", &[]).contains("no links"));
        let twice = robot(&[base().concat(), joint("j2", "revolute", "base", "l1")]);
        assert!(refusal(&twice, &[]).contains("both joint `j1` and joint `j2`"));
        let same = robot(&[base().concat(), joint("j1", "revolute", "l1", "l2"), link("l2")]);
        assert!(refusal(&same, &[]).contains("two joints are named `j1`"));
        let ring = [joint("a", "revolute", "x", "y"), joint("b", "revolute", "y", "x"), link("x"), link("y")];
        assert!(refusal(&robot(&ring), &[]).contains("cycle"));
        assert!(refusal(&robot(&[base().concat(), ring.concat()]), &[]).contains("cycle"));
    }

    #[test]
    fn sixteen_joints_load_and_seventeen_do_not() {
        let chain = |n: usize| {
            let parts = (0..n).map(|i| {
                joint(&format!("j{i}"), "revolute", &format!("l{i}"), &format!("l{}", i + 1))
                    + &link(&format!("l{}", i + 1))
            });
            robot(&std::iter::once(link("l0")).chain(parts).collect::<Vec<_>>())
        };
        assert_eq!(load(&chain(16), &[]).unwrap().len(), 16);
        assert!(refusal(&chain(17), &[]).contains("17 moving joints"));
    }

    #[test]
    fn an_inertia_that_no_body_has_is_noted() {
        let base = [link("base"), joint("j1", "revolute", "base", "l1"), link("l1")];
        let xml = robot(&base).replace("ixx=\"0.01\"", "ixx=\"0.03\"");
        let notes = load(&xml, &[]).unwrap().notes().to_vec();
        assert!(notes.len() == 1 && notes[0].contains("`l1`"), "{notes:?}");
    }

    #[test]
    fn deep_nesting_and_abused_namespaces_are_errors() {
        let deep = "<a>".repeat(200_000) + &"</a>".repeat(200_000);
        assert!(refusal(&deep, &[]).contains("nested"));
        assert_eq!(depth("<?xml?><!-- <a><b> --><r><l/><j><k></k></j></r>"), 3);
        assert!(load(r#"<robot xmlns:a="b"><a:link xmlns:a="c"><b:x/></a:link></robot>"#, &[]).is_err());
    }

    #[test]
    fn the_configuration_says_where_and_how() {
        assert!(Arm::from_config(&Config::default()).unwrap().is_none());
        let urdf = concat!(env!("CARGO_MANIFEST_DIR"), "/urdf/kuka_lwr.urdf").to_string();
        let config = Config {
            urdf,
            gravity: vec![9.81, 0.0, 0.0],
            payload_mass: 2.0,
            payload_com: vec![0.0, 0.0, 0.1],
            ..Config::default()
        };
        let arm = Arm::from_config(&config).unwrap().unwrap();
        assert_eq!(arm.gravity(), [9.81, 0.0, 0.0]);
        assert!((arm.inertial_parameters()[60] - 2.65).abs() < 1e-12);
        let short = Config { gravity: vec![1.0], ..config.clone() };
        assert!(Arm::from_config(&short).unwrap_err().to_string().contains("`gravity` needs 3"));
        let absent = Config { urdf: "/nowhere/arm.urdf".into(), ..config };
        let error = Arm::from_config(&absent).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/arm.urdf: cannot read"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_mangled_urdf_never_panics(
            cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, "[ -~]{0,12}"), 1..6),
        ) {
            let mut text = if cuts.len() % 2 == 0 { LWR.to_string() } else { with_gripper() };
            for (at, length, replacement) in &cuts {
                let start = at.index(text.len());
                let end = (start + length).min(text.len());
                if text.is_char_boundary(start) && text.is_char_boundary(end) {
                    text.replace_range(start..end, replacement);
                }
            }
            if let Ok(arm) = Arm::from_urdf_str(&text, &[], FLOOR) {
                let torques = arm.inverse_dynamics(&Motion::default());
                prop_assert!(torques.iter().all(|torque| !torque.is_nan()));
            }
        }

        #[test]
        fn mangled_numbers_never_panic(
            at in any::<prop::sample::Index>(),
            number in prop_oneof![any::<f64>().prop_map(|v| v.to_string()), "-?[0-9.e]{1,6}", Just("nan".into())],
        ) {
            let parts: Vec<&str> = LWR.split('"').collect();
            let which = 1 + 2 * at.index(parts.len() / 2);
            let mangled: Vec<String> = parts
                .iter()
                .enumerate()
                .map(|(i, part)| if i == which {
                    part.split(' ').map(|_| number.as_str()).collect::<Vec<_>>().join(" ")
                } else {
                    part.to_string()
                })
                .collect();
            if let Ok(arm) = Arm::from_urdf_str(&mangled.join("\""), &[], FLOOR) {
                let zero = [0.0; MAX_JOINTS];
                arm.forward_dynamics(&zero, &zero, &zero);
            }
        }
    }
}
