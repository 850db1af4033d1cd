//! One cgroup of a keeper that is no more, ended by somebody who only knows its folder.

use std::path::Path;

use rustix::fs::XattrFlags;

use super::{LEFT, collect_members};

/// Kills what lives in the cgroup and below, or marks it as left alone on purpose; says how
/// many lived there. Never a folder that no keeper made: whoever reads its name may be wrong.
pub(crate) fn end_leaf(folder: &Path, leave: bool) -> u32 {
    let parent = folder.parent().and_then(Path::file_name);
    let ours = parent.is_some_and(|name| name.as_encoded_bytes().starts_with(b"procession-"));
    if !ours {
        return 0;
    }
    let mut members = vec![];
    collect_members(folder, &mut members);
    let left = leave && !members.is_empty();
    if left {
        let _ = rustix::fs::setxattr(folder, LEFT, b"1", XattrFlags::empty());
    } else {
        let _ = std::fs::write(folder.join("cgroup.kill"), "1");
    }
    u32::try_from(members.len()).unwrap_or(u32::MAX)
}
