//! The keeper against hostile children, at both containment levels.

mod clean;
mod ends;
mod keeper;
mod model;
mod slice;
mod start;
mod tree;
