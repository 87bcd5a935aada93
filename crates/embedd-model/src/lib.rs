//! A converted model in process: the bundle that conversion writes and serving reads, its tokenizer, the engines that run
//! it, and how accuracy is measured.

pub mod accuracy;
pub mod bundle;
pub mod engine;
pub mod reference;
pub mod threads;
pub mod tokenize;
