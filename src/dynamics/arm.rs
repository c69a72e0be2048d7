//! The arm's rigid bodies and the recursions over them.
//!
//! Contract: every method but the constructors and [`Arm::inertial_parameters`] is free of allocation, locks and
//! panics, works on the stack, takes `&self` unless it changes the model, and costs the same for every input (a little
//! more for angles of thousands of turns).
//!
//! All recursions run in the links' own frames, with each body's moments taken about its frame's origin (not its centre
//! of mass), because the equations are then linear in the ten numbers of [`Arm::inertial_parameters`]. Source: R.
//! Featherstone, *Rigid Body Dynamics Algorithms* (2008), chapters 5 (recursive Newton-Euler) and 6 (composite rigid
//! bodies); the regressor is that of C. Atkeson, C. An, J. Hollerbach, "Estimation of Inertial Parameters of
//! Manipulator Loads and Links" (IJRR 1986).

use arrayvec::ArrayVec;
use nalgebra::{Isometry3, Matrix3, Rotation3, Translation3, UnitQuaternion, Vector3};

use super::sin_cos::sin_cos;
use crate::sample::{MAX_JOINTS, Motion, PerJoint};

/// How many inertial parameters one link has: see [`Arm::inertial_parameters`].
pub const PARAMETERS_PER_LINK: usize = 10;

/// What the URDF allows one joint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JointLimits {
    /// Lowest position, rad (m); -infinity for a continuous joint or where the URDF gives none.
    pub lower: f64,
    /// Highest position, rad (m); infinity for a continuous joint or where the URDF gives none.
    pub upper: f64,
    /// Highest speed, rad/s (m/s); 0 where the URDF gives none.
    pub velocity: f64,
    /// Highest torque, Nm (N); 0 where the URDF gives none.
    pub effort: f64,
}

/// Mass, centre of mass and inertia of one moving link with everything that is fixed to it (without the payload).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkInertia {
    /// Mass, kg.
    pub mass: f64,
    /// Centre of mass in the link's frame, m.
    pub com: Vector3<f64>,
    /// Inertia about the centre of mass, in the directions of the link's frame, kg m².
    pub inertia: Matrix3<f64>,
}

impl LinkInertia {
    /// A link without mass.
    pub(super) fn zero() -> Self {
        LinkInertia { mass: 0.0, com: Vector3::zeros(), inertia: Matrix3::zeros() }
    }

    /// This body as seen from a frame in which its own frame has the given pose.
    pub(super) fn moved(&self, pose: &Isometry3<f64>) -> Self {
        let rotation = pose.rotation.to_rotation_matrix();
        LinkInertia {
            mass: self.mass,
            com: pose.rotation * self.com + pose.translation.vector,
            inertia: rotation.matrix() * self.inertia * rotation.matrix().transpose(),
        }
    }

    /// Both bodies as one.
    pub(super) fn joined(&self, other: &Self) -> Self {
        let mass = self.mass + other.mass;
        if mass == 0.0 {
            return LinkInertia { mass, com: self.com, inertia: self.inertia + other.inertia };
        }
        let com = (self.com * self.mass + other.com * other.mass) / mass;
        let about = |body: &Self| body.inertia - skew_squared(&(body.com - com)) * body.mass;
        LinkInertia { mass, com, inertia: about(self) + about(other) }
    }
}

/// A rigid body in the ten numbers in which the dynamics are linear: mass, first moment and inertia about the origin of
/// the link's frame.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Body {
    mass: f64,
    moment: Vector3<f64>,
    inertia: Matrix3<f64>,
}

impl Body {
    fn new(link: &LinkInertia) -> Self {
        Body {
            mass: link.mass,
            moment: link.com * link.mass,
            inertia: link.inertia - skew_squared(&link.com) * link.mass,
        }
    }

    fn parameters(&self) -> [f64; PARAMETERS_PER_LINK] {
        let (h, i) = (&self.moment, &self.inertia);
        [self.mass, h.x, h.y, h.z, i.m11, i.m12, i.m13, i.m22, i.m23, i.m33]
    }

    fn from_parameters(p: &[f64; PARAMETERS_PER_LINK]) -> Self {
        Body {
            mass: p[0],
            moment: Vector3::new(p[1], p[2], p[3]),
            inertia: Matrix3::new(p[4], p[5], p[6], p[5], p[7], p[8], p[6], p[8], p[9]),
        }
    }

