//! Tests of `router`: tables of paths with the answers of Starlette, and a slow router of its own that the quick one agrees with.

use proptest::prelude::*;

use super::*;

const UUID: &str = "0123abcd-4567-89ef-0123-456789ABCDEF";

/// Routes as lines: methods (`*` for any), template, and `mount` or `opaque` where it is one.
fn router(table: &[&str]) -> Router {
    let specs = table.iter().map(|line| {
        let mut words = line.split(' ');
        let methods = words.next().filter(|methods| *methods != "*").unwrap_or("");
        let template = words.next().unwrap_or("").to_owned();
        let kind = match words.next() {
            Some("mount") => RouteKind::Prefix,
            Some("opaque") => RouteKind::Opaque,
            _ => RouteKind::Route,
        };
        let methods = methods.split(',').filter(|method| !method.is_empty()).map(str::to_owned).collect();
        RouteSpec { template, methods, kind }
    });
    Router::new(specs.collect(), true).expect("the table is good")
}

/// The answer as text: `1 id=7`, `405 GET, HEAD`, `307 /a`, `404` or `ask`.
fn answer(router: &Router, method: &str, path: &str) -> String {
    let mut params = Params::default();
    match router.find(method.as_bytes(), path, &mut params) {
        Match::Found(route) => {
            let named = router.parameters(route).iter().zip(params.spans());
            let texts = named.map(|(parameter, span)| format!(" {}={}", parameter.name, &path[span.clone()]));
            route.0.to_string() + &texts.collect::<String>()
        }
        Match::MethodNotAllowed(route) => format!("405 {}", router.allow(route)),
        Match::Redirect { with_slash: true } => format!("307 {path}/"),
        Match::Redirect { with_slash: false } => format!("307 {}", path.trim_end_matches('/')),
        Match::NotFound => "404".to_owned(),
        Match::Ask => "ask".to_owned(),
    }
}

#[track_caller]
fn check(table: &[&str], request: &str, expected: &str) {
    let (method, path) = request.split_once(' ').expect("a method and a path");
    assert_eq!(answer(&router(table), method, path), expected, "{table:?} {request:?}");
}

#[test]
fn the_first_route_wins() {
    check(&["GET /users/me", "GET /users/{id}"], "GET /users/me", "0");
    check(&["GET /users/{id}", "GET /users/me"], "GET /users/me", "0 id=me");
    check(&["GET /users/{id:int}", "GET /users/{name}"], "GET /users/7", "0 id=7");
    check(&["GET /users/{id:int}", "GET /users/{name}"], "GET /users/bo", "1 name=bo");
    check(&["GET /{a}/x", "GET /{b}/y", "GET /{c}/x"], "GET /1/y", "1 b=1");
    check(&["GET /a", "GET /a"], "GET /a", "0");
    check(&["GET /{p:path}", "GET /a"], "GET /a", "0 p=a");
    check(&["GET /a/{x}/c", "GET /{p:path}", "GET /a/b/c"], "GET /a/b/c", "0 x=b");
    check(&["GET /a/b/{x:int}", "GET /a/{y}/c"], "GET /a/b/c", "1 y=b");
    check(&[], "GET /", "404");
}

#[test]
fn methods() {
    let table = ["POST,PUT /a", "GET /{x}", "DELETE /a"];
    check(&table, "POST /a", "0");
    check(&table, "GET /a", "1 x=a"); // a full match later beats a partial one earlier
    check(&table, "DELETE /a", "2");
    check(&table, "PATCH /a", "405 POST, PUT"); // of the first partial match only
    check(&table, "get /a", "405 POST, PUT");
    check(&table, "HEAD /b", "405 GET");
    check(&["* /a", "GET /a"], "ANYTHING /a", "0");
    check(&["POST /a/", "GET /a"], "GET /a/", "405 POST"); // a partial match is not redirected
}

