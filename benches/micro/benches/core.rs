//! What a request costs in the core, part by part and as a whole: `cargo bench -p turboapi-micro`, and with `-- --quick` in
//! seconds. `-- --test` runs each once. For the kernel's and CPython's share see `benches/load`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use turboapi_core::answer::Headers;
use turboapi_core::error::Parsed;
use turboapi_core::http::head::{self, Head, Scan};
use turboapi_core::limits::Limits;
use turboapi_core::router::{Match, Params};
use turboapi_micro::{BODY, BROWSER_REQUEST, Bench, POST_REQUEST, SMALL_REQUEST, router};

fn heads(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("head");
    let mut head = Head::default();
    for (name, bytes) in [("small", SMALL_REQUEST), ("browser", BROWSER_REQUEST)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let parsed = head::parse(black_box(bytes), &mut Scan::default(), &limits, &mut head);
                assert_eq!(parsed, Ok(Parsed::Complete(())));
            });
        });
    }
    group.bench_function("browser, byte by byte", |bencher| {
        bencher.iter(|| {
            let mut scan = Scan::default();
            for end in 1..=BROWSER_REQUEST.len() {
                let parsed = head::parse(black_box(&BROWSER_REQUEST[..end]), &mut scan, &limits, &mut head);
                assert_eq!(parsed == Ok(Parsed::Complete(())), end == BROWSER_REQUEST.len());
            }
        });
    });
}

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    let (router, mut params) = (router(20), Params::default());
    for (name, path) in [
        ("static", "/resource12"),
        ("parameter", "/users/123"),
        ("two parameters", "/resource12/77/parts/b"),
        ("none", "/resource12/x/parts/b"),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let found = router.find(b"GET", black_box(path), &mut params);
                assert_eq!(matches!(found, Match::Found(_)), name != "none");
            });
        });
    }
}

fn header_lines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("answer");
    let mut headers = Headers::default();
    group.bench_function("check and encode three header lines", |bencher| {
        bencher.iter(|| {
            headers.clear();
            for (name, value) in
                [("content-length", "15"), ("content-type", "application/json"), ("x-request-id", "6f1d")]
            {
                headers.push(black_box(name.as_bytes()), value.as_bytes()).expect("well-formed");
            }
        });
    });
}

fn connections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("connection");
    let pipeline = SMALL_REQUEST.repeat(16);
    for (name, bytes, requests_count) in [
        ("small", SMALL_REQUEST, 1),
        ("browser", BROWSER_REQUEST, 1),
        ("post", POST_REQUEST, 1),
        ("16 pipelined", &pipeline, 16),
    ] {
        let mut bench = Bench::default();
        group.throughput(Throughput::Elements(requests_count));
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert!(bench.serve(black_box(bytes)) > BODY.len()));
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("post, head and body apart", |bencher| {
        let mut bench = Bench::default();
        let (head, body) = POST_REQUEST.split_at(POST_REQUEST.len() - 27);
        bencher.iter(|| {
            assert_eq!(bench.serve(black_box(head)), 0);
            assert!(bench.serve(black_box(body)) > BODY.len());
        });
    });
    group.bench_function("new, one request", |bencher| {
        bencher.iter_batched_ref(Bench::default, |bench| bench.serve(black_box(SMALL_REQUEST)), BatchSize::SmallInput);
    });
}

criterion_group!(benches, heads, routes, header_lines, connections);
criterion_main!(benches);
