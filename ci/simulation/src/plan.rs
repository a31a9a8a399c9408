//! What one seed stands for: bounds, weather, what each client says and how the handler answers it. Small on purpose: a
//! failure should be readable, and a million seeds should take minutes.

use std::time::Duration;

use turboapi_core::limits::Limits;
use turboapi_platform::IoConfig;
use turboapi_platform::simulated::{Moment, Random, Reader, Weather};

use crate::bodies::{Body, OwnLimits};
use crate::broken;

/// Microseconds.
pub const MILLISECOND: Moment = 1000;

/// All of one run.
#[derive(Debug)]
pub struct Plan {
    /// Bounds, much lower than the defaults, so that they are met.
    pub limits: Limits,
    /// What some routes have instead.
    pub own_limits: OwnLimits,
    /// Few and small receive buffers.
    pub io: IoConfig,
    /// How the kernel behaves.
    pub weather: Weather,
    /// Who connects.
    pub clients: Vec<ClientPlan>,
    /// A drain in the middle of everything.
    pub drain_at: Option<Moment>,
    /// For that one and for the one at the end.
    pub drain_timeout: Duration,
    /// Another thread wakes the worker.
    pub wake_at: Option<Moment>,
    /// The listener breaks.
    pub listener_fails_at: Option<Moment>,
}

/// One client's life.
#[derive(Debug)]
pub struct ClientPlan {
    /// When it connects.
    pub connect_at: Moment,
    /// How it reads.
    pub reader: Reader,
    /// What it says, in order.
    pub items: Vec<Item>,
    /// Whether it waits for no answer before its next request.
    pub is_pipelined: bool,
    /// Bytes of its longest write.
    pub write_bytes_max: usize,
    /// Time between two writes.
    pub write_pause: Moment,
    /// Time between an answer and the next request.
    pub think: Moment,
    /// How it ends.
    pub ending: Ending,
}

/// How a client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It waits until the server closes.
    Waits,
    /// It ends its side when it has all its answers.
    AfterAnswers,
    /// It ends its side when it has written everything.
    AfterWriting,
    /// It stops in the middle of a write, and ends its side.
    Midway,
    /// It stops in the middle of a write, and says nothing any more.
    Stops,
    /// The connection breaks at this time after it was made, with this `errno`.
    Breaks(Moment, i32),
}

/// One request, or what was to pass for one.
#[derive(Debug)]
pub struct Item {
    /// In its path, and in its answer.
    pub token: u32,
    /// As it goes on the wire.
    pub bytes: Vec<u8>,
    /// Of its head alone.
    pub head_bytes: usize,
    /// Where it ends in all that its client says.
    pub end: usize,
    /// What it is.
    pub kind: Kind,
}

/// What an item is.
#[derive(Debug)]
pub enum Kind {
    /// To be answered, but for what its body breaks.
    Valid(Box<Valid>),
    /// To be refused with this status.
    Broken(u16),
}

/// What the handler must be given, and how it answers.
#[derive(Debug)]
pub struct Valid {
    /// Its method.
    pub method: &'static str,
    /// Its body, and which route it takes.
    pub body: Body,
    /// HTTP/1.0.
    pub is_old: bool,
    /// The request lets the connection stay.
    pub keeps_alive: bool,
    /// Its client waits for `100 Continue`, so long at most; for ever if none.
    pub expects: Option<Option<Moment>>,
    /// How it is answered.
    pub conduct: Conduct,
}

/// How the handler answers one request.
#[derive(Clone, Copy, Debug)]
pub struct Conduct {
    /// Not in the call, but so much later.
    pub later: Option<Moment>,
    /// In which form.
    pub form: Form,
    /// Status.
    pub status: u16,
    /// Bytes of the body.
    pub bytes: usize,
    /// The handler says `connection: close`.
    pub closes: bool,
    /// Time between two parts.
    pub part_pause: Moment,
    /// It computes for so long in the call.
    pub computes: Moment,
}

/// Which of the ways to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// At once, copied or not.
    Whole,
    /// As JSON.
    Json,
    /// In so many parts.
    Parts {
        /// How many, at least 1.
        count: usize,
        /// With `content-length`.
        has_length: bool,
        /// The next part waits for `writable`.
        waits: bool,
    },
    /// It says nothing, or fails before it says anything: 500.
    Nothing,
    /// It fails within the answer: a reset.
    FailsWithin,
    /// It promises another length than it sends: a reset.
    WrongLength,
    /// It never answers; only a later answer can be that.
    Never,
}

