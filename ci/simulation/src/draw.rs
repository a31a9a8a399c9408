//! How a seed's plan is drawn. What is drawn first decides what is drawn after it: a line that is moved makes every seed another one.

use std::time::Duration;

use turboapi_core::limits::Limits;
use turboapi_platform::IoConfig;
use turboapi_platform::fakes::simulated::{Moment, Random, Reader, Weather};

use crate::bodies::{Body, MILLISECOND, OwnLimits};
use crate::broken;
use crate::plan::{ClientPlan, Conduct, Ending, Form, Item, Kind, Plan, Valid};

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
            // As the extension module does.
            linger_bytes_max: limits.linger_bytes_max,
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
    let time = |random: &mut Random, of: &[u64]| Duration::from_millis(random.pick(of));
    let limits = Limits {
        silence_timeout: time(random, &[50, 400, 1000, 3000]),
        head_timeout: time(random, &[50, 250, 700, 2000]),
        body_idle_timeout: time(random, &[50, 300, 1000]),
        body_rate_grace: time(random, &[0, 100, 500, 2000]),
        write_timeout: time(random, &[100, 300, 1500]),
        keep_alive_timeout: time(random, &[50, 300, 1000, 3000]),
        linger_timeout: time(random, &[0, 300, 500, 1000]),
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
        connect_at: random.below(arrival_max(index)),
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
fn arrival_max(index: u32) -> Moment {
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
