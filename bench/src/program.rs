//! The smallest programs there are: static, without C library or loader, so that what is
//! measured is the start of a process and not of its interpreter or linker.
//!
//! The instructions are assembled into this binary and written out behind an ELF header.

use std::arch::global_asm;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `_exit(0)`.
    Tiny,
    /// Sleeps until a signal ends it.
    Sleeper,
    /// Sleeps and ignores TERM.
    Stubborn,
}

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .rodata.bench_programs, \"a\"",
    ".globl bench_tiny, bench_sleeper, bench_stubborn, bench_programs_end",
    "bench_tiny:",
    "mov eax, 60", // exit
    "xor edi, edi",
    "syscall",
    "bench_sleeper:",
    "mov eax, 34", // pause
    "syscall",
    "jmp bench_sleeper",
    "bench_stubborn:",
    "push 0", // struct sigaction: mask, restorer, flags, SIG_IGN
    "push 0",
    "push 0",
    "push 1",
    "mov rsi, rsp",
    "mov edi, 15", // TERM
    "xor edx, edx",
    "mov r10d, 8",
    "mov eax, 13", // rt_sigaction
    "syscall",
    "3:",
    "mov eax, 34", // pause
    "syscall",
    "jmp 3b",
    "bench_programs_end:",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .rodata.bench_programs, \"a\"",
    ".balign 4",
    ".globl bench_tiny, bench_sleeper, bench_stubborn, bench_programs_end",
    "bench_tiny:",
    "mov x8, #93", // exit
    "mov x0, #0",
    "svc #0",
    "bench_sleeper:",
    "mov x8, #73", // ppoll, of nothing, for ever
    "mov x0, #0",
    "mov x1, #0",
    "mov x2, #0",
    "mov x3, #0",
    "svc #0",
    "b bench_sleeper",
    "bench_stubborn:",
    "mov x9, #1", // struct sigaction: SIG_IGN, flags, restorer, mask
    "stp xzr, xzr, [sp, #-16]!",
    "stp x9, xzr, [sp, #-16]!",
    "mov x1, sp",
    "mov x0, #15", // TERM
    "mov x2, #0",
    "mov x3, #8",
    "mov x8, #134", // rt_sigaction
    "svc #0",
    "3:",
    "mov x8, #73",
    "mov x0, #0",
    "mov x1, #0",
    "mov x2, #0",
    "mov x3, #0",
    "svc #0",
    "b 3b",
    "bench_programs_end:",
    ".popsection",
);

unsafe extern "C" {
    static bench_tiny: u8;
    static bench_sleeper: u8;
    static bench_stubborn: u8;
    static bench_programs_end: u8;
}

/// Where programs are loaded.
const BASE: u64 = 0x40_0000;

/// ELF header and one program header.
const HEADERS: usize = 64 + 56;

/// Writes the executable; it is closed before anything can be started.
pub(crate) fn write(kind: Kind, path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(path)?;
    file.write_all(&executable(instructions(kind)))
}

fn instructions(kind: Kind) -> &'static [u8] {
    // SAFETY: the labels stand in this order in one section of this binary, which is
    // read-only and mapped for as long as the process lives.
    unsafe {
        let (from, to) = match kind {
            Kind::Tiny => (&raw const bench_tiny, &raw const bench_sleeper),
            Kind::Sleeper => (&raw const bench_sleeper, &raw const bench_stubborn),
            Kind::Stubborn => (&raw const bench_stubborn, &raw const bench_programs_end),
        };
        std::slice::from_raw_parts(from, to.offset_from_unsigned(from))
    }
}

/// An ELF file that is one readable, executable segment.
fn executable(instructions: &[u8]) -> Vec<u8> {
    let machine: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
    let size = (HEADERS + instructions.len()) as u64;
    let mut file = Vec::with_capacity(HEADERS + instructions.len());
    file.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend([2u16, machine].map(u16::to_le_bytes).concat()); // executable
    file.extend(1u32.to_le_bytes());
    file.extend([BASE + HEADERS as u64, 64, 0].map(u64::to_le_bytes).concat()); // entry, segments, sections
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    file.extend([1u32, 5].map(u32::to_le_bytes).concat()); // load, read + execute
    file.extend([0, BASE, BASE, size, size, 0x1_0000].map(u64::to_le_bytes).concat());
    file.extend(instructions);
    file
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_tiny_program_runs_and_exits_with_0() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tiny");
        write(Kind::Tiny, &path).expect("written");
        assert!(Command::new(&path).status().expect("started").success());
    }

    #[test]
    fn the_others_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        for kind in [Kind::Sleeper, Kind::Stubborn] {
            let path = folder.path().join(format!("{kind:?}"));
            write(kind, &path).expect("written");
            let mut child = Command::new(&path).spawn().expect("started");
            std::thread::sleep(std::time::Duration::from_millis(50));
            // SAFETY: a signal to our own child, which is not reaped yet.
            unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
            std::thread::sleep(std::time::Duration::from_millis(50));
            let alive = child.try_wait().expect("asked").is_none();
            assert_eq!(alive, kind == Kind::Stubborn, "{kind:?}");
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }
}
