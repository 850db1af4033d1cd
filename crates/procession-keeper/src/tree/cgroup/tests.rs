//! The rules of the pool, on the real thing. Skipped where no cgroup can be made.

use super::*;

fn pool(name: &str) -> Option<(Cgroups, Stacks)> {
    let mut stacks = Stacks::default();
    let label = format!("unit-{name}-{}", std::process::id());
    let cgroups = Cgroups::open(&label, Method::Clone3, &mut stacks);
    if cgroups.is_none() {
        eprintln!("skipped: no usable cgroup");
    }
    cgroups.map(|cgroups| (cgroups, stacks))
}

#[test]
fn a_slot_that_was_never_killed_is_used_again() {
    let Some((mut cgroups, mut stacks)) = pool("again") else { return };
    let slot = cgroups.take().expect("one");
    let path = slot.path.clone();
    assert_eq!(no_op(Method::Clone3, Some(slot.folder()), None, &mut stacks), Ok(0));
    cgroups.give_back(slot);
    let again = cgroups.take().expect("one");
    assert_eq!(again.path, path);
    cgroups.give_back(again);
    cgroups.close();
    assert!(!path.exists() && !cgroups.folder.exists());
}

#[test]
fn a_killed_slot_is_removed_and_its_name_not_given_again() {
    let Some((mut cgroups, _)) = pool("killed") else { return };
    let mut slot = cgroups.take().expect("one");
    slot.kill();
    let path = slot.path.clone();
    cgroups.give_back(slot);
    assert!(!path.exists());
    let next = cgroups.take().expect("one");
    assert_ne!(next.path, path);
    cgroups.give_back(next);
    cgroups.close();
}

#[test]
fn a_slot_that_a_job_has_changed_is_not_used_again() {
    let Some((mut cgroups, _)) = pool("changed") else { return };
    let slot = cgroups.take().expect("one");
    fs::create_dir(slot.path.join("inner")).expect("as root");
    assert!(!slot.is_clean());
    let path = slot.path.clone();
    cgroups.give_back(slot);
    assert!(!path.exists(), "with what was made in it");

    let slot = cgroups.take().expect("one");
    fs::write(slot.path.join("cgroup.freeze"), "1").expect("as root");
    assert!(!slot.is_clean());
    cgroups.give_back(slot);
    cgroups.close();
}

#[test]
fn a_fresh_name_is_found_beside_leftovers() {
    let Some((mut cgroups, _)) = pool("names") else { return };
    fs::create_dir(cgroups.folder.join(format!("a{}", cgroups.next))).expect("as root");
    let slot = cgroups.take().expect("another");
    cgroups.give_back(slot);
    let leftover = child_folders(&cgroups.folder);
    assert_eq!(leftover.len(), 2);
    end_leftovers(&cgroups.folder);
    assert_eq!(child_folders(&cgroups.folder), Vec::<PathBuf>::new());
    let _ = fs::remove_dir(&cgroups.folder);
}

#[test]
fn only_cgroups_that_attempts_have_hold_anything() {
    let Some((mut cgroups, _)) = pool("holds") else { return };
    let slot = cgroups.take().expect("one");
    let (name, above) = (slot.name.clone(), cgroups.name.clone());
    assert!(cgroups.holds(&name) && cgroups.holds(&format!("{name}/inner")));
    for other in ["/", &above, &format!("{above}/made-by-a-job"), &format!("{name}0"), ""] {
        assert!(!cgroups.holds(other), "{other}");
    }
    assert!(cgroups.was_left_by(rustix::process::getpid()), "we never were in one");
    cgroups.give_back(slot);
    assert!(!cgroups.holds(&name), "it is spare");
    cgroups.close();
}