    const ZERO: Body = Body {
        mass: 0.0,
        moment: Vector3::new(0.0, 0.0, 0.0),
        inertia: Matrix3::new(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    };

    fn add(&mut self, other: &Body) {
        self.mass += other.mass;
        self.moment += other.moment;
        self.inertia += other.inertia;
    }

    /// This body in the parent's frame, where its own frame stands at `place`.
    fn in_parent(&self, place: &Place) -> Body {
        let p = place.origin;
        let moment = place.rotation * self.moment;
        // The parallel axes: -[h][p] - [p][h] - m [p][p], in which [a][b] = b a' - (a'b) 1.
        let half = moment + p * (0.5 * self.mass);
        let outer = half * p.transpose();
        Body {
            mass: self.mass,
            moment: moment + p * self.mass,
            inertia: place.rotation * self.inertia * place.rotation.transpose()
                + Matrix3::from_diagonal_element(2.0 * half.dot(&p))
                - (outer + outer.transpose()),
        }
    }

    /// The force and moment that make this body move so (Newton and Euler about the frame's origin).
    fn wrench(&self, twist: &Twist) -> Wrench {
        let Twist { angular: w, angular_acceleration: wd, acceleration: a } = twist;
        Wrench {
            force: a * self.mass + wd.cross(&self.moment) + w.cross(&w.cross(&self.moment)),
            moment: self.inertia * wd + w.cross(&(self.inertia * w)) + self.moment.cross(a),
        }
    }
}

/// A force and a moment about the frame's origin.
#[derive(Clone, Copy)]
struct Wrench {
    force: Vector3<f64>,
    moment: Vector3<f64>,
}

impl Wrench {
    const ZERO: Wrench = Wrench { force: Vector3::new(0.0, 0.0, 0.0), moment: Vector3::new(0.0, 0.0, 0.0) };

    fn in_parent(&self, place: &Place) -> Wrench {
        let force = place.rotation * self.force;
        Wrench { force, moment: place.rotation * self.moment + place.origin.cross(&force) }
    }

    fn add(&mut self, other: &Wrench) {
        self.force += other.force;
        self.moment += other.moment;
    }
}

/// The motion that a unit of one joint's speed gives a link farther out, in that link's frame.
#[derive(Clone, Copy)]
struct Screw {
    angular: Vector3<f64>,
    linear: Vector3<f64>,
}

impl Screw {
    /// This screw as the next link has it, which stands at `place`.
    fn in_link(&self, place: &Place) -> Screw {
        let to_link = place.rotation.transpose();
        Screw {
            angular: to_link * self.angular,
            linear: to_link * (self.linear + self.angular.cross(&place.origin)),
        }
    }

    /// What this screw's joint bears, for a unit of each parameter of a body that moves so: its share of
    /// [`Body::wrench`], solved for the parameters.
    fn efforts(&self, twist: &Twist) -> [f64; PARAMETERS_PER_LINK] {
        let Twist { angular: w, angular_acceleration: wd, acceleration: a } = twist;
        let (s, v) = (&self.angular, &self.linear);
        let moment = v.cross(wd) + v.cross(w).cross(w) + a.cross(s);
        let u = s.cross(w);
        let inertia = |i: usize, j: usize| s[i] * wd[j] + u[i] * w[j];
        [
            v.dot(a),
            moment.x,
            moment.y,
            moment.z,
            inertia(0, 0),
            inertia(0, 1) + inertia(1, 0),
            inertia(0, 2) + inertia(2, 0),
            inertia(1, 1),
            inertia(1, 2) + inertia(2, 1),
            inertia(2, 2),
        ]
    }
}

/// Where a link's frame stands in its parent's: rotation to the parent, and origin.
#[derive(Clone, Copy)]
struct Place {
    rotation: Matrix3<f64>,
    origin: Vector3<f64>,
}

impl Place {
    const IDENTITY: Place = Place {
        rotation: Matrix3::new(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        origin: Vector3::new(0.0, 0.0, 0.0),
    };

    /// The place of a frame that stands at `next` in this one.
    fn then(&self, next: &Place) -> Place {
        Place { rotation: self.rotation * next.rotation, origin: self.origin + self.rotation * next.origin }
    }
}

/// How a body moves, in its own frame; the acceleration of its origin includes minus gravity.
#[derive(Clone, Copy)]
struct Twist {
    angular: Vector3<f64>,
    angular_acceleration: Vector3<f64>,
    acceleration: Vector3<f64>,
}

impl Twist {
    const ZERO: Twist = Twist {
        angular: Vector3::new(0.0, 0.0, 0.0),
        angular_acceleration: Vector3::new(0.0, 0.0, 0.0),
        acceleration: Vector3::new(0.0, 0.0, 0.0),
    };
}

/// An arm in motion: what of its dynamics does not depend on what its links weigh.
pub(super) struct Moving {
    places: ArrayVec<Place, MAX_JOINTS>,
    twists: ArrayVec<Twist, MAX_JOINTS>,
}

/// One moving joint with the link behind it.
#[derive(Clone, Debug)]
struct Link {
    /// The parent's rotation to this frame at q = 0, and its products with the axis' cross-product matrix, so that the
    /// rotation at q is `rotation + sin q * rotation_k + (1 - cos q) * rotation_kk` (Rodrigues).
    rotation: Matrix3<f64>,
    rotation_k: Matrix3<f64>,
    rotation_kk: Matrix3<f64>,
    origin: Vector3<f64>,
    axis: Vector3<f64>,
    prismatic: bool,
    limits: JointLimits,
    inertia: LinkInertia,
}

impl Link {
    fn place(&self, q: f64, sin: f64, cos: f64) -> Place {
        if self.prismatic {
            return Place { rotation: self.rotation, origin: self.origin + self.rotation * (self.axis * q) };
        }
        Place {
            rotation: self.rotation + self.rotation_k * sin + self.rotation_kk * (1.0 - cos),
            origin: self.origin,
        }
    }

