//! What runs in the child between clone and exec.
//!
//! It shares memory with the running keeper: raw system calls on memory prepared before the
//! clone, nothing else. No allocation, no libc, no panic, no Rust value dropped. Each step
//! is named in the shared plan before it is tried, so that a hang has a name too.

use std::ffi::c_char;
use std::sync::atomic::{AtomicU8, Ordering};

use procession_core::record::Phase;

use crate::sys::raw::syscall;

/// All that the child needs, as pointers into memory that the parent keeps until the
/// child has left it.
#[repr(C)]
pub(super) struct ChildPlan {
    pub(super) phase: AtomicU8,
    pub(super) program: *const c_char,
    pub(super) argv: *const *const c_char,
    pub(super) envp: *const *const c_char,
    /// Null: stay.
    pub(super) directory: *const c_char,
    pub(super) stdio: [i32; 3],
    /// Becomes descriptor 3; negative: none.
    pub(super) extra: i32,
    /// Where a failure is told; closes by itself at exec.
    pub(super) status: i32,
    /// `cgroup.procs` to join; negative: born there, or none.
    pub(super) join: i32,
    pub(super) umask: u32,
    /// 0: none. Sent to the child when its parent dies.
    pub(super) death_signal: i32,
    pub(super) parent: i32,
    /// Whether to set the niceness to 0.
    pub(super) nice: bool,
    pub(super) limits: *const RawLimit,
    pub(super) limits_count: usize,
    pub(super) credentials: *const RawCredentials,
}

/// One limit in the kernel's layout, behind its number.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct RawLimit {
    pub(super) resource: u32,
    pub(super) limit: [u64; 2],
}

/// A user to become.
#[repr(C)]
#[derive(Debug)]
pub(super) struct RawCredentials {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Sorted, as the kernel gives them back.
    pub(super) groups: *const u32,
    pub(super) groups_count: usize,
    /// Room for as many, to read them back into.
    pub(super) groups_back: *mut u32,
}

/// How many times, and how long in between, a busy program file is tried (another process
/// still holds it open for writing, often a fork about to exec).
const BUSY_TRIES: usize = 10;
static BUSY_PAUSE: [i64; 2] = [0, 10_000_000];

type Step = Result<(), i32>;

/// The child's whole life: becomes its program, or tells why not.
pub(super) extern "C" fn child_main(data: *const ()) -> ! {
    // SAFETY: the parent passes a plan that it keeps alive and untouched (but for reading
    // `phase`) until this process has exec'd or exited.
    let plan = unsafe { &*data.cast::<ChildPlan>() };
    let errno = match prepare(plan) {
        Ok(()) => execute(plan),
        Err(errno) => errno,
    };
    let report = [i32::from(plan.phase.load(Ordering::Relaxed)), errno];
    let _ = call(libc::SYS_write, [fd(plan.status), &raw const report as usize, 8, 0, 0]);
    exit(127)
}

/// The child of a probe: proves that a child can live where it was born.
pub(super) extern "C" fn no_op_main(data: *const ()) -> ! {
    // SAFETY: as in `child_main`.
    let plan = unsafe { &*data.cast::<ChildPlan>() };
    let failed = join(plan).is_err();
    exit(usize::from(failed))
}

fn exit(status: usize) -> ! {
    loop {
        let _ = call(libc::SYS_exit_group, [status, 0, 0, 0, 0]);
    }
}

fn prepare(plan: &ChildPlan) -> Step {
    enter(plan, Phase::Cgroup);
    join(plan)?;
    enter(plan, Phase::Session);
    call(libc::SYS_setsid, [0; 5])?;
    enter(plan, Phase::Stdio);
    stdio(plan)?;
    enter(plan, Phase::Directory);
    if !plan.directory.is_null() {
        call(libc::SYS_chdir, [plan.directory as usize, 0, 0, 0, 0])?;
    }
    enter(plan, Phase::Limits);
    limits(plan)?;
    enter(plan, Phase::Credentials);
    credentials(plan)?;
    enter(plan, Phase::Exec);
    death_signal(plan)
}

fn join(plan: &ChildPlan) -> Step {
    if plan.join < 0 {
        return Ok(());
    }
    let zero = *b"0\n";
    call(libc::SYS_write, [fd(plan.join), &raw const zero as usize, 2, 0, 0]).map(drop)
}

fn stdio(plan: &ChildPlan) -> Step {
    // What the keeper opens lies above these; the server keeps the keeper's own, in place.
    for (target, source) in [(0, plan.stdio[0]), (1, plan.stdio[1]), (2, plan.stdio[2])] {
        if fd(source) != target {
            call(libc::SYS_dup3, [fd(source), target, 0, 0, 0])?;
        }
    }
    // Everything is close-on-exec already; this covers what a library may have opened. Before
    // Linux 5.11 the flag does not exist.
    let _ = call(libc::SYS_close_range, [3, u32::MAX as usize, libc::CLOSE_RANGE_CLOEXEC as usize, 0, 0]);
    match plan.extra {
        ..0 => {}
        3 => drop(call(libc::SYS_fcntl, [3, libc::F_SETFD as usize, 0, 0, 0])?),
        _ => drop(call(libc::SYS_dup3, [fd(plan.extra), 3, 0, 0, 0])?),
    }
    call(libc::SYS_umask, [plan.umask as usize, 0, 0, 0, 0]).map(drop)
}

