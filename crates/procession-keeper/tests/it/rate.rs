//! How many attempts a second: a measurement, not a test. Run it with
//! `TINY=<program> cargo test --release -p procession-keeper --test it rate -- --ignored --nocapture`.

use std::time::Instant;

use crate::ends::run_many;
use crate::keeper::{Keeper, LEVELS};

#[test]
#[ignore = "a measurement"]
fn rate_of_spawns() {
    let program = std::env::var("TINY").unwrap_or_else(|_| "/bin/true".into());
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        for at_once in [1, 4, 64] {
            let count = 20_000;
            let launches = (0..count)
                .map(|_| {
                    let mut launch = keeper.launch(&[]);
                    launch.program = program.clone().into();
                    launch
                })
                .collect();
            let before = keeper.processor_time();
            let start = Instant::now();
            run_many(&mut server, at_once, launches, |_, _| {});
            let elapsed = start.elapsed();
            let spent = (keeper.processor_time() - before) / count;
            let rate = f64::from(count) / elapsed.as_secs_f64();
            println!("{level:?}, {at_once} at once: {rate:.0}/s, keeper {spent:?} an attempt");
        }
    }
}
