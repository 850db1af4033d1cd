//! The wall clock of a server, set by its test.

use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;

use super::compiler::compile;
use super::setup::Setup;

/// Adds what a file says to the time of day of the process it is loaded into.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    char text[32] = {0};
    const char *path = getenv("TEST_CLOCK_SHIFT");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    long got = read(file, text, sizeof text - 1);
    close(file);
    return got > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t id, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, id, time);
    if (result == 0 && id == CLOCK_REALTIME) time->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
"#;

/// What a server takes for the time of day.
#[derive(Debug)]
pub struct WallClock {
    file: PathBuf,
}

impl WallClock {
    /// A setup of a server that lives by this clock, and the clock, which is right until it is
    /// set. `None`: there is no compiler to make one with.
    pub fn of(setup: Setup) -> Option<(Setup, Self)> {
        let library = compile(setup.path(), "shift.so", SHIM, &["-shared", "-fPIC"])?;
        let clock = Self { file: setup.path().join("shift") };
        let text = |path: &PathBuf| path.to_str().expect("text").to_owned();
        let setup = setup.env("LD_PRELOAD", &text(&library)).env("TEST_CLOCK_SHIFT", &text(&clock.file));
        clock.shift(0);
        Some((setup, clock))
    }

    /// Sets it so many seconds from the true time.
    pub fn shift(&self, seconds: i64) {
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, seconds.to_string()).expect("written");
        fs::rename(fresh, &self.file).expect("in one step");
    }

    /// Sets it to this moment; it goes on from there.
    pub fn set(&self, moment: &str) {
        let moment: Timestamp = moment.parse().expect("a moment");
        self.shift(moment.as_second() - Timestamp::now().as_second());
    }
}
