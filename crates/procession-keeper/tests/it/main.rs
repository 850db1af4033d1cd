//! The keeper against hostile children, at both containment levels.

mod keeper;
mod model;
mod slice;
mod tree;