#[test]
fn convertors() {
    check(&["GET /{x:int}"], "GET /0123", "0 x=0123");
    for path in ["/-1", "/+1", "/1_0", "/1.0", "/", "/ 1", "/１", "/1x"] {
        check(&["GET /{x:int}"], &format!("GET {path}"), "404");
    }
    check(&["GET /{x:float}"], "GET /1", "0 x=1");
    check(&["GET /{x:float}"], "GET /1.50", "0 x=1.50");
    for path in ["/1.", "/.5", "/1.2.3", "/1e5", "/nan"] {
        check(&["GET /{x:float}"], &format!("GET {path}"), "404");
    }
    check(&["GET /{x:uuid}"], &format!("GET /{UUID}"), &format!("0 x={UUID}"));
    check(&["GET /{x:uuid}"], "GET /0123abcd4567-89ef0123456789ABCDEF", "0 x=0123abcd4567-89ef0123456789ABCDEF");
    check(&["GET /{x:uuid}"], "GET /0123abcd--4567-89ef-0123-456789ABCDEF", "404");
    check(&["GET /{x:uuid}"], "GET /0123abcd-4567-89ef-0123-456789ABCDE", "404");
    check(&["GET /{x:path}"], "GET /", "0 x=");
    check(&["GET /{x:path}"], "GET /a//b/", "0 x=a//b/");
    check(&["GET /f/{x:path}/raw"], "GET /f/a/raw/raw", "0 x=a/raw");
    check(&["GET /f/{x:path}/raw"], "GET /f//raw", "0 x=");
    check(&["GET /{x}"], "GET /é", "0 x=é");
    check(&["GET /{x}"], "GET /a/b", "404");
}

#[test]
fn every_byte_as_a_segment() {
    for byte in 0..=127u8 {
        let path = format!("/{}", char::from(byte));
        let of = |template: &str| answer(&router(&[&format!("GET {template}")]), "GET", &path);
        let found = |takes: bool| {
            if takes { format!("0 x={}", char::from(byte)) } else { "404".to_owned() }
        };
        assert_eq!(of("/{x:int}"), if byte == b'/' { "404".into() } else { found(byte.is_ascii_digit()) });
        if byte != b'/' {
            assert_eq!(of("/{x}"), found(true));
            assert_eq!(of("/{x:path}"), if byte == b'\n' { "0 x=".to_owned() } else { found(true) });
        }
    }
}

#[test]
fn parameters_share_a_segment() {
    check(&["GET /a{x}b{y}"], "GET /aXbYbZ", "0 x=XbY y=Z"); // the first takes what it can
    check(&["GET /a{x}b{y}"], "GET /ab", "404");
    check(&["GET /{x}.json", "GET /{x}"], "GET /a.json.json", "0 x=a.json");
    check(&["GET /{x}.json", "GET /{x}"], "GET /.json", "1 x=.json");
    check(&["GET /{x}{y}"], "GET /aéß", "0 x=aé y=ß"); // in characters, not in bytes
    check(&["GET /{x:int}{y:int}"], "GET /123", "0 x=12 y=3");
    check(&["GET /{x:float}{y}"], "GET /1.5", "0 x=1 y=.5");
    check(&["GET /{x:float}{y}"], "GET /1.55", "0 x=1.5 y=5");
    check(&["GET /{x:float}.{y:int}"], "GET /1.2.3", "0 x=1.2 y=3");
    check(&["GET /{x:float}.{y:int}"], "GET /1.2", "0 x=1 y=2");
    check(&["GET /{x:uuid}{y}"], &format!("GET /{UUID}-"), &format!("0 x={UUID} y=-"));
    check(&["GET /{x}-{y:uuid}"], &format!("GET /a-{UUID}"), &format!("0 x=a y={UUID}"));
    check(&["GET /{p:path}{x:int}"], "GET /a/12", "0 p=a/1 x=2");
    check(&["GET /{p:path}/{q:path}"], "GET /a/b/c", "0 p=a/b q=c");
}

