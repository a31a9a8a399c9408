//! Request bodies of a plan: over which route they come, how they are framed, where they break, and how their handler takes
//! them. Half of them are made of requests, so that an octet of a body that is taken for a head calls a handler for nobody.

use turboapi_core::limits::Limits;
use turboapi_platform::fakes::simulated::{Moment, Random};

/// Microseconds.
pub const MILLISECOND: Moment = 1000;

/// Which of the ways that a route may want its bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// No route: whole, and as large as the server's limit.
    Whole,
    /// Whole, with a limit of its own.
    WholeOwn,
    /// In parts.
    Parts,
    /// In parts, with a limit of its own.
    PartsOwn,
}

impl Route {
    /// Those that stand in the router, in its order, each with its path before the token.
    pub const ROUTED: [(Self, &'static str); 3] =
        [(Self::WholeOwn, "/whole"), (Self::Parts, "/parts"), (Self::PartsOwn, "/own")];

    /// The path before the token.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        Self::ROUTED.iter().find(|(route, _)| *route == self).map_or("", |(_, prefix)| prefix)
    }

    /// Whether the handler is called when the body is complete, not when the head is.
    #[must_use]
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Whole | Self::WholeOwn)
    }
}

/// Limits that routes have of their own, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct OwnLimits {
    /// Of [`Route::WholeOwn`].
    pub whole: u64,
    /// Of [`Route::PartsOwn`].
    pub parts: u64,
}

impl OwnLimits {
    /// What this route has instead of the server's limit.
    #[must_use]
    pub fn of(self, route: Route) -> Option<u64> {
        match route {
            Route::Whole | Route::Parts => None,
            Route::WholeOwn => Some(self.whole),
            Route::PartsOwn => Some(self.parts),
        }
    }
}

/// A request's body.
#[derive(Debug)]
pub struct Body {
    /// Over which route it comes.
    pub route: Route,
    /// Decoded, as far as it is well-formed.
    pub content: Vec<u8>,
    /// It comes in chunks.
    pub is_chunked: bool,
    /// Where its data stands in its item's octets: offset and length of each piece, in order.
    pub pieces: Vec<(usize, usize)>,
    /// Where and how it breaks HTTP or a limit, if it does.
    pub breaks: Option<Break>,
    /// What its handler takes of it, where it comes in parts.
    pub intake: Intake,
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug)]
pub struct Break {
    /// The status of its refusal.
    pub status: u16,
    /// In its item's octets, the first that may show it. All of them do.
    pub at: usize,
    /// The head says it.
    pub is_declared: bool,
}

/// How a handler takes a body that comes in parts.
#[derive(Clone, Copy, Debug)]
pub struct Intake {
    /// Time before its first read.
    pub begins_after: Moment,
    /// Time between two reads.
    pub pause: Moment,
    /// Bytes of its longest read.
    pub bytes: usize,
    /// After so many it reads no more; 0 is never.
    pub stops_after: usize,
    /// The answer waits until it has read all that it wants.
    pub is_awaited: bool,
}

impl Body {
    /// Bytes of content in the item's octets before this one.
    #[must_use]
    pub fn decoded(&self, until: usize) -> usize {
        self.pieces.iter().map(|(at, bytes)| until.saturating_sub(*at).min(*bytes)).sum()
    }

    /// Where in the item's octets so many bytes of content end; 0 for none.
    #[must_use]
    pub fn place_of(&self, content: usize) -> usize {
        let mut left = content;
        for (at, bytes) in &self.pieces {
            if left <= *bytes {
                return if left == 0 { 0 } else { at + left };
            }
            left -= bytes;
        }
        0
    }

    /// Draws the body of one request, and its header lines and octets. `is_old`: HTTP/1.0, which has no chunks.
    pub fn draw(random: &mut Random, token: u32, is_old: bool, limits: &Limits, own: OwnLimits) -> (Self, Wire) {
        let route = random.pick(&[
            Route::Whole,
            Route::Whole,
            Route::Whole,
            Route::WholeOwn,
            Route::Parts,
            Route::Parts,
            Route::PartsOwn,
            Route::PartsOwn,
        ]);
        let limit = own.of(route).unwrap_or(limits.body_bytes_max) as usize;
        let framing = if is_old { random.below(2) } else { random.below(4) };
        let length = match framing {
            0 => 0,
            _ => random.pick(&[0, 1, 20, 250, 2500, limit]).min(limit),
        };
        let mut body = Self {
            route,
            content: content(random, token, length),
            is_chunked: framing > 1,
            pieces: Vec::new(),
            breaks: None,
            intake: Intake::draw(random, length),
        };
        let mut wire = Wire { lines: "", length: None, octets: Vec::new() };
        let is_wrong = framing > 0 && random.chance(28);
        match framing {
            0 => {}
            1 if is_wrong => {
                // Declared too large, and sent all the same: more than a lingering close reads, now and then.
                let much = random.pick(&[1, 500, 160_000]);
                let length = limit + 1 + random.below(much) as usize;
                wire.length = Some(length);
                wire.octets = octets_of(token, length);
                body.content.clear();
                body.breaks = Some(Break { status: 413, at: 0, is_declared: true });
            }
            1 => {
                wire.length = Some(length);
                wire.octets.extend_from_slice(&body.content);
                body.pieces.push((0, length));
            }
            _ => {
                wire.lines = "Transfer-Encoding: chunked\r\n";
                if is_wrong {
                    body.break_chunks(random, limit, &mut wire.octets);
                } else {
                    let content = std::mem::take(&mut body.content);
                    body.write_chunks(random, &content, &mut wire.octets);
                    body.content = content;
                    wire.octets.extend_from_slice(random.pick(&LAST_CHUNKS).as_bytes());
                }
            }
        }
        (body, wire)
    }

