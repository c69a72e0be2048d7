//! Parameter files and overrides in ROS form.
//!
//! Contract: called at start-up; reads files, allocates.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{Config, Value};

/// Why parameters were refused.
#[derive(Debug, thiserror::Error)]
pub enum ParamsError {}

/// The parameters that a file gives the node of this fully qualified name.
pub fn read_file(path: &Path, node: &str) -> Result<BTreeMap<String, Value>, ParamsError> {
    let _ = (path, node);
    Ok(BTreeMap::new())
}

/// One `name:=value`, as `-p` takes it.
pub fn parse_override(text: &str) -> Result<(String, Value), ParamsError> {
    let _ = text;
    Ok((String::new(), Value::Bool(false)))
}

/// The configuration from parameter files, then overrides `name:=value`; later ones win.
pub fn config(files: &[PathBuf], overrides: &[String], node: &str) -> Result<Config, ParamsError> {
    let _ = (files, overrides, node);
    Ok(Config::default())
}