    /// The part of a wrench that the joint's motor has to bear.
    fn effort(&self, wrench: &Wrench) -> f64 {
        if self.prismatic { self.axis.dot(&wrench.force) } else { self.axis.dot(&wrench.moment) }
    }

    /// What a unit of this joint's speed is to its own link.
    fn screw(&self) -> Screw {
        let zero = Vector3::zeros();
        if self.prismatic {
            Screw { angular: zero, linear: self.axis }
        } else {
            Screw { angular: self.axis, linear: zero }
        }
    }

    /// The wrench that gives a body at rest a unit acceleration of this joint alone.
    fn unit_wrench(&self, body: &Body) -> Wrench {
        if self.prismatic {
            Wrench { force: self.axis * body.mass, moment: body.moment.cross(&self.axis) }
        } else {
            Wrench { force: self.axis.cross(&body.moment), moment: body.inertia * self.axis }
        }
    }

    fn twist(&self, parent: &Twist, place: &Place, qd: f64, qdd: f64) -> Twist {
        let to_link = place.rotation.transpose();
        let angular = to_link * parent.angular;
        let angular_acceleration = to_link * parent.angular_acceleration;
        let acceleration = to_link
            * (parent.acceleration
                + parent.angular_acceleration.cross(&place.origin)
                + parent.angular.cross(&parent.angular.cross(&place.origin)));
        let rate = self.axis * qd;
        if self.prismatic {
            Twist {
                angular,
                angular_acceleration,
                acceleration: acceleration + self.axis * qdd + angular.cross(&rate) * 2.0,
            }
        } else {
            Twist {
                angular: angular + rate,
                angular_acceleration: angular_acceleration + self.axis * qdd + angular.cross(&rate),
                acceleration,
            }
        }
    }
}

/// What the loader knows of one moving joint and its link.
pub(super) struct LinkDescription {
    pub(super) joint: String,
    /// The link's frame in the previous moving link's (the first: the base's) at q = 0.
    pub(super) placement: Isometry3<f64>,
    /// Unit vector.
    pub(super) axis: Vector3<f64>,
    pub(super) prismatic: bool,
    pub(super) limits: JointLimits,
    pub(super) inertia: LinkInertia,
}

/// A serial arm of 1 to [`MAX_JOINTS`] revolute, continuous or prismatic joints: the nominal rigid-body model.
///
/// Joint arrays are in the order of [`Arm::joint_names`], from the base outwards; entries past [`Arm::len`] are neither
/// read nor (in results) different from zero.
#[derive(Clone, Debug)]
pub struct Arm {
    names: Vec<String>,
    links: Vec<Link>,
    bodies: Vec<Body>,
    flange: Isometry3<f64>,
    flange_name: String,
    gravity: Vector3<f64>,
    payload: (f64, Vector3<f64>),
    notes: Vec<String>,
}

impl Arm {
    pub(super) fn new(
        links: Vec<LinkDescription>,
        flange: (String, Isometry3<f64>),
        gravity: [f64; 3],
        notes: Vec<String>,
    ) -> Arm {
        let names = links.iter().map(|link| link.joint.clone()).collect();
        let links: Vec<Link> = links
            .into_iter()
            .map(|link| {
                let rotation = *link.placement.rotation.to_rotation_matrix().matrix();
                let k = skew(&link.axis);
                Link {
                    rotation,
                    rotation_k: rotation * k,
                    rotation_kk: rotation * k * k,
                    origin: link.placement.translation.vector,
                    axis: link.axis,
                    prismatic: link.prismatic,
                    limits: link.limits,
                    inertia: link.inertia,
                }
            })
            .collect();
        let bodies = links.iter().map(|link| Body::new(&link.inertia)).collect();
        Arm {
            names,
            links,
            bodies,
            flange: flange.1,
            flange_name: flange.0,
            gravity: Vector3::from(gravity),
            payload: (0.0, Vector3::zeros()),
            notes,
        }
    }

    /// The moving joints' names, from the base outwards.
    pub fn joint_names(&self) -> &[String] {
        &self.names
    }

    /// How many moving joints there are, 1 to [`MAX_JOINTS`].
    #[expect(clippy::len_without_is_empty, reason = "an arm has at least one joint")]
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// What was simplified while reading the URDF, one sentence each, for the log; empty for a plain arm.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the URDF allows joint `joint`; a joint that is not there has no range, speed or torque.
    pub fn limits(&self, joint: usize) -> JointLimits {
        self.links.get(joint).map(|link| link.limits).unwrap_or(JointLimits {
            lower: 0.0,
            upper: 0.0,
            velocity: 0.0,
            effort: 0.0,
        })
    }

