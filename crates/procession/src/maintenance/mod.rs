//! What has to be done without anybody asking, a file each.

mod bound;
mod deliver;
mod expire;
mod retain;
mod schedules;
mod space;
mod stray;

pub use bound::bound;
pub use deliver::deliver;
pub use expire::expire;
pub use retain::retain;
pub use schedules::run_schedules;
pub use space::watch_space;
pub use stray::sweep;
