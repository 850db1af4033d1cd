//! The pool of cgroups as the next program of the keeper gets it: without spares, which are
//! removed first, and with every cgroup that holds or held something.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;
use procession_core::frame::image;

use super::{Cgroups, Join, Slot};
use crate::renew::{Given, Missing, Names};

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Cgroups {
    /// Removes what waits for attempts.
    pub(crate) fn drop_spares(&mut self) {
        while let Some(slot) = self.spare.pop() {
            self.retire(slot);
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn to_image<'a>(&'a self, names: &mut Names<'a>) -> image::Cgroups {
        image::Cgroups {
            name: self.name.clone().into(),
            joins_before_exec: self.join == Join::BeforeExec,
            next: self.next,
            leaving: self.leaving.iter().map(|slot| slot.to_image(names)).collect(),
        }
    }

    /// `lent`: the numbers of those that attempts have.
    pub(crate) fn from_image(
        image: image::Cgroups,
        folder: &Bytes,
        mut lent: HashSet<u64>,
        given: &mut Given,
    ) -> Result<Self, Missing> {
        lent.extend(image.leaving.iter().map(|slot| slot.number));
        let leaving = image.leaving.into_iter().map(|slot| Slot::from_image(slot, given));
        Ok(Self {
            folder: crate::path_of(folder),
            name: text(&image.name),
            join: if image.joins_before_exec { Join::BeforeExec } else { Join::AtBirth },
            next: image.next,
            lent,
            spare: vec![],
            leaving: leaving.collect::<Result<_, _>>()?,
        })
    }
}

impl Slot {
    pub(crate) fn path_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.path.as_os_str().as_bytes())
    }

    pub(crate) fn to_image<'a>(&'a self, names: &mut Names<'a>) -> image::Slot {
        image::Slot {
            path: self.path_bytes(),
            number: self.number,
            name: self.name.clone().into(),
            folder: names.of(self.folder.as_fd()),
            events: names.of(self.events.as_fd()),
            killed: self.killed,
        }
    }

    pub(crate) fn from_image(image: image::Slot, given: &mut Given) -> Result<Self, Missing> {
        Ok(Self {
            path: crate::path_of(&image.path),
            number: image.number,
            name: text(&image.name),
            folder: given.take(image.folder)?,
            events: given.take(image.events)?,
            killed: image.killed,
        })
    }
}

/// Ends all that lives in the cgroups of a keeper that is no more, but for what was left
/// alone on purpose.
pub(crate) fn end_all(folder: &Path) {
    super::end_leftovers(folder);
}
