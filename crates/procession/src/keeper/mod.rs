//! The server's end of the socket to the keeper: frames out, frames in. Knows nothing of
//! what they mean; the scheduler does.

mod held;
mod link;

pub use link::{Greeting, KeeperLink, greet};
