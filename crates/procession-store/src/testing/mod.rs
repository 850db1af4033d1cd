//! What tests of this crate and of the program put in front of a store to make it fail. No
//! product code uses it; it is part of the crate so that all test binaries share it.

mod faulty;
mod verb;

pub use faulty::{FaultyStore, When};
pub use verb::Verb;
