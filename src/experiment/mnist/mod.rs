//! Three binary tasks of handwritten digits (section IV-C, Fig. 3).

pub mod idx;
pub mod lstm;
pub mod network;