impl Item {
    /// Whether its answer has no body because it is HEAD.
    #[must_use]
    pub fn is_head(&self) -> bool {
        matches!(&self.kind, Kind::Valid(valid) if valid.method == "HEAD")
    }

    /// Where it begins in all that its client says.
    #[must_use]
    pub fn start(&self) -> usize {
        self.end - self.bytes.len()
    }

    /// Where its head ends in all that its client says.
    #[must_use]
    pub fn head_end(&self) -> usize {
        self.start() + self.head_bytes
    }

    /// What it is, where it is to be answered.
    #[must_use]
    pub fn valid(&self) -> Option<&Valid> {
        match &self.kind {
            Kind::Valid(valid) => Some(valid),
            Kind::Broken(_) => None,
        }
    }

    /// Whether the handler has it as soon as its head is complete.
    #[must_use]
    pub fn is_in_parts(&self) -> bool {
        self.valid().is_some_and(|valid| !valid.body.route.is_whole())
    }

    /// Whether it is all there with so many bytes of its client, and right.
    #[must_use]
    pub fn is_whole(&self, delivered: usize) -> bool {
        delivered >= self.end && self.valid().is_some_and(|valid| valid.body.breaks.is_none())
    }
}

impl Valid {
    /// Whether the answer has no body, whatever the handler says.
    #[must_use]
    pub fn is_bodiless(&self) -> bool {
        self.method == "HEAD" || matches!(self.conduct.status, 204 | 304)
    }

    /// Whether its answer is begun before it is complete.
    #[must_use]
    pub fn streams(&self) -> bool {
        matches!(self.conduct.form, Form::Parts { .. } | Form::FailsWithin | Form::WrongLength)
    }

    /// Whether this answer ends its connection, if all goes well.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        let by_end = matches!(self.conduct.form, Form::Parts { has_length: false, .. }) && self.is_old;
        !self.keeps_alive || self.conduct.closes && self.says_headers() || by_end && !self.is_bodiless()
    }

    /// Whether the handler's own header lines are in the answer.
    #[must_use]
    pub fn says_headers(&self) -> bool {
        matches!(self.conduct.form, Form::Whole | Form::Parts { .. } | Form::FailsWithin | Form::WrongLength)
    }
}

/// A body that nobody can take for another request's: the token, then a pattern that depends on it.
#[must_use]
pub fn body(token: u32, bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes + 8);
    let mut word = u64::from(token).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while body.len() < bytes {
        body.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_add(0x0101_0101_0101_0103);
    }
    body.truncate(bytes);
    body
}

impl Plan {
    /// Everything that this seed decides beforehand.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let random = &mut random;
        let limits = draw_limits(random);
        let own_limits = OwnLimits { whole: random.pick(&[100, 1000, 8000]), parts: random.pick(&[100, 4000, 12_000]) };
        let is_calm = random.chance(64);
        let weather = if is_calm {
            Weather { latency_max: random.pick(&[0, 200]), ..Weather::default() }
        } else {
            draw_weather(random)
        };
        let io = IoConfig {
            receive_buffer_bytes: random.pick(&[16, 64, 256, 1024, 4096]),
            receive_buffers: random.pick(&[1, 2, 4, 8]),
            ..IoConfig::default()
        };
        let clients_count = 1 + random.below(4) as u32;
        let clients =
            (0..clients_count).map(|index| draw_client(random, index, is_calm, &limits, own_limits)).collect();
        let one_in_8 = |random: &mut Random, max: Moment| random.chance(32).then(|| random.below(max));
        Self {
            clients,
            drain_at: one_in_8(random, 800 * MILLISECOND),
            drain_timeout: Duration::from_millis(random.pick(&[0, 100, 400, 1500, 3000])),
            wake_at: one_in_8(random, 300 * MILLISECOND),
            listener_fails_at: random.chance(8).then(|| random.below(200 * MILLISECOND)),
            limits,
            own_limits,
            io,
            weather,
        }
    }
}