#[test]
fn a_line_feed_at_the_end() {
    check(&["GET /a"], "GET /a\n", "0");
    check(&["GET /a"], "GET /a\n\n", "404");
    check(&["GET /a/"], "GET /a/\n", "0");
    check(&["GET /a", "GET /a\n"], "GET /a\n", "0");
    check(&["GET /{x}"], "GET /a\n", "0 x=a\n");
    check(&["GET /{x:int}"], "GET /1\n", "0 x=1");
    check(&["GET /{x}/b"], "GET /\n/b\n", "0 x=\n");
    check(&["GET /{x:path}"], "GET /a\n", "0 x=a");
    check(&["GET /{x:path}"], "GET /a\nb", "404");
    check(&["GET /{x:path}{y}"], "GET /a\n", "0 x=a y=\n");
    check(&["* /m mount"], "GET /m/\n", "0 path=");
}

#[test]
fn templates() {
    check(&["GET /a.b+(c)[d]^$|\\*?"], "GET /a.b+(c)[d]^$|\\*?", "0");
    check(&["GET /a.b"], "GET /axb", "404");
    for literal in ["/{", "/}", "/{}", "/{1x}", "/{x:}", "/{x-y}", "/{é}", "/{x:1}", "/{x:a:b}"] {
        check(&[&format!("GET {literal}")], &format!("GET {literal}"), "0");
        check(&[&format!("GET {literal}")], "GET /other", "404");
    }
    check(&["GET /{{x}}"], "GET /{a}", "0 x=a");
    check(&["GET /{x{y}"], "GET /{xa", "0 y=a");
    check(&["GET /{x:str}"], "GET /a", "0 x=a");
    check(&["GET "], "GET ", "0");
    check(&["GET /"], "GET ", "307 /");
    let twice = RouteSpec { template: "/{x}/{x}".into(), methods: vec![], kind: RouteKind::Route };
    let error = Router::new(vec![twice], true).expect_err("a name stands twice");
    assert_eq!(error.to_string(), "/{x}/{x} has two parameters named x, names must differ");
}

#[test]
fn slashes() {
    check(&["GET /a"], "GET /a/", "307 /a");
    check(&["GET /a"], "GET /a///", "307 /a");
    check(&["GET /a/"], "GET /a", "307 /a/");
    check(&["POST /a/"], "GET /a", "307 /a/"); // the method does not count
    check(&["GET /a/", "GET /a"], "GET /a", "1");
    check(&["GET /{x}/"], "GET /a", "307 /a/");
    check(&["GET /a"], "GET //a", "404");
    check(&["GET "], "GET /", "404"); // the root is never redirected
    check(&["GET "], "GET //", "307 ");
    let spec = RouteSpec { template: "/a".into(), methods: vec![], kind: RouteKind::Route };
    let strict = Router::new(vec![spec], false).expect("the table is good");
    assert_eq!(answer(&strict, "GET", "/a/"), "404");
}

#[test]
fn mounts() {
    check(&["* /m mount"], "GET /m", "307 /m/");
    check(&["* /m mount"], "GET /m/", "0 path=");
    check(&["* /m/ mount"], "GET /m/a/b", "0 path=a/b");
    check(&["* /m mount"], "GET /mm/a", "404");
    check(&["*  mount"], "GET /any/thing", "0 path=any/thing");
    check(&["* /{v}/m mount"], "GET /1/m/a", "0 v=1 path=a");
    check(&["* /m mount", "GET /m/a"], "GET /m/a", "0 path=a");
    check(&["GET /m/a", "* /m mount"], "POST /m/a", "1 path=a"); // any method: full, so it beats the partial
    check(&["GET /m/a", "GET /m/ mount"], "POST /m/a", "1 path=a");
}

