//! The lmkd socket: its packets, its server, and a client.
//!
//! [`wire`] knows the bytes and does no I/O; [`server`] moves them without ever waiting for a
//! client; [`handover`] says where the socket comes from; [`auth`] who may do what over it.

pub mod auth;
pub mod client;
pub mod handover;
pub mod server;
pub mod wire;
