//! What has to be done without anybody asking, a file each.

mod bound;
mod expire;
mod retain;
mod space;

pub use bound::bound;
pub use expire::expire;
pub use retain::retain;
pub use space::watch_space;