    /// The name of the URDF's link whose frame is the flange: from the last moving link outwards along fixed joints,
    /// as far as these do not branch.
    pub fn flange_name(&self) -> &str {
        &self.flange_name
    }

    /// The flange's pose in the frame of the arm's base at positions `q`.
    pub fn flange_pose(&self, q: &PerJoint) -> Isometry3<f64> {
        let mut pose = Place::IDENTITY;
        for place in &self.places(q) {
            pose = pose.then(place);
        }
        let rotation = Rotation3::from_matrix_unchecked(pose.rotation);
        Isometry3::from_parts(
            Translation3::from(pose.origin),
            UnitQuaternion::from_rotation_matrix(&rotation),
        ) * self.flange
    }

    /// Gravity in the frame of the arm's base, m/s².
    pub fn gravity(&self) -> [f64; 3] {
        self.gravity.into()
    }

    /// Turns gravity, m/s² in the frame of the arm's base: (0, 0, -9.81) stands on the floor.
    pub fn set_gravity(&mut self, gravity: [f64; 3]) {
        self.gravity = Vector3::from(gravity);
    }

    /// The arm with a payload: [`Arm::set_payload`].
    #[must_use]
    pub fn with_payload(mut self, mass: f64, com: [f64; 3]) -> Arm {
        self.set_payload(mass, com);
        self
    }

    /// Fixes a point mass of `mass` kg at `com` (m, in the flange's frame, see [`Arm::flange_name`]) to the last link,
    /// in the place of any payload before; 0 kg takes it off.
    pub fn set_payload(&mut self, mass: f64, com: [f64; 3]) {
        self.payload = (mass, Vector3::from(com));
        self.rebuild_bodies();
    }

    /// Changes the links' inertias, for instance to perturb a nominal model: `f` gets the index of each moving link
    /// and its inertia without the payload.
    pub fn map_links(&mut self, mut f: impl FnMut(usize, &mut LinkInertia)) {
        for (index, link) in self.links.iter_mut().enumerate() {
            f(index, &mut link.inertia);
        }
        self.rebuild_bodies();
    }

    fn rebuild_bodies(&mut self) {
        let last = self.links.len() - 1;
        for (index, (body, link)) in self.bodies.iter_mut().zip(&self.links).enumerate() {
            *body = Body::new(&link.inertia);
            if index == last && self.payload.0 != 0.0 {
                let payload =
                    LinkInertia { mass: self.payload.0, com: self.payload.1, inertia: Matrix3::zeros() }
                        .moved(&self.flange);
                let payload = Body::new(&payload);
                body.add(&payload);
            }
        }
    }

    /// Where each link's frame stands in its parent's at positions `q`.
    fn places(&self, q: &PerJoint) -> ArrayVec<Place, MAX_JOINTS> {
        let (mut sin, mut cos) = ([0.0; MAX_JOINTS], [0.0; MAX_JOINTS]);
        sin_cos(&q[..self.links.len()], &mut sin, &mut cos);
        let angles = q.iter().zip(sin.iter().zip(&cos));
        self.links.iter().zip(angles).map(|(link, (q, (sin, cos)))| link.place(*q, *sin, *cos)).collect()
    }

    /// The torques that make the arm move as `motion` says, Nm: recursive Newton-Euler.
    pub fn inverse_dynamics(&self, motion: &Motion) -> PerJoint {
        self.torques(&self.moving(motion))
    }

    /// How each link moves in `motion`.
    pub(super) fn moving(&self, motion: &Motion) -> Moving {
        let (mut sin, mut cos) = ([0.0; MAX_JOINTS], [0.0; MAX_JOINTS]);
        sin_cos(&motion.q[..self.links.len()], &mut sin, &mut cos);
        let mut moving = Moving { places: ArrayVec::new(), twists: ArrayVec::new() };
        let mut twist = Twist { acceleration: -self.gravity, ..Twist::ZERO };
        for (j, link) in self.links.iter().enumerate() {
            let place = link.place(motion.q[j], sin[j], cos[j]);
            twist = link.twist(&twist, &place, motion.qd[j], motion.qdd[j]);
            moving.places.push(place);
            moving.twists.push(twist);
        }
        moving
    }

    /// The torques that make the links move so, Nm.
    pub(super) fn torques(&self, moving: &Moving) -> PerJoint {
        let mut torques = [0.0; MAX_JOINTS];
        let mut wrench = Wrench::ZERO;
        let links = self.links.iter().zip(&self.bodies).zip(moving.places.iter().zip(&moving.twists));
        for (torque, ((link, body), (place, twist))) in torques.iter_mut().zip(links).rev() {
            wrench.add(&body.wrench(twist));
            *torque = link.effort(&wrench);
            wrench = wrench.in_parent(place);
        }
        torques
    }

