//! Where requests end in what a connection sent. No parsing here: a request is whatever comes before an empty line.

/// Finds `\r\n\r\n` across any number of reads.
#[derive(Default)]
pub struct Scan {
    /// How many octets of the end mark the bytes so far end with.
    matched: u8,
    /// Bytes came after the last end mark.
    is_inside_request: bool,
}

impl Scan {
    /// The next byte is the first one of a request.
    pub fn is_between_requests(&self) -> bool {
        !self.is_inside_request
    }

    /// Takes the next bytes and says how many requests end in them.
    pub fn count_ends(&mut self, bytes: &[u8]) -> usize {
        let mut ends = 0;
        for byte in bytes {
            self.matched = match (self.matched, byte) {
                (0 | 2, b'\r') | (1 | 3, b'\n') => self.matched + 1,
                (1 | 3, b'\r') => 1,
                _ => 0,
            };
            self.is_inside_request = self.matched < 4;
            if self.matched == 4 {
                ends += 1;
                self.matched = 0;
            }
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::Scan;

    /// Whole, then cut in two at each byte: the count is the same.
    fn check(bytes: &str, ends: usize, is_between: bool) {
        for cut in 0..=bytes.len() {
            let mut scan = Scan::default();
            let (first, second) = bytes.as_bytes().split_at(cut);
            assert_eq!(scan.count_ends(first) + scan.count_ends(second), ends, "{bytes:?} cut at {cut}");
            assert_eq!(scan.is_between_requests(), is_between, "{bytes:?} cut at {cut}");
        }
    }

    #[test]
    fn ends() {
        check("", 0, true);
        check("GET / HTTP/1.1\r\nhost: a\r\n", 0, false);
        check("GET / HTTP/1.1\r\nhost: a\r\n\r\n", 1, true);
        check("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2, true);
        check("GET / HTTP/1.1\r\n\r\nGET", 1, false);
        check("\r\r\n\r\n", 1, true);
        check("a\r\n\r\r\n\r\n", 1, true);
        check("a\r\n\n\r\n", 0, false);
        check("a\n\r\n\r\n", 1, true);
        check("a\r\n\r\n\r\n", 1, false);
        check("a\r\n\r\n\r\n\r\n", 2, true);
    }
}
