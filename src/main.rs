//! lmkd, the low-memory killer daemon.

fn main() {}
