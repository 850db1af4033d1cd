//! System calls without libc, for the child between clone and exec.
//!
//! The child shares the keeper's memory, and with it libc's `errno` and every lock of its
//! allocator, while the keeper runs on. So the child calls nothing but these.

use std::arch::asm;

/// Six arguments, the most the kernel takes; the result as the kernel gives it, `-errno`
/// for an error.
///
/// # Safety
/// The arguments must be what system call `number` expects, pointers valid for it.
#[inline(always)]
pub(crate) unsafe fn syscall(number: i64, a: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the registers named are all that the kernel reads and writes; what the call
    // does to memory is the caller's promise.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a[0] as isize => result,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5],
            options(nostack),
        );
    }
    result
}

/// A clone system call whose child runs `entry(data)` on the stack that the arguments name.
/// Returns in the parent only: the child's pid or `-errno`.
///
/// # Safety
/// `number` and `a` must be a valid `clone` or `clone3` call with a fresh stack, its top
/// aligned to 16 bytes; `data` must stay valid until the child has exec'd or exited; `entry`
/// may use nothing that is not safe in a process that shares memory with this one.
pub(crate) unsafe fn clone_syscall(
    number: i64,
    a: [usize; 3],
    entry: extern "C" fn(*const ()) -> !,
    data: *const (),
) -> isize {
    let result: isize;
    // SAFETY: in the parent only the declared registers change. The child never leaves
    // `entry`: it has a stack of its own and a zeroed frame pointer.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {data}",
            "call {entry}",
            "ud2",
            "2:",
            entry = in(reg) entry,
            data = in(reg) data,
            inout("rax") number as isize => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") 0, in("r8") 0,
            out("rcx") _, out("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, {data}",
            "blr {entry}",
            "brk #1",
            "2:",
            entry = in(reg) entry,
            data = in(reg) data,
            in("x8") number,
            inout("x0") a[0] as isize => result,
            in("x1") a[1], in("x2") a[2], in("x3") 0, in("x4") 0,
            out("x30") _,
        );
    }
    result
}
