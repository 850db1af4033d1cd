//! F01, F02, F03, F04, F29: random lives of some jobs under random deaths of everything that
//! carries them, with the store's real verbs, the real decision of a recovery, the real bytes
//! of the journal. After every step and in the end: what was acknowledged is there, an attempt
//! has one end and it is the kernel's or `lost`, nothing is run twice, nothing runs that no row
//! says runs.

mod disk;
mod machine;

use proptest::collection::vec;
use proptest::prelude::*;

use self::disk::Disk;
use self::machine::{Death, Machine, Step};

fn step() -> impl Strategy<Value = Step> {
    let which = || 0..1usize << 16;
    let death = prop_oneof![
        5 => Just(Death::Server),
        2 => Just(Death::Keeper),
        1 => any::<bool>().prop_map(|unsynced_survives| Death::Machine { unsynced_survives }),
    ];
    let start = proptest::option::weighted(0.2, 0..3usize);
    prop_oneof![
        6 => Just(Step::Submit),
        5 => (1..4usize).prop_map(Step::Claim),
        8 => Just(Step::Send),
        8 => proptest::bool::weighted(0.1).prop_map(|no_process| Step::KeeperReads { no_process }),
        3 => which().prop_map(Step::Started),
        6 => (which(), 0..256i32).prop_map(|(which, code)| Step::Exit(which, code << 8)),
        1 => (which(), 1..32i32).prop_map(|(which, signal)| Step::Exit(which, signal)),
        6 => proptest::bool::weighted(0.05).prop_map(|torn| Step::Record { torn }),
        6 => Just(Step::Tell),
        6 => Just(Step::Finish),
        2 => which().prop_map(Step::Cancel),
        4 => death.prop_map(Step::Die),
        9 => start.prop_map(|dies_after| Step::Start { dies_after }),
        1 => (1..4i64).prop_map(Step::Wait),
    ]
}

fn live(disk: Disk, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut machine = Machine::new(disk);
        for step in steps {
            machine.take(step).await;
            machine.check().await;
        }
        machine.settle().await;
        machine.check_settled().await;
    });
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn f01_f02_f03_f04_f29_the_contract_survives_every_death_in_memory(steps in vec(step(), 1..120)) {
        live(Disk::memory(), steps);
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn f01_f02_f03_f04_f29_the_contract_survives_every_death_on_sqlite(steps in vec(step(), 1..120)) {
        live(Disk::sqlite(), steps);
    }
}

/// Without a death nothing is ever lost: the model is not one in which anything may happen.
#[tokio::test]
async fn f01_a_life_without_deaths_loses_nothing() {
    let mut machine = Machine::new(Disk::sqlite());
    machine.take(Step::Start { dies_after: None }).await;
    for _ in 0..5 {
        machine.take(Step::Submit).await;
    }
    machine.settle().await;
    machine.check_settled().await;
    assert_eq!(machine.ends(), (5, 0), "all ran to their ends");
}