    /// The joint-space mass matrix at positions `q`, kg m², symmetric to the last bit: composite rigid bodies.
    pub fn mass_matrix(&self, q: &PerJoint) -> [[f64; MAX_JOINTS]; MAX_JOINTS] {
        let n = self.links.len();
        let places = self.places(q);
        let mut matrix = [[0.0; MAX_JOINTS]; MAX_JOINTS];
        // The link and all that it carries, as one body.
        let mut carried = Body::ZERO;
        for i in (0..n).rev() {
            carried.add(&self.bodies[i]);
            let mut wrench = self.links[i].unit_wrench(&carried);
            for j in (0..=i).rev() {
                matrix[i][j] = self.links[j].effort(&wrench);
                matrix[j][i] = matrix[i][j];
                wrench = wrench.in_parent(&places[j]);
            }
            carried = carried.in_parent(&places[i]);
        }
        matrix
    }

    /// The accelerations that `tau` (Nm) causes in state `q`, `qd`, rad/s²; all NaN where the mass matrix is not
    /// positive definite, as an inertia that no body has can make it.
    pub fn forward_dynamics(&self, q: &PerJoint, qd: &PerJoint, tau: &PerJoint) -> PerJoint {
        let n = self.links.len();
        let bias = self.inverse_dynamics(&Motion { q: *q, qd: *qd, qdd: [0.0; MAX_JOINTS] });
        let mut l = self.mass_matrix(q);
        let mut x = [0.0; MAX_JOINTS];
        // Cholesky, forward and backward substitution in place.
        for i in 0..n {
            for j in 0..=i {
                let dot: f64 = (0..j).map(|k| l[i][k] * l[j][k]).sum();
                let rest = l[i][j] - dot;
                if i > j {
                    l[i][j] = rest / l[j][j];
                } else if rest > 0.0 {
                    l[i][i] = rest.sqrt();
                } else {
                    x[..n].fill(f64::NAN);
                    return x;
                }
            }
            let dot: f64 = (0..i).map(|k| l[i][k] * x[k]).sum();
            x[i] = (tau[i] - bias[i] - dot) / l[i][i];
        }
        for i in (0..n).rev() {
            let dot: f64 = (i + 1..n).map(|k| l[k][i] * x[k]).sum();
            x[i] = (x[i] - dot) / l[i][i];
        }
        x
    }

    /// Kinetic plus potential energy, J; the potential is zero where all mass is in the base frame's origin.
    pub fn energy(&self, q: &PerJoint, qd: &PerJoint) -> f64 {
        let places = self.places(q);
        let mut energy = 0.0;
        let mut pose = Place::IDENTITY;
        let mut angular = Vector3::zeros();
        let mut linear = Vector3::zeros();
        for (j, (link, body)) in self.links.iter().zip(&self.bodies).enumerate() {
            let place = &places[j];
            let to_link = place.rotation.transpose();
            linear = to_link * (linear + angular.cross(&place.origin));
            angular = to_link * angular;
            if link.prismatic {
                linear += link.axis * qd[j];
            } else {
                angular += link.axis * qd[j];
            }
            pose = pose.then(place);
            energy += 0.5 * body.mass * linear.norm_squared()
                + linear.dot(&angular.cross(&body.moment))
                + 0.5 * angular.dot(&(body.inertia * angular))
                - self.gravity.dot(&(pose.origin * body.mass + pose.rotation * body.moment));
        }
        energy
    }

    /// The matrix of which the product with [`Arm::inertial_parameters`] is [`Arm::inverse_dynamics`].
    ///
    /// `y` must have been made for at least as many joints as the arm has; what it has more of, and no column of, is
    /// set to zero.
    pub fn regressor(&self, motion: &Motion, y: &mut Regressor) {
        y.values.fill(0.0);
        let (columns, joints) = (y.columns(), y.joints);
        self.for_each_effort(&self.moving(motion), |joint, link, efforts| {
            if link < joints {
                let row = joint * columns + link * PARAMETERS_PER_LINK;
                y.values[row..][..PARAMETERS_PER_LINK].copy_from_slice(&efforts);
            }
        });
    }

    /// What each joint bears for a unit of each parameter of each link that it carries: `f(joint, link, efforts)`.
    pub(super) fn for_each_effort(
        &self,
        moving: &Moving,
        mut f: impl FnMut(usize, usize, [f64; PARAMETERS_PER_LINK]),
    ) {
        let mut screws = ArrayVec::<Screw, MAX_JOINTS>::new();
        let links = self.links.iter().zip(moving.places.iter().zip(&moving.twists));
        for (i, (link, (place, twist))) in links.enumerate() {
            screws.iter_mut().for_each(|screw| *screw = screw.in_link(place));
            screws.push(link.screw());
            screws.iter().enumerate().for_each(|(joint, screw)| f(joint, i, screw.efforts(twist)));
        }
    }

    /// The ten numbers of each link (the last one's with the payload) in which the torques are linear, link by link:
    /// mass (kg), first moment x, y, z (kg m), and inertia xx, xy, xz, yy, yz, zz (kg m²), both about the origin of the
    /// link's frame. Allocates.
    pub fn inertial_parameters(&self) -> Vec<f64> {
        self.bodies.iter().flat_map(Body::parameters).collect()
    }

