//! What the benches and the allocation test of the core share: requests as browsers and load generators send them, a
//! handler that answers a constant, and a connection without a platform below it. No sockets, no CPython: `benches/load`.

use turboapi_core::answer::{Answer, Preamble};
use turboapi_core::connection::{Connection, Shared};
use turboapi_core::handler::{Ended, Handler, Outcome};
use turboapi_core::limits::Limits;
use turboapi_core::request::{Origin, Request, RequestId};
use turboapi_core::router::{RouteKind, RouteSpec, Router};
use turboapi_platform::ConnectionId;

/// What wrk sends.
pub const SMALL_REQUEST: &[u8] = b"GET /users/123 HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n";

/// What a browser sends, give or take a header.
pub const BROWSER_REQUEST: &[u8] = b"GET /users/123?tab=orders&page=2 HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=2f1c0a9be6a94e7fa7a5f0b7f6c1d3a8; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: none\r\n\
    Priority: u=0, i\r\n\r\n";

/// A small JSON body with its length.
pub const POST_REQUEST: &[u8] = b"POST /users HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\n\
    Content-Length: 27\r\n\r\n{\"name\":\"Ada\",\"orders\":[1]}";

/// The example app's answer.
pub const BODY: &[u8] = b"{\"user_id\":123}";

/// Answers everything with [`BODY`].
#[derive(Debug, Default)]
pub struct Fixed;

impl Handler for Fixed {
    fn call(&mut self, _request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome {
        let done = answer.json(200, BODY);
        debug_assert!(done.is_ok(), "nothing was answered before");
        Outcome::Answered
    }

    fn writable(&mut self, _id: RequestId) {}

    fn ended(&mut self, _id: RequestId, _how: Ended) {}
}

/// A router of as many resources as a middling service has, each with a collection and a member.
#[must_use]
pub fn router(resources_count: usize) -> Router {
    let get = |template: String| RouteSpec { template, methods: vec!["GET".into()], kind: RouteKind::Route };
    let mut specs = vec![get("/".into()), get("/users".into()), get("/users/{id}".into())];
    for number in 0..resources_count {
        specs.push(get(format!("/resource{number}")));
        specs.push(get(format!("/resource{number}/{{id:int}}/parts/{{part}}")));
    }
    Router::new(specs, true).expect("every name is used once")
}

/// A connection, and below it a platform that takes whatever it is given.
#[derive(Debug)]
pub struct Bench {
    shared: Shared,
    connection: Connection,
    spare: Vec<Vec<u8>>,
}

impl Default for Bench {
    fn default() -> Self {
        let shared = Shared::new(Limits::default(), router(20), Preamble::new(Some("turboapi"), true));
        let connection = Connection::new(ConnectionId::new(0, 0), Origin::NOWHERE, &shared);
        Self { shared, connection, spare: Vec::new() }
    }
}

impl Bench {
    /// What a worker does with received bytes and with what comes of them; returns how many bytes are to be sent.
    pub fn serve(&mut self, received: &[u8]) -> usize {
        let connection = &mut self.connection;
        connection.wire.output.lend(&mut self.spare);
        connection.receive(received, &mut self.shared, &mut Fixed);
        let mut bytes = 0;
        while !connection.wire.output.is_empty() {
            let (mut head, body) = connection.wire.output.take(256 * 1024);
            connection.wire.in_send = head.len() + body.len();
            bytes += connection.wire.in_send;
            connection.sent(&mut self.shared, &mut Fixed);
            head.clear();
            self.spare.push(head);
        }
        self.spare.extend(connection.wire.output.reclaim());
        bytes
    }
}
