#![doc = include_str!("README.md")]
#![forbid(unsafe_code)]

pub mod worker;
mod admission;
pub mod balance;
pub mod connection;
pub mod handler;
pub mod layers;
pub mod proxies;
pub mod request;
pub mod answer;
pub mod output;
pub mod router;
pub mod http;
pub mod refusals;
pub mod standing;
pub mod timers;
pub mod limits;
pub mod error;

pub use turboapi_platform as platform;