    /// Computes with other inertial parameters (in the order of [`Arm::inertial_parameters`]) until the links or the
    /// payload are set anew; no body need have them.
    pub(super) fn set_inertial_parameters(&mut self, parameters: impl Iterator<Item = f64>) {
        let mut parameters = parameters;
        for body in &mut self.bodies {
            let mut ten = body.parameters();
            ten.iter_mut().zip(&mut parameters).for_each(|(old, new)| *old = new);
            *body = Body::from_parameters(&ten);
        }
    }
}

/// Torques per unit of each inertial parameter: row j is joint j, column 10 i + p is parameter p of link i.
#[derive(Clone, Debug, PartialEq)]
pub struct Regressor {
    joints: usize,
    values: Vec<f64>,
}

impl Regressor {
    /// Room for an arm of `joints` joints; allocates.
    pub fn new(joints: usize) -> Self {
        let joints = joints.min(MAX_JOINTS);
        Regressor { joints, values: vec![0.0; joints * joints * PARAMETERS_PER_LINK] }
    }

    /// How many parameters there are: ten for each link.
    pub fn columns(&self) -> usize {
        self.joints * PARAMETERS_PER_LINK
    }

    /// Torque of joint `joint` per unit of each inertial parameter, zero for links nearer to the base than the joint;
    /// empty if there is no such joint.
    pub fn row(&self, joint: usize) -> &[f64] {
        self.values.chunks_exact(self.columns().max(1)).nth(joint).unwrap_or(&[])
    }
}

fn skew(v: &Vector3<f64>) -> Matrix3<f64> {
    v.cross_matrix()
}

/// `skew(v) * skew(v)`, which is symmetric to the last bit.
fn skew_squared(v: &Vector3<f64>) -> Matrix3<f64> {
    v * v.transpose() - Matrix3::identity() * v.norm_squared()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const FLOOR: [f64; 3] = [0.0, 0.0, -9.81];

    fn lwr() -> Arm {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/urdf/kuka_lwr.urdf");
        Arm::from_urdf(path.as_ref(), &[], FLOOR).unwrap()
    }

    /// A revolute, a prismatic and a continuous joint with skew axes and rotated origins, and a fixed link between.
    fn skew_arm() -> Arm {
        let xml = r#"<robot name="skew">
          <link name="base"/>
          <joint name="turn" type="revolute"><parent link="base"/><child link="a"/>
            <origin xyz="0.1 0.2 0.3" rpy="0.3 -0.5 0.7"/><axis xyz="1 2 -0.5"/>
            <limit lower="-2" upper="2" velocity="1" effort="10"/></joint>
          <link name="a"><inertial><origin xyz="0.02 0.05 0.1" rpy="0.1 0.2 0.3"/><mass value="3"/>
            <inertia ixx="0.03" ixy="0.002" ixz="-0.001" iyy="0.025" iyz="0.003" izz="0.02"/></inertial></link>
          <joint name="slide" type="prismatic"><parent link="a"/><child link="b"/>
            <origin xyz="0 0.1 0.2" rpy="-1 0.4 0.2"/><axis xyz="0.3 0 1"/>
            <limit lower="0" upper="0.4" velocity="0.5" effort="100"/></joint>
          <link name="b"><inertial><origin xyz="0 0 0.1"/><mass value="2"/>
            <inertia ixx="0.01" ixy="0" ixz="0" iyy="0.02" iyz="0" izz="0.015"/></inertial></link>
          <joint name="bracket" type="fixed"><parent link="b"/><child link="c"/>
            <origin xyz="0.1 0 0.05" rpy="0 1 0"/></joint>
          <link name="c"><inertial><origin xyz="0.03 0 0"/><mass value="0.7"/>
            <inertia ixx="0.001" ixy="0" ixz="0" iyy="0.002" iyz="0" izz="0.002"/></inertial></link>
          <joint name="spin" type="continuous"><parent link="c"/><child link="d"/>
            <origin xyz="0 0.05 0.1" rpy="0.5 0 -0.5"/><axis xyz="0 -1 1"/>
            <limit velocity="3" effort="20"/></joint>
          <link name="d"><inertial><origin xyz="0.01 0.04 0.06"/><mass value="1.2"/>
            <inertia ixx="0.004" ixy="0" ixz="0" iyy="0.005" iyz="0.0005" izz="0.003"/></inertial></link>
        </robot>"#;
        Arm::from_urdf_str(xml, &[], [1.0, -3.0, -9.0]).unwrap().with_payload(0.4, [0.05, 0.0, 0.1])
    }

    fn arms() -> [Arm; 3] {
        let mut wall = lwr();
        wall.set_gravity([9.81, 0.0, 0.0]);
        [wall, skew_arm(), lwr().with_payload(3.0, [0.02, -0.03, 0.1])]
    }

    fn random_motion(random: &mut impl Rng, joints: usize) -> Motion {
        let mut motion = Motion::default();
        for values in [&mut motion.q, &mut motion.qd, &mut motion.qdd] {
            values[..joints].fill_with(|| random.random_range(-2.0..2.0));
        }
        motion
    }

    /// Runs `check` on random states of every arm.
    fn everywhere(mut check: impl FnMut(&Arm, &Motion)) {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        for arm in arms() {
            for _ in 0..50 {
                check(&arm, &random_motion(&mut random, arm.len()));
            }
        }
    }

    fn assert_near(a: &[f64], b: &[f64], tolerance: f64) {
        for (a_value, b_value) in a.iter().zip(b) {
            assert!((a_value - b_value).abs() <= tolerance, "{a:?}\n{b:?}");
        }
    }

    #[test]
    fn a_pendulum_bears_its_closed_form() {
        let xml = r#"<robot name="pendulum"><link name="base"/>
          <joint name="hinge" type="continuous"><parent link="base"/><child link="bob"/><axis xyz="0 1 0"/></joint>
          <link name="bob"><inertial><origin xyz="0 0 -0.5"/><mass value="2"/>
            <inertia ixx="0" ixy="0" ixz="0" iyy="0.1" iyz="0" izz="0"/></inertial></link></robot>"#;
        let arm = Arm::from_urdf_str(xml, &[], FLOOR).unwrap();
        let mut motion = Motion::default();
        (motion.q[0], motion.qd[0], motion.qdd[0]) = (0.6, 3.0, 1.5);
        let (m, l, i, g) = (2.0, 0.5, 0.1, 9.81);
        let expected = (i + m * l * l) * 1.5 + m * g * l * f64::sin(0.6);
        assert_near(&arm.inverse_dynamics(&motion)[..1], &[expected], 1e-12);
        let energy = 0.5 * (i + m * l * l) * 9.0 - m * g * l * f64::cos(0.6);
        assert_near(&[arm.energy(&motion.q, &motion.qd)], &[energy], 1e-12);
        assert_eq!(arm.limits(0).upper, f64::INFINITY);
        assert_eq!(arm.limits(0).effort, 0.0);
        assert!(arm.notes().iter().any(|note| note.contains("effort")), "{:?}", arm.notes());
    }

    #[test]
    fn a_slide_lifts_its_weight() {
        let xml = r#"<robot name="lift"><link name="base"/>
          <joint name="slide" type="prismatic"><parent link="base"/><child link="car"/><axis xyz="0 0 2"/>
            <limit lower="0" upper="1" velocity="1" effort="50"/></joint>
          <link name="car"><inertial><mass value="3"/>
            <inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial></link></robot>"#;
        let arm = Arm::from_urdf_str(xml, &[], FLOOR).unwrap();
        let mut motion = Motion::default();
        (motion.q[0], motion.qd[0], motion.qdd[0]) = (0.3, 1.0, 2.0);
        assert_near(&arm.inverse_dynamics(&motion)[..1], &[3.0 * (9.81 + 2.0)], 1e-12);
        assert_near(&[arm.energy(&motion.q, &motion.qd)], &[1.5 + 3.0 * 9.81 * 0.3], 1e-12);
        assert_near(&[arm.flange_pose(&motion.q).translation.z], &[0.3], 1e-15);
    }

    #[test]
    fn the_mass_matrix_and_the_bias_make_up_the_inverse_dynamics() {
        everywhere(|arm, motion| {
            let n = arm.len();
            let matrix = arm.mass_matrix(&motion.q);
            let bias = arm.inverse_dynamics(&Motion { qdd: [0.0; MAX_JOINTS], ..*motion });
            let torques: PerJoint =
                std::array::from_fn(|i| bias[i] + (0..n).map(|j| matrix[i][j] * motion.qdd[j]).sum::<f64>());
            assert_near(&torques, &arm.inverse_dynamics(motion), 1e-11);
            let square = nalgebra::DMatrix::from_fn(n, n, |i, j| matrix[i][j]);
            assert_eq!(square, square.transpose());
            assert!(square.symmetric_eigenvalues().min() > 0.0);
        });
    }

    #[test]
    fn forward_dynamics_undoes_inverse_dynamics() {
        everywhere(|arm, motion| {
            let torques = arm.inverse_dynamics(motion);
            assert_near(&arm.forward_dynamics(&motion.q, &motion.qd, &torques), &motion.qdd, 1e-8);
        });
    }

    #[test]
    fn the_torques_power_is_the_energys_rate() {
        everywhere(|arm, motion| {
            let h = 1e-6;
            let energy = |h: f64| {
                let q = std::array::from_fn(|j| motion.q[j] + h * motion.qd[j] + 0.5 * h * h * motion.qdd[j]);
                let qd = std::array::from_fn(|j| motion.qd[j] + h * motion.qdd[j]);
                arm.energy(&q, &qd)
            };
            let rate = (energy(h) - energy(-h)) / (2.0 * h);
            let torques = arm.inverse_dynamics(motion);
            let power: f64 = torques.iter().zip(&motion.qd).map(|(tau, qd)| tau * qd).sum();
            assert!((rate - power).abs() < 1e-6 * (1.0 + power.abs()), "{rate} {power}");
        });
    }

    #[test]
    fn the_regressor_times_the_parameters_is_the_inverse_dynamics() {
        let mut y = Regressor::new(0);
        everywhere(|arm, motion| {
            if y.columns() != arm.len() * PARAMETERS_PER_LINK {
                y = Regressor::new(arm.len());
            }
            arm.regressor(motion, &mut y);
            let parameters = arm.inertial_parameters();
            let torques: Vec<f64> =
                (0..arm.len()).map(|j| y.row(j).iter().zip(&parameters).map(|(y, p)| y * p).sum()).collect();
            assert_near(&torques, &arm.inverse_dynamics(motion), 1e-10);
        });
        assert!(y.row(99).is_empty());
    }

    #[test]
    fn a_regressor_of_another_size_is_filled_as_far_as_it_goes() {
        let arm = skew_arm();
        let motion = random_motion(&mut ChaCha8Rng::seed_from_u64(1), 3);
        let (mut fits, mut larger, mut smaller) = (Regressor::new(3), Regressor::new(5), Regressor::new(2));
        arm.regressor(&motion, &mut fits);
        arm.regressor(&motion, &mut larger);
        arm.regressor(&motion, &mut smaller);
        assert_eq!(larger.row(1)[..30], fits.row(1)[..30]);
        assert_eq!(smaller.row(1), &fits.row(1)[..20]);
        assert!(larger.row(4).iter().all(|value| *value == 0.0));
    }

    #[test]
    fn on_the_wall_gravity_pulls_sideways() {
        let mut arm = lwr();
        let mut motion = Motion::default();
        assert_near(&arm.inverse_dynamics(&motion)[..1], &[0.0], 1e-12);
        // Stretched out along gravity's normal, the whole arm hangs on joint 2 and none of it on joint 1's axis...
        arm.set_gravity([9.81, 0.0, 0.0]);
        let sideways = arm.inverse_dynamics(&motion);
        assert!(sideways[1].abs() > 40.0, "{sideways:?}");
        // ... but bent over sideways its weight turns joint 1.
        motion.q[0] = std::f64::consts::FRAC_PI_2;
        motion.q[1] = std::f64::consts::FRAC_PI_2;
        let bent = arm.inverse_dynamics(&motion);
        assert!(bent[0].abs() > 40.0, "{bent:?}");
    }

    #[test]
    fn a_payload_acts_at_the_flange_and_comes_off_again() {
        let plain = lwr();
        let mut motion = Motion::default();
        motion.q[1] = std::f64::consts::FRAC_PI_2;
        let mut loaded = plain.clone().with_payload(3.0, [0.0, 0.0, 0.1]);
        let difference = loaded.inverse_dynamics(&motion)[1] - plain.inverse_dynamics(&motion)[1];
        // Joint 2 turns about -y, so that +90 degrees stretch the arm along -x: 0.868 m to the flange, 0.1 m beyond.
        let pose = loaded.flange_pose(&motion.q);
        assert_near(&[pose.translation.x], &[-0.868], 1e-9);
        assert_near(&[difference.abs()], &[3.0 * 9.81 * 0.968], 1e-9);
        loaded.set_payload(0.0, [0.0; 3]);
        assert_eq!(loaded.inverse_dynamics(&motion), plain.inverse_dynamics(&motion));
    }

    #[test]
    fn changed_links_change_the_torques_and_keep_the_payload() {
        let mut arm = lwr().with_payload(1.0, [0.0; 3]);
        let before = arm.inertial_parameters();
        arm.map_links(|_, link| link.mass *= 2.0);
        let after = arm.inertial_parameters();
        assert_near(&[after[0]], &[2.0 * before[0]], 1e-12);
        assert_near(&[after[60]], &[2.0 * 0.65 + 1.0], 1e-12);
    }

    #[test]
    fn an_impossible_inertia_gives_nan_rather_than_nonsense() {
        let mut arm = skew_arm();
        arm.map_links(|_, link| link.inertia *= -100.0);
        let accelerations = arm.forward_dynamics(&[0.1; MAX_JOINTS], &[0.0; MAX_JOINTS], &[1.0; MAX_JOINTS]);
        assert!(accelerations[..3].iter().all(|a| a.is_nan()), "{accelerations:?}");
    }

    #[test]
    fn what_lies_past_the_last_joint_does_not_count() {
        let arm = skew_arm();
        let junk =
            Motion { q: [f64::NAN; MAX_JOINTS], qd: [f64::NAN; MAX_JOINTS], qdd: [f64::NAN; MAX_JOINTS] };
        let mut motion = random_motion(&mut ChaCha8Rng::seed_from_u64(2), 3);
        let expected = arm.inverse_dynamics(&motion);
        for (values, junk) in
            [(&mut motion.q, &junk.q), (&mut motion.qd, &junk.qd), (&mut motion.qdd, &junk.qdd)]
        {
            values[3..].copy_from_slice(&junk[3..]);
        }
        assert_eq!(arm.inverse_dynamics(&motion), expected);
        assert_eq!(expected[3..], [0.0; MAX_JOINTS - 3]);
    }
}