#[test]
fn opaque_routes_keep_their_place() {
    check(&["GET /a", "*  opaque"], "GET /a", "0");
    check(&["GET /a", "*  opaque"], "POST /a", "ask");
    check(&["GET /a", "*  opaque"], "GET /b", "ask");
    check(&["*  opaque", "GET /a"], "GET /a", "ask");
    check(&["GET /d/{x:date}", "GET /d/{y}", "GET /e"], "GET /d/1", "ask");
    check(&["GET /d/{x:date}", "GET /d/{y}", "GET /e"], "GET /e", "2");
    check(&["GET /d/{x:date}", "GET /d/{y}", "GET /e"], "POST /e", "405 GET");
    check(&["GET /d/{x:date}", "GET /d/{y}", "GET /e"], "GET /d", "ask"); // whether to redirect
    check(&["GET /e/", "GET /e{x:date}"], "GET /e", "ask");
    check(&["GET /e/{x:int}/", "GET /e/{x:date}"], "GET /e", "ask");
    check(&["GET a", "GET /a"], "GET /a", "1");
    check(&["GET a", "GET /a"], "GET A", "ask");
    check(&["GET /a"], "OPTIONS *", "404");
    check(&["GET {p:path}", "GET /a"], "GET /a", "ask");
    let table = router(&["GET /{x:date}", "GET a", "* b.example opaque", "GET /a"]);
    let reasons = [Some(Opaque::Convertor("date".into())), Some(Opaque::NoLeadingSlash), Some(Opaque::Declared), None];
    for (index, reason) in reasons.iter().enumerate() {
        assert_eq!(table.opaque(RouteId(index as u32)), reason.as_ref());
    }
}

#[test]
fn an_int_that_python_may_refuse() {
    let (short, long) = ("1".repeat(640), "1".repeat(641));
    check(&["GET /{x:int}"], &format!("GET /{short}"), &format!("0 x={short}"));
    check(&["GET /{x:int}"], &format!("GET /{long}"), "ask");
    check(&["POST /{x:int}", "GET /{x}"], &format!("GET /{long}"), "ask"); // it raises before the method is looked at
    check(&["GET /{x}", "GET /{x:int}"], &format!("GET /{long}"), &format!("0 x={long}"));
    check(&["GET /{x:int}/"], &format!("GET /{long}"), "ask");
    check(&["GET /{x:float}"], &format!("GET /{long}"), &format!("0 x={long}"));
}

/// Python's backtracking would not come back from this one.
#[test]
fn time_is_linear_in_the_path() {
    let table = router(&["GET /{a:path}/{b:path}/{c:path}/{d:path}/{e:path}/end"]);
    assert_eq!(answer(&table, "GET", &"/a".repeat(8_000)), "404");
    let table = router(&["GET /{a}{b}{c}{d}{e}-"]);
    assert_eq!(answer(&table, "GET", &format!("/{}", "a".repeat(16_000))), "404");
}

/// The slow matcher: every way in the order in which a backtracking regular expression tries them.
fn slow(parts: &[Part], text: &str, at: usize, spans: &mut Vec<Range<usize>>) -> bool {
    let Some((part, rest)) = parts.split_first() else {
        return matches!(&text[at..], "" | "\n");
    };
    let convertor = match part {
        Part::Literal(literal) => {
            return text[at..].starts_with(&**literal) && slow(rest, text, at + literal.len(), spans);
        }
        Part::Parameter(convertor) => *convertor,
        Part::Anything => return true,
    };
    (at..=text.len()).rev().filter(|&end| text.is_char_boundary(end)).any(|end| {
        spans.push(at..end);
        let found = accepts(convertor, &text[at..end]) && slow(rest, text, end, spans);
        if !found {
            spans.pop();
        }
        found
    })
}

