//! Stacks for children that share our memory: one each, with a guard page below, reused
//! once the child has left it (its status pipe is closed).

use std::ffi::c_void;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

const GUARD: usize = 64 * 1024; // the largest page size there is
const SIZE: usize = GUARD + 64 * 1024;

/// How many unused stacks are kept.
const SPARE: usize = 64;

/// Memory for one child between clone and exec.
#[derive(Debug)]
pub(crate) struct Stack {
    base: NonNull<c_void>,
}

impl Stack {
    fn new() -> Result<Self, Errno> {
        // SAFETY: a fresh anonymous mapping at an address the kernel picks overlaps nothing.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let stack = Self { base: NonNull::new(base).ok_or(Errno::NOMEM)? };
        // SAFETY: the first GUARD bytes of the mapping just made; nothing refers to them.
        unsafe { mprotect(base, GUARD, MprotectFlags::empty()) }?;
        Ok(stack)
    }

    /// Lowest usable address and usable length.
    pub(crate) fn range(&self) -> (usize, usize) {
        (self.base.as_ptr() as usize + GUARD, SIZE - GUARD)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, owned by this value alone; no child is on it any more
        // (see `Stacks::give_back`). A failure leaves it mapped, which harms nobody.
        let _ = unsafe { munmap(self.base.as_ptr(), SIZE) };
    }
}

/// Stacks nobody runs on.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    spare: Vec<Stack>,
}

impl Stacks {
    pub(crate) fn take(&mut self) -> Result<Stack, Errno> {
        self.spare.pop().map_or_else(Stack::new, Ok)
    }

    /// Only for a stack whose child has exec'd or is dead.
    pub(crate) fn give_back(&mut self, stack: Stack) {
        if self.spare.len() < SPARE {
            self.spare.push(stack);
        }
    }
}
