//! Where cgroups may be made: below our own path in the cgroup v2 hierarchy.
//!
//! Pure functions of `/proc/self/mountinfo` and `/proc/self/cgroup`. Hybrid layouts mount
//! v2 beside v1 (`…/unified`); a container may see only a part of the hierarchy.

use std::path::{Path, PathBuf};

/// Our own cgroup, as a folder and as `/proc/<pid>/cgroup` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnCgroup {
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
}

/// Finds it; `None` where no cgroup v2 is mounted or ours is outside what is.
pub(crate) fn own_cgroup(mountinfo: &str, cgroup: &str) -> Option<OwnCgroup> {
    let name = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (root, point) = mountinfo.lines().find_map(cgroup2_mount)?;
    let below = Path::new(name).strip_prefix(&root).ok()?;
    Some(OwnCgroup { folder: Path::new(&point).join(below), name: name.into() })
}

/// What part of the hierarchy is mounted, and where, if this line is such a mount.
fn cgroup2_mount(line: &str) -> Option<(String, String)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    if filesystem.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    Some((unescape(fields.next()?), unescape(fields.next()?)))
}

/// Blanks are written in octal there.
fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_layout() {
        let own = own_cgroup(HYBRID, "4:memory:/x\n0::/\n").expect("there is one");
        assert_eq!((own.folder.to_str(), own.name.as_str()), (Some("/sys/fs/cgroup/unified/"), "/"));
        let own = own_cgroup(HYBRID, "0::/system.slice/a b.service\n").expect("there is one");
        assert_eq!(own.folder, Path::new("/sys/fs/cgroup/unified/system.slice/a b.service"));
    }

    #[test]
    fn a_part_of_the_hierarchy() {
        let bound = "9 8 0:3 /pod/one /sys/fs/cg\\040roup ro - cgroup2 cgroup rw\n";
        let own = own_cgroup(bound, "0::/pod/one/inner\n").expect("there is one");
        assert_eq!(own.folder, Path::new("/sys/fs/cg roup/inner"));
        assert_eq!(own_cgroup(bound, "0::/pod/two\n"), None);
    }

    #[test]
    fn version_one_only() {
        assert_eq!(own_cgroup("31 23 0:28 / /c rw - cgroup cgroup rw\n", "0::/\n"), None);
        assert_eq!(own_cgroup(HYBRID, "4:memory:/x\n"), None);
    }
}
