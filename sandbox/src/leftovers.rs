//! The leak check: what of an instance is still on this host.

use std::path::Path;

use crate::{cgroup::Hierarchies, helper::record, mounts, names::Tag, network, open::directories};

/// Everything that an instance put on this host and that is still there: links, rules, mounts, cgroups, processes, directories.
/// Empty after [`Sandbox::shutdown`](crate::Sandbox::shutdown). Snapshots are not among it. Blocks for some milliseconds.
pub fn leftovers(root: &Path, instance: &str) -> Vec<String> {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let tag = Tag::new(&root, instance);
    let mut found =
        network::leftovers(&tag).unwrap_or_else(|error| vec![format!("the network cannot be looked at: {error}")]);
    match mounts::below(&root) {
        Ok(points) => found.extend(points.into_iter().map(|point| format!("mount {}", point.display()))),
        Err(error) => found.push(format!("the mounts cannot be looked at: {error}")),
    }
    if let Ok(hierarchies) = Hierarchies::find() {
        let groups = hierarchies.directories(&tag.cgroup()).into_iter().filter(|path| path.exists());
        found.extend(groups.map(|path| format!("cgroup {}", path.display())));
    }
    for directory in directories(&root.join("containers")).unwrap_or_default() {
        if let Ok(None) = record::lock(&directory) {
            found.push(format!("process: the monitor of {}", directory.display()));
        }
        found.push(format!("directory {}", directory.display()));
    }
    for name in ["snapshots/active", "snapshots/views", "snapshots/trash", "network"] {
        let directories = directories(&root.join(name)).unwrap_or_default();
        found.extend(directories.into_iter().map(|path| format!("directory {}", path.display())));
    }
    found
}