    /// Its octets stand behind a head of so many.
    pub fn put_behind(&mut self, head_bytes: usize) {
        self.pieces.iter_mut().for_each(|(at, _)| *at += head_bytes);
        if let Some(breaks) = &mut self.breaks {
            breaks.at += if breaks.is_declared { head_bytes - 1 } else { head_bytes };
        }
    }

    fn write_chunks(&mut self, random: &mut Random, mut content: &[u8], octets: &mut Vec<u8>) {
        while !content.is_empty() {
            let size = 1 + random.below(content.len() as u64) as usize;
            let extension = random.pick(&["", "", ";a=b", ";q=\"a;b\""]);
            octets.extend_from_slice(format!("{size:x}{extension}\r\n").as_bytes());
            self.pieces.push((octets.len(), size));
            octets.extend_from_slice(&content[..size]);
            octets.extend_from_slice(b"\r\n");
            content = &content[size..];
        }
    }

    /// A beginning that is right, then something that is not.
    fn break_chunks(&mut self, random: &mut Random, limit: usize, octets: &mut Vec<u8>) {
        let keeps = random.below(self.content.len() as u64 + 1) as usize;
        let rest = self.content.split_off(keeps);
        let content = std::mem::take(&mut self.content);
        self.write_chunks(random, &content, octets);
        self.content = content;
        let mut status = 400;
        match random.below(6) {
            // A chunk's data is followed by a line's end: its last octet shows it, the data before it is data.
            0 if !rest.is_empty() => {
                octets.extend_from_slice(format!("{:x}\r\n", rest.len()).as_bytes());
                self.pieces.push((octets.len(), rest.len()));
                octets.extend_from_slice(&rest);
                self.content.extend_from_slice(&rest);
                self.breaks = Some(Break { status, at: octets.len(), is_declared: false });
                octets.extend_from_slice(b"X");
                return;
            }
            1 => {
                self.breaks = Some(Break { status: 413, at: octets.len(), is_declared: false });
                octets.extend_from_slice(format!("{:x}\r\n", limit - keeps + 1).as_bytes());
                // Sent all the same, and more than a lingering close reads, now and then.
                let much = random.pick(&[1, 500, 160_000]);
                octets.resize(octets.len() + random.below(much) as usize, b'x');
                return;
            }
            _ => {}
        }
        let (wrong, shows) = random.pick(&[
            ("zz\r\n", 0),
            ("\r\n", 0),
            ("4;=\r\nabcd\r\n0\r\n\r\n", 2),
            ("0\r\nno colon\r\n\r\n", 5),
            ("0\r\nA: b\r\n\rGET / HTTP/1.1\r\n", 10),
            ("11111111111111111\r\n", 16),
        ]);
        if random.chance(16) {
            status = 413;
            self.breaks = Some(Break { status, at: octets.len(), is_declared: false });
            octets.extend_from_slice(b"7fffffffffffffff\r\n");
            return;
        }
        self.breaks = Some(Break { status, at: octets.len() + shows, is_declared: false });
        octets.extend_from_slice(wrong.as_bytes());
    }
}

const LAST_CHUNKS: [&str; 3] = ["0\r\n\r\n", "0\r\nX-Trailer: v\r\n\r\n", "000\r\nA: b\r\nHost: x\r\n\r\n"];

/// How a body is told of in its head, and its octets behind that.
#[derive(Debug)]
pub struct Wire {
    /// Header lines.
    pub lines: &'static str,
    /// `Content-Length`.
    pub length: Option<usize>,
    /// What follows the head.
    pub octets: Vec<u8>,
}

impl Intake {
    fn draw(random: &mut Random, length: usize) -> Self {
        let stops_after = match random.below(8) {
            0 => 0,
            1 => random.below(length as u64 + 1) as usize,
            _ => usize::MAX,
        };
        Self {
            begins_after: random.pick(&[0, 0, 1, 30, 400]) * MILLISECOND,
            pause: random.pick(&[0, 0, 1, 10, 60]) * MILLISECOND,
            // One that reads by the byte would never end with a long body.
            bytes: random.pick(&[1, 100, 1000, usize::MAX, usize::MAX]).max(length / 30),
            stops_after,
            is_awaited: random.chance(170),
        }
    }
}

/// So many bytes that nobody can take for another request's: a pattern, or requests for nobody.
fn content(random: &mut Random, token: u32, bytes: usize) -> Vec<u8> {
    if random.chance(128) {
        return octets_of(token ^ 0x5555, bytes);
    }
    let mut content = Vec::with_capacity(bytes + 64);
    for count in 0.. {
        if content.len() >= bytes {
            break;
        }
        content.extend_from_slice(format!("GET /{}?{count} HTTP/1.1\r\nHost: h\r\n\r\n", token + BAIT).as_bytes());
    }
    content.truncate(bytes);
    content
}

/// No request has the token of one and this.
pub const BAIT: u32 = 50;

/// A body that nobody can take for another request's: the token, then a pattern that depends on it.
#[must_use]
pub fn octets_of(token: u32, bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes + 8);
    let mut word = u64::from(token).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while body.len() < bytes {
        body.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_add(0x0101_0101_0101_0103);
    }
    body.truncate(bytes);
    body
}
