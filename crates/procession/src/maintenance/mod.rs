//! What has to be done without anybody asking, a file each.

mod expire;
mod retain;

pub use expire::expire;
pub use retain::retain;
