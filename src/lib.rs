//! **metagd** learns a robot's inverse dynamics online, in real time, and predicts feed-forward torques.
//!
//! The method is Meier, Kappler, Schaal, "Online Learning of a Memory for Learning Rates" (ICRA 2018, arXiv
//! 1709.06709). The modules stand in floors, the lowest first; each may use those above it in this list only.

pub mod sample;

pub mod config;

pub mod msg;

pub mod learn;

pub mod dynamics;

pub mod realtime;

pub mod bag;

pub mod sim;

pub mod ros;

pub mod experiment;

pub mod report;

pub mod node;

pub mod command;