fn draw_limits(random: &mut Random) -> Limits {
    let mut time = |of: &[u64]| Duration::from_millis(random.pick(of));
    let times = [
        time(&[50, 400, 1000, 3000]),
        time(&[50, 250, 700, 2000]),
        time(&[50, 300, 1000]),
        time(&[0, 100, 500, 2000]),
        time(&[100, 300, 1500]),
        time(&[50, 300, 1000, 3000]),
        time(&[0, 300, 500, 1000]),
    ];
    let [
        silence_timeout,
        head_timeout,
        body_idle_timeout,
        body_rate_grace,
        write_timeout,
        keep_alive_timeout,
        linger_timeout,
    ] = times;
    let limits = Limits {
        silence_timeout,
        head_timeout,
        body_idle_timeout,
        body_rate_grace,
        write_timeout,
        keep_alive_timeout,
        linger_timeout,
        body_bytes_per_second_min: random.pick(&[0, 240, 5000]),
        request_line_bytes_max: random.pick(&[128, 256]),
        head_bytes_max: random.pick(&[512, 1024, 2048]),
        header_count_max: 8,
        body_bytes_max: random.pick(&[300, 2000, 5000]),
        body_untaken_bytes_max: random.pick(&[0, 50, 500, 65_536]),
        linger_bytes_max: random.pick(&[0, 60, 700, 65_536]),
        unsent_bytes_max: random.pick(&[1024, 4096, 65_536]),
        connections_max: random.pick(&[1, 2, 4, 100]),
        handlers_in_flight_max: random.pick(&[1, 2, 100, 100]),
        ..Limits::default()
    };
    limits.validate().expect("the simulation draws limits that a server may have");
    limits
}

fn draw_weather(random: &mut Random) -> Weather {
    // Each is calm, usual or wild by itself, so that some seeds are a storm of one kind.
    let mut level = |max: u64| -> u8 {
        let levels = [0, max / 8, max / 2, max];
        levels[random.below(4) as usize] as u8
    };
    Weather {
        holds: level(160),
        cuts: level(230),
        starves: level(160),
        empties: level(128),
        shortens: level(200),
        loses: level(255),
        overshoots: level(255),
        stalls: level(96),
        adopt_fails: level(24),
        latency_max: random.pick(&[0, 100, 3 * MILLISECOND, 20 * MILLISECOND]),
    }
}

fn draw_client(random: &mut Random, index: u32, is_calm: bool, limits: &Limits, own_limits: OwnLimits) -> ClientPlan {
    let items_count = random.below(6) as u32;
    let (mut items, mut end) = (Vec::new(), 0);
    for item in 0..items_count {
        let token = (index + 1) * 100 + item;
        let mut item = draw_item(random, token, limits, own_limits);
        end += item.bytes.len();
        item.end = end;
        items.push(item);
    }
    let reader = match random.below(if is_calm { 1 } else { 5 }) {
        0 | 1 => Reader::PROMPT,
        2 => Reader {
            window: random.pick(&[64, 1024, 65_536]),
            bytes: random.pick(&[16, 500, 8192]),
            pause: random.pick(&[1, 5, 30]) * MILLISECOND,
            stops_after: usize::MAX,
        },
        3 => Reader {
            window: random.pick(&[16, 1024, 65_536]),
            bytes: usize::MAX,
            pause: 0,
            stops_after: random.below(400) as usize,
        },
        _ => Reader { window: random.pick(&[64, 1024]), ..Reader::PROMPT },
    };
    let is_slow = !is_calm && random.chance(48);
    let errors = [libc::ECONNRESET, libc::EPIPE, libc::ETIMEDOUT, libc::ECANCELED, libc::ENOBUFS];
    let ending = match random.below(if is_calm { 4 } else { 10 }) {
        0 | 1 => Ending::Waits,
        2 => Ending::AfterAnswers,
        3 | 4 => Ending::AfterWriting,
        5 => Ending::Midway,
        6 => Ending::Stops,
        7 => {
            let time = random.pick(&[1, 20, 300]) * MILLISECOND;
            Ending::Breaks(random.below(time), random.pick(&errors))
        }
        _ => Ending::AfterAnswers,
    };
    ClientPlan {
        connect_at: random.below(random_pause(index)),
        reader,
        items,
        is_pipelined: random.chance(128),
        write_bytes_max: if is_slow {
            random.pick(&[1, 8, 40])
        } else {
            random.pick(&[7, 100, usize::MAX, usize::MAX])
        },
        write_pause: if is_slow { random.pick(&[10, 60, 250]) * MILLISECOND } else { random.pick(&[0, 0, 300]) },
        think: random.pick(&[0, 0, 2, 90, 700]) * MILLISECOND,
        ending,
    }
}