fn limits(plan: &ChildPlan) -> Step {
    for index in 0..plan.limits_count {
        // SAFETY: `limits` points at `limits_count` elements.
        let limit = unsafe { &*plan.limits.add(index) };
        let new = &raw const limit.limit as usize;
        call(libc::SYS_prlimit64, [0, limit.resource as usize, new, 0, 0])?;
    }
    if plan.nice {
        // A keeper that runs niced without privilege cannot undo that: its jobs stay so.
        let _ = call(libc::SYS_setpriority, [libc::PRIO_PROCESS as usize, 0, 0, 0, 0]);
    }
    Ok(())
}

/// Groups, gid, uid, in this order, and each read back: a half-changed identity must not run.
fn credentials(plan: &ChildPlan) -> Step {
    if plan.credentials.is_null() {
        return Ok(());
    }
    // SAFETY: not null, kept by the parent like the plan itself.
    let wanted = unsafe { &*plan.credentials };
    let (uid, gid) = (wanted.uid as usize, wanted.gid as usize);
    call(libc::SYS_setgroups, [wanted.groups_count, wanted.groups as usize, 0, 0, 0])?;
    call(libc::SYS_setresgid, [gid, gid, gid, 0, 0])?;
    call(libc::SYS_setresuid, [uid, uid, uid, 0, 0])?;

    let mut ids = [0u32; 3];
    let at = &raw mut ids as usize;
    call(libc::SYS_getresuid, [at, at + 4, at + 8, 0, 0])?;
    let same = |ids: [u32; 3], id: u32| ids[0] == id && ids[1] == id && ids[2] == id;
    if !same(read(&raw const ids), wanted.uid) {
        return Err(libc::EPERM);
    }
    call(libc::SYS_getresgid, [at, at + 4, at + 8, 0, 0])?;
    if !same(read(&raw const ids), wanted.gid) {
        return Err(libc::EPERM);
    }
    let back = wanted.groups_back as usize;
    if call(libc::SYS_getgroups, [wanted.groups_count, back, 0, 0, 0])? != wanted.groups_count {
        return Err(libc::EPERM);
    }
    for index in 0..wanted.groups_count {
        // SAFETY: both point at `groups_count` elements.
        let (a, b) = unsafe { (*wanted.groups.add(index), wanted.groups_back.add(index).read_volatile()) };
        if a != b {
            return Err(libc::EPERM);
        }
    }
    Ok(())
}

/// The kernel wrote there behind the compiler's back.
fn read(ids: *const [u32; 3]) -> [u32; 3] {
    // SAFETY: a valid array of the caller.
    unsafe { ids.read_volatile() }
}

/// After the credentials: a change of those clears it.
fn death_signal(plan: &ChildPlan) -> Step {
    if plan.death_signal == 0 {
        return Ok(());
    }
    let signal = fd(plan.death_signal);
    call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, signal, 0, 0, 0])?;
    // The parent may have died before the line above.
    if call(libc::SYS_getppid, [0; 5])? == fd(plan.parent) { Ok(()) } else { Err(libc::ESRCH) }
}

/// Returns the error number of an exec that failed.
fn execute(plan: &ChildPlan) -> i32 {
    let empty = 0u64;
    let mask = [libc::SIG_SETMASK as usize, &raw const empty as usize, 0, 8, 0];
    if let Err(errno) = call(libc::SYS_rt_sigprocmask, mask) {
        return errno;
    }
    let exec = [plan.program as usize, plan.argv as usize, plan.envp as usize, 0, 0];
    for _ in 1..BUSY_TRIES {
        match call(libc::SYS_execve, exec) {
            Err(libc::ETXTBSY) => {}
            Err(errno) => return errno,
            Ok(_) => {}
        }
        let _ = call(libc::SYS_nanosleep, [&raw const BUSY_PAUSE as usize, 0, 0, 0, 0]);
    }
    call(libc::SYS_execve, exec).err().unwrap_or(libc::ENOEXEC)
}

fn enter(plan: &ChildPlan, phase: Phase) {
    plan.phase.store(phase as u8, Ordering::Relaxed);
}

/// Sign-extends, as the kernel expects of an int in a register.
fn fd(number: i32) -> usize {
    number as isize as usize
}

fn call(number: i64, a: [usize; 5]) -> Result<usize, i32> {
    // SAFETY: every caller above passes arguments of that call's shape, pointers into the
    // plan or its own stack.
    let result = unsafe { syscall(number, [a[0], a[1], a[2], a[3], a[4], 0]) };
    if result < 0 { Err((-result) as i32) } else { Ok(result as usize) }
}
