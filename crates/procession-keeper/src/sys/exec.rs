//! This process becomes another program: same pid, same children, same signal mask.

use std::ffi::{CString, c_char};

use rustix::io::Errno;

/// Executes `program` with these arguments, its name the first, and this process's own
/// environment. Returns only where that failed, and then nothing has changed. (std's own
/// unblocks signals first: one that waits would end the keeper.)
pub(crate) fn exec(program: &CString, args: &[CString]) -> Errno {
    let mut pointers: Vec<*const c_char> = args.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: strings and the array end as they must and outlive the call.
    unsafe { libc::execv(program.as_ptr(), pointers.as_ptr()) };
    super::signals::last_error()
}