fn accepts(convertor: Convertor, text: &str) -> bool {
    let is_int = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    match convertor {
        Convertor::Str => !text.is_empty() && !text.contains('/'),
        Convertor::Path => !text.contains('\n'),
        Convertor::Int => is_int(text),
        Convertor::Float => text.split_once('.').map_or(is_int(text), |(a, b)| is_int(a) && is_int(b)),
        Convertor::Uuid => {
            let places = [8, 12, 16, 20];
            let mut digits = 0;
            let mut last = ' ';
            text.chars().all(|c| {
                let fits = c.is_ascii_hexdigit() || c == '-' && last != '-' && places.contains(&digits);
                digits += usize::from(c != '-');
                last = c;
                fits
            }) && digits == 32
                && last != '-'
        }
    }
}

/// The slow router: every route in order.
fn slow_answer(router: &Router, specs: &[RouteSpec], method: &str, path: &str) -> String {
    let mut partial = None;
    let parts_of = |spec: &RouteSpec| Template::compile(spec).expect("the table is good").parts;
    for (index, spec) in specs.iter().enumerate() {
        let mut spans = Vec::new();
        if !slow(&parts_of(spec), path, 0, &mut spans) {
            continue;
        }
        if spec.kind == RouteKind::Opaque {
            return "ask".to_owned();
        }
        if spec.kind == RouteKind::Prefix || spec.methods.is_empty() || spec.methods.iter().any(|m| m == method) {
            let names = router.parameters(RouteId(index as u32)).iter();
            let texts = names.zip(spans).map(|(name, span)| format!(" {}={}", name.name, &path[span]));
            return index.to_string() + &texts.collect::<String>();
        }
        partial = partial.or(Some(spec));
    }
    if let Some(spec) = partial {
        return format!("405 {}", spec.methods.join(", "));
    }
    let other = if path.ends_with('/') { path.trim_end_matches('/').to_owned() } else { format!("{path}/") };
    for spec in specs.iter().filter(|_| path != "/") {
        if slow(&parts_of(spec), &other, 0, &mut Vec::new()) {
            return if spec.kind == RouteKind::Opaque { "ask".to_owned() } else { format!("307 {other}") };
        }
    }
    "404".to_owned()
}

fn template() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => prop::sample::select(vec!["/", "/", "/", "a", "b", "ab", "1", "0.5", ".", "-", "é", "\n", "{"]).prop_map(str::to_owned),
        5 => prop::sample::select(vec!["", "", ":str", ":int", ":float", ":path", ":uuid"]).prop_map(|kind| format!("{{NAME{kind}}}")),
    ];
    prop::collection::vec(piece, 0..7).prop_map(|pieces| {
        let numbered = pieces.iter().enumerate().map(|(at, piece)| piece.replace("NAME", &format!("p{at}")));
        "/".to_owned() + &numbered.collect::<String>()
    })
}

fn spec() -> impl Strategy<Value = RouteSpec> {
    let methods = prop::sample::select(vec![vec![], vec!["GET"], vec!["GET", "HEAD"], vec!["POST"]]);
    let kind = prop::sample::select(vec![RouteKind::Route; 6]).prop_union(prop::sample::select(vec![
        RouteKind::Route,
        RouteKind::Prefix,
        RouteKind::Opaque,
    ]));
    (template(), methods, kind).prop_map(|(template, methods, kind)| RouteSpec {
        template,
        methods: methods.into_iter().map(str::to_owned).collect(),
        kind,
    })
}

fn path() -> impl Strategy<Value = String> {
    let pieces = vec!["/", "/", "/", "/", "a", "b", "ab", "1", "22", "0.5", ".", "-", "é", "\n", "{", UUID];
    prop::collection::vec(prop::sample::select(pieces), 0..9).prop_map(|pieces| "/".to_owned() + &pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn agrees_with_the_slow_router(
        specs in prop::collection::vec(spec(), 0..9),
        paths in prop::collection::vec(path(), 1..20),
    ) {
        let table = Router::new(specs.clone(), true).expect("names differ");
        for path in paths {
            prop_assert_eq!(
                answer(&table, "GET", &path), slow_answer(&table, &specs, "GET", &path), "{:?} {:?}", specs, path
            );
        }
    }
}
