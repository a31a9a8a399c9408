//! What an answer is made of, and what may not go into it.

use crate::http::encode::{
    CONTINUE, DateCache, LAST_CHUNK, chunk_head, is_final_status, is_header_name, is_header_value, may_have_body,
    reason, status_line,
};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("ASCII")
}

#[test]
fn status_lines() {
    let check =
        |status, line: &str| assert_eq!(written(|out| status_line(out, status)), format!("HTTP/1.1 {line}\r\n"));
    check(200, "200 OK");
    check(404, "404 Not Found");
    check(413, "413 Content Too Large");
    check(418, "418 I'm a Teapot");
    check(422, "422 Unprocessable Content");
    check(599, "599 ");
    check(999, "999 ");
    for status in 100..1000 {
        check(status, &format!("{status} {}", reason(status)));
    }
    assert_eq!((100..1000).filter(|&status| !reason(status).is_empty()).count(), 62, "as many as Python 3.13 has");
    assert_eq!(CONTINUE, b"HTTP/1.1 100 Continue\r\n\r\n");
}

#[test]
fn statuses() {
    for (status, is_final, has_body) in [
        (0, false, false),
        (100, false, false),
        (101, false, false),
        (199, false, false),
        (200, true, true),
        (204, true, false),
        (205, true, true),
        (304, true, false),
        (404, true, true),
        (999, true, true),
        (1000, false, true),
    ] {
        assert_eq!((is_final_status(status), may_have_body(status)), (is_final, has_body), "{status}");
    }
}

#[test]
fn chunk_sizes() {
    let check = |size, line: &str| assert_eq!(written(|out| chunk_head(out, size)), format!("{line}\r\n"));
    check(1, "1");
    check(10, "a");
    check(15, "f");
    check(16, "10");
    check(255, "ff");
    check(256, "100");
    check(65_536, "10000");
    check(usize::MAX, &format!("{:x}", usize::MAX));
    assert_eq!(LAST_CHUNK, b"0\r\n\r\n");
}

#[test]
fn header_names_and_values() {
    for byte in 0..=255_u8 {
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_value = matches!(byte, b'\t' | 0x20..=0x7e | 0x80..);
        for bytes in
            [vec![byte], vec![b'a', byte], vec![byte, b'a'], [vec![b'a'; 40], vec![byte], vec![b'a'; 40]].concat()]
        {
            assert_eq!(
                (is_header_name(&bytes), is_header_value(&bytes)),
                (is_token, is_value),
                "{}",
                bytes.escape_ascii()
            );
        }
    }
    assert!(!is_header_name(b""));
    assert!(is_header_value(b""));
}

#[test]
fn dates() {
    let mut cache = DateCache::default();
    assert_eq!(cache.value(), b"Thu, 01 Jan 1970 00:00:00 GMT");
    let mut check = |unix_seconds, expected: &str| {
        assert!(cache.update(unix_seconds));
        assert!(!cache.update(unix_seconds), "nothing is new within a second");
        assert_eq!(cache.value(), expected.as_bytes());
    };
    check(1, "Thu, 01 Jan 1970 00:00:01 GMT");
    check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"); // RFC 9110 §5.6.7
    check(951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT");
    check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
    check(951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT");
    check(978_307_199, "Sun, 31 Dec 2000 23:59:59 GMT");
    check(978_307_200, "Mon, 01 Jan 2001 00:00:00 GMT");
    check(1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT");
    check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"); // no leap day that year
    check(4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT");
    check(253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT");
    check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
}
