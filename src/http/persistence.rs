//! Whether the peer lets its connection stay: the Connection header, RFC 9112 §9.
//! What the answer has to say about it is in `answer`; how long a connection may then be idle, in `connection`.

use super::grammar;

/// What the Connection headers of a request say; of all its words these three concern us.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionTokens {
    has_close: bool,
    has_keep_alive: bool,
    pub(super) has_upgrade: bool,
}

impl ConnectionTokens {
    pub(super) fn add(&mut self, value: &[u8]) {
        for token in value.split(|&byte| byte == b',').map(grammar::trim) {
            match token.len() {
                5 => self.has_close |= token.eq_ignore_ascii_case(b"close"),
                7 => self.has_upgrade |= token.eq_ignore_ascii_case(b"upgrade"),
                10 => self.has_keep_alive |= token.eq_ignore_ascii_case(b"keep-alive"),
                _ => {}
            }
        }
    }

    /// RFC 9112 §9.3, for the request alone.
    pub(super) fn keeps_alive(self, minor_version: u8) -> bool {
        !self.has_close && (minor_version == 1 || self.has_keep_alive)
    }
}
