//! Spouts of rows.

mod form;
mod generator;
#[cfg(feature = "http")]
mod http;
mod inflow;
mod interval;
mod net;
mod random;
mod senders;
mod stdin;

use crate::registry::Described;

pub use form::Form;
pub(crate) use form::FormReader;
pub use generator::{Generator, Keys};
#[cfg(feature = "http")]
pub use http::HttpPost;
pub use interval::Interval;
pub(crate) use net::address;
pub use net::{TcpLines, Udp};
pub use stdin::Stdin;

pub(crate) fn described() -> Vec<Described> {
    let mut all = vec![generator::described(), interval::described()];
    all.extend(crate::lines::described());
    all.push(stdin::described());
    all.extend(net::described());
    #[cfg(feature = "http")]
    all.push(http::described());
    all
}
