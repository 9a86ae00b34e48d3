//! Problems of a configuration, each with its origin. Must not contain values of secrets.

use std::fmt;
use std::path::PathBuf;

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file, at this line (counted from 1).
    File { path: Option<PathBuf>, line: Option<usize> },
    /// This environment variable.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => {
                match path {
                    Some(path) => write!(out, "{}", path.display())?,
                    None => write!(out, "configuration")?,
                }
                line.map_or(Ok(()), |line| write!(out, ":{line}"))
            }
            Self::Variable(name) => write!(out, "{name}"),
        }
    }
}

/// One problem: origin, setting, message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) origin: Origin,
    /// Full name, like `documents.seal_idle`; empty if the problem is not about a setting.
    pub(crate) setting: String,
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.origin)?;
        if !self.setting.is_empty() {
            write!(out, "{}: ", self.setting)?;
        }
        write!(out, "{}", self.message)
    }
}

/// An invalid configuration, with all its problems.
#[derive(Debug, thiserror::Error)]
pub(crate) struct Invalid {
    pub(crate) problems: Vec<Problem>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the configuration is not valid:")?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(out, "\n  {problem}"))
    }
}
