//! Nothing on the hot path allocates per request: counted here.

use turboapi_micro::{BROWSER_REQUEST, Bench, POST_REQUEST, SMALL_REQUEST};

fn check(received: &[&[u8]], allocations_max: u64) {
    let mut bench = Bench::default();
    let mut serve = || received.iter().map(|bytes| bench.serve(bytes)).sum::<usize>();
    // Buffers grow to what they need; the router has two that change places.
    let bytes = serve();
    assert_eq!(serve(), bytes);
    let info = allocation_counter::measure(|| assert_eq!(serve(), bytes));
    let shown: Vec<_> = received.iter().map(|bytes| bytes.escape_ascii().to_string()).collect();
    assert!(info.count_total <= allocations_max, "{} allocations for {shown:?}", info.count_total);
    assert_eq!(info.count_current, 0, "memory is kept for {shown:?}");
}

#[test]
fn a_whole_request_allocates_nothing() {
    check(&[SMALL_REQUEST], 0);
    check(&[BROWSER_REQUEST], 0);
    check(&[POST_REQUEST], 0);
    check(&[&SMALL_REQUEST.repeat(16)], 0);
}

/// One that comes in pieces pays for what is kept of it meanwhile.
#[test]
fn a_request_in_pieces_allocates_little() {
    let (head, body) = POST_REQUEST.split_at(POST_REQUEST.len() - 27);
    // The place for it, its head, its body, and the ranges of the next head.
    check(&[head, body], 4);
    let (one, two) = BROWSER_REQUEST.split_at(99);
    // What came, and that again with the rest; the slots for httparse.
    check(&[one, two], 3);
}