/// The first client comes early; later ones may find slots that were used before.
fn random_pause(index: u32) -> Moment {
    [5, 100, 700, 1500][index as usize % 4] * MILLISECOND
}

fn draw_item(random: &mut Random, token: u32, limits: &Limits, own_limits: OwnLimits) -> Item {
    if random.chance(28) {
        let (bytes, status) = broken::draw(random, token, limits);
        let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let head_bytes = head_end.map_or(bytes.len(), |end| end + 4);
        return Item { token, bytes, head_bytes, end: 0, kind: Kind::Broken(status) };
    }
    let is_old = random.chance(24);
    let (mut body, wire) = Body::draw(random, token, is_old, limits, own_limits);
    let method = if body.is_chunked || wire.length.is_some() {
        random.pick(&["POST", "PUT", "PATCH", "GET", "HEAD"])
    } else {
        random.pick(&["GET", "GET", "HEAD", "OPTIONS", "DELETE", "get"])
    };
    let (says, keeps_alive) = match (is_old, random.below(8)) {
        (true, 0..6) => ("Connection: keep-alive\r\n", true),
        (true, _) => ("", false),
        (false, 0) => ("Connection: close\r\n", false),
        (false, 1) => ("Connection: x, keep-alive\r\n", true),
        (false, _) => ("", true),
    };
    let filler = "x".repeat(random.pick(&[0, 0, 30, 200]));
    let prefix = body.route.prefix();
    let mut text =
        format!("{method} {prefix}/{token} HTTP/1.{}\r\nHost: h\r\nX-Filler: {filler}\r\n{says}", i32::from(!is_old));
    let has_body = wire.length.is_some_and(|length| length > 0) || body.is_chunked && !body.pieces.is_empty();
    let expects = (has_body && !is_old && random.chance(64)).then(|| random.chance(128).then_some(20 * MILLISECOND));
    if expects.is_some() {
        text += "Expect: 100-continue\r\n";
    }
    let mut bytes = text.into_bytes();
    if random.chance(20) {
        // RFC 9112 §2.2: one empty line before a request is none of it.
        bytes.splice(0..0, *b"\r\n");
    }
    if let Some(length) = wire.length {
        bytes.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
    }
    bytes.extend_from_slice(wire.lines.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    let head_bytes = bytes.len();
    bytes.extend_from_slice(&wire.octets);
    body.put_behind(head_bytes);
    let conduct = draw_conduct(random, !body.route.is_whole());
    let valid = Valid { method, body, is_old, keeps_alive, expects, conduct };
    Item { token, bytes, head_bytes, end: 0, kind: Kind::Valid(Box::new(valid)) }
}

fn draw_conduct(random: &mut Random, is_in_parts: bool) -> Conduct {
    let later =
        random.chance(if is_in_parts { 220 } else { 110 }).then(|| random.pick(&[0, 1, 5, 50, 200]) * MILLISECOND);
    let parts = |random: &mut Random| Form::Parts {
        count: 1 + random.below(4) as usize,
        has_length: random.chance(100),
        waits: random.chance(160),
    };
    // An answer in parts may begin while the body comes, and outlive what breaks that.
    let parts_more = if is_in_parts { 8 } else { 0 };
    let form = match random.below(32) + parts_more {
        0..18 => Form::Whole,
        18..21 => Form::Json,
        21..28 => parts(random),
        28 => Form::Nothing,
        29 => random.pick(&[Form::FailsWithin, Form::WrongLength, Form::Whole]),
        30 if later.is_some() && random.chance(128) => Form::Never,
        _ => parts(random),
    };
    Conduct {
        later,
        form,
        status: random.pick(&[200, 200, 200, 200, 201, 404, 599, 204, 304]),
        bytes: match random.below(128) {
            0..100 => random.below(100) as usize,
            100..120 => random.below(3000) as usize,
            120..127 => random.below(30_000) as usize,
            _ => random.below(600_000) as usize,
        },
        closes: random.chance(16),
        part_pause: if is_in_parts { random.pick(&[0, 0, 5, 100]) * MILLISECOND } else { 0 },
        computes: if random.chance(16) { random.below(3 * MILLISECOND) } else { 0 },
    }
}
