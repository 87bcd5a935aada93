//! Behaviour through the crate's public face, a file for each.

mod fetch;
