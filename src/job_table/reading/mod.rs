//! From TOML to types: a tree with places, variables filled in, and a deserializer that tells every problem.

pub mod deserialize;
pub mod suggest;
pub mod tree;
pub mod variables;
