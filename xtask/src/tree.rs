//! The files of the repository as values. Checks must use them and not do I/O themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// Paths from the root with `/`, each with its text. `None`: the file is not UTF-8.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// All files that are tracked by git or could be added. Ignored files are not part of the project.
    pub(crate) fn from_git(root: &Path) -> anyhow::Result<Self> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .context("cannot run git")?;
        if !output.status.success() {
            bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let mut files = BTreeMap::new();
        for name in output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let name = String::from_utf8(name.to_vec()).context("a file name is not UTF-8")?;
            // A file that is tracked and deleted in the work tree is skipped.
            if let Ok(bytes) = std::fs::read(root.join(&name)) {
                files.insert(name, String::from_utf8(bytes).ok());
            }
        }
        Ok(Self { files })
    }

    /// Every path, in order.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Every text file: path and text, in order.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Whether there is a file or a directory of this name.
    pub(crate) fn contains(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path)
            || self
                .files
                .range(folder.clone()..)
                .next()
                .is_some_and(|(name, _)| name.starts_with(&folder))
    }

    /// A tree for the tests of the checks.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), Some((*text).to_owned())))
            .collect();
        Self { files }
    }
}

/// The root of the repository that this program checks. It comes from `cargo xtask` at run time and not from the path
/// at compile time, because checkouts with a shared target directory share the compiled program.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    Ok(Path::new(&here)
        .parent()
        .context("xtask has no parent directory")?
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_exists_if_it_contains_a_file() {
        let tree = Tree::of(&[("spec/docs/live.md", ""), ("spec-old", "")]);
        assert!(tree.contains("spec/docs"));
        assert!(tree.contains("spec/docs/"));
        assert!(tree.contains("spec/docs/live.md"));
        assert!(!tree.contains("spec/doc"));
        assert!(!tree.contains("homeserver"));
    }
}
