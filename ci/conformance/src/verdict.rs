//! Whether what came of a case is what must come of it. What holds for every answer is checked here too: README.md
//! lists it.

use crate::answers::{self, Answer};
use crate::case::{Case, End, Expected};
use crate::octets::escape;

/// A request that is sent behind a case whose connection stays open: its answer shows that it does.
pub const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// What came of one play of a case, until the server had closed: behind an open case the probe was sent, and one that
/// waits was cut short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// All that the server sent.
    pub octets: Vec<u8>,
    /// What handlers were called with, where the player can know.
    pub calls: Option<Vec<String>>,
    /// Whether the server closed in the end.
    pub has_closed: bool,
    /// Whether parts were sent only when something had come: then 1xx can be told.
    pub is_paused: bool,
}

/// Judges one play. The error is for a person: what differs.
///
/// # Errors
/// The first thing that is not as the case says.
pub fn judge(case: &Case, seen: &Seen) -> Result<(), String> {
    let mut expected = case.answers.clone();
    match case.end {
        End::Open => expected.push(Expected { call: Some("GET /probe".into()), status: 200, ..Expected::default() }),
        End::Waits => expected.push(Expected { status: 400, ..Expected::default() }),
        End::Closes => {}
    }
    let answers = answers::parse(&seen.octets, |index| expected.get(index).is_some_and(|one| one.is_bodiless))?;
    let (finals, interims) = split(answers);
    let statuses =
        |answers: &[Answer]| answers.iter().map(|answer| answer.status.to_string()).collect::<Vec<_>>().join(" ");
    let wanted: Vec<String> = expected.iter().map(|one| one.status.to_string()).collect();
    if statuses(&finals) != wanted.join(" ") {
        return Err(format!("answers [{}], expected [{}]", statuses(&finals), wanted.join(" ")));
    }
    if !seen.has_closed {
        return Err("the connection was left open".into());
    }
    for (index, (answer, one)) in finals.iter().zip(&expected).enumerate() {
        let is_last = index + 1 == finals.len();
        let says_close = if case.ends { answer.says_close() } else { is_last };
        judge_answer(answer, one, says_close).map_err(|what| format!("answer {}: {what}", index + 1))?;
        if seen.is_paused && interims[index] != one.interim.into_iter().collect::<Vec<_>>() {
            return Err(format!(
                "answer {}: 1xx before it {:?}, expected {:?}",
                index + 1,
                interims[index],
                one.interim
            ));
        }
    }
    if case.end == End::Waits && !finals.last().is_some_and(|last| last.body.starts_with(b"connection ended before")) {
        return Err("answered before the message was whole".into());
    }
    let calls: Vec<&str> = expected.iter().filter_map(|one| one.call.as_deref()).collect();
    if seen.calls.as_ref().is_some_and(|seen| *seen != calls) {
        return Err(format!("calls {:?}, expected {calls:?}", seen.calls));
    }
    let holds = |part: &Vec<u8>| seen.octets.windows(part.len()).any(|window| window == part);
    match case.never.iter().find(|part| holds(part)) {
        Some(part) => Err(format!("\"{}\" was sent, and must never be", escape(part))),
        None => Ok(()),
    }
}

/// The final answers, and the 1xx before each.
fn split(answers: Vec<Answer>) -> (Vec<Answer>, Vec<Vec<u16>>) {
    let (mut finals, mut interims, mut before) = (Vec::new(), Vec::new(), Vec::new());
    for answer in answers {
        if answer.status < 200 {
            before.push(answer.status);
        } else {
            finals.push(answer);
            interims.push(std::mem::take(&mut before));
        }
    }
    (finals, interims)
}

fn judge_answer(answer: &Answer, expected: &Expected, says_close: bool) -> Result<(), String> {
    let header = |name: &str| answer.values(name).map(escape).collect::<Vec<_>>();
    match answer.values("date").collect::<Vec<_>>()[..] {
        [date] if answers::is_date(date) => {}
        _ => return Err(format!("date {:?}", header("date"))),
    }
    if answer.says_close() != says_close {
        return Err(format!(
            "connection {:?}, and it is {}the last one",
            header("connection"),
            if says_close { "" } else { "not " }
        ));
    }
    if expected.is_bodiless && !answer.body.is_empty() {
        return Err("has a body".into());
    }
    // Our own handler says what it was called with, so that a player that cannot see the call sees it here.
    let called: Vec<String> = expected.call.iter().cloned().collect();
    let calls: Vec<String> = answer.values("call").map(|call| String::from_utf8_lossy(call).into_owned()).collect();
    if calls != called {
        return Err(format!("call {calls:?}, expected {called:?}"));
    }
    for (name, value) in &expected.has {
        let values = header(name);
        if values.is_empty() || value.as_ref().is_some_and(|value| !values.contains(value)) {
            return Err(format!("{name} is {values:?}, expected {value:?}"));
        }
    }
    if let Some(name) = expected.lacks.iter().find(|name| !header(name).is_empty()) {
        return Err(format!("{name} is {:?}, and must not be there", header(name)));
    }
    let shows = |part: &Vec<u8>| answer.body.windows(part.len().max(1)).any(|window| window == part);
    match expected.shows.iter().find(|part| !shows(part)) {
        Some(part) => Err(format!("its body has no \"{}\": \"{}\"", escape(part), escape(&answer.body))),
        None => Ok(()),
    }
}

/// What a person has to see of a failure: the file, what is expected, what was sent and what came.
#[must_use]
pub fn report(case: &Case, play: &str, what: &str, seen: &Seen) -> String {
    let shorten = |octets: &[u8]| {
        let text = escape(octets);
        if text.len() <= 1200 { text } else { format!("{}... ({} octets)", &text[..1200], octets.len()) }
    };
    let mut lines = vec![format!("FAILED {}.http, {play}", case.name), format!("  {what}")];
    lines.push(format!("  sent:     {}", shorten(&case.sent())));
    for one in &case.answers {
        let call = one.call.as_deref().map_or(String::new(), |call| format!(" to call {call:?}"));
        lines.push(format!("  expected: {}{call}", one.status));
    }
    lines.push(format!("  expected: {:?}", case.end));
    if let Some(calls) = &seen.calls {
        lines.push(format!("  calls:    {calls:?}"));
    }
    lines.push(format!(
        "  seen:     {}{}",
        shorten(&seen.octets),
        if seen.has_closed { " (closed)" } else { " (open)" }
    ));
    lines.join("\n")
}
