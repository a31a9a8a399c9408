//! What the handler says to a request, by its plan: at once, or in one part after the other. When it does, and what it is told
//! about it, is in the parent.

use bytes::Bytes;
use turboapi_core::answer::{Answer, AnswerError, Headers};
use turboapi_core::handler::Part;

use crate::bodies::octets_of;
use crate::plan::{Form, Valid};

/// Answers in the call.
pub(super) fn at_once(token: u32, valid: &Valid, answer: &mut Answer<'_>) -> Result<(), AnswerError> {
    let conduct = valid.conduct;
    let (status, body) = (conduct.status, octets_of(token, conduct.bytes));
    match conduct.form {
        Form::Whole if conduct.bytes.is_multiple_of(2) => answer.whole(status, &headers(token, valid, None), &body),
        Form::Whole => answer.whole_shared(status, &headers(token, valid, None), body.into()),
        Form::Json => answer.json(status, &body),
        Form::Parts { count, has_length, .. } => {
            let length = has_length.then_some(conduct.bytes);
            answer.start(status, &headers(token, valid, length))?;
            (0..count)
                .try_for_each(|part| answer.part(Bytes::copy_from_slice(part_of(&body, part, count)), part + 1 < count))
        }
        Form::FailsWithin | Form::WrongLength => {
            answer.start(200, &headers(token, valid, valid.says_length().then_some(7)))?;
            answer.part(Bytes::from_static(b"five "), true)
        }
        Form::Nothing | Form::Never => Ok(()),
    }
}

/// What it hands over at this step of a later answer, from 0.
pub(super) fn part(token: u32, valid: &Valid, step: usize) -> Part {
    let conduct = valid.conduct;
    let status = conduct.status;
    let body = || octets_of(token, conduct.bytes);
    match (conduct.form, step) {
        (Form::Whole, _) => Part::Whole { status, headers: headers(token, valid, None), body: body().into() },
        (Form::Json, _) => Part::Json { status, body: body().into() },
        (Form::Nothing, _) => Part::Failed,
        (Form::Parts { has_length, .. }, 0) => {
            let length = has_length.then_some(conduct.bytes);
            Part::Start { status, headers: headers(token, valid, length) }
        }
        (Form::Parts { count, .. }, step) => {
            let data = Bytes::copy_from_slice(part_of(&body(), step - 1, count));
            Part::Body { data, more: step < count }
        }
        (Form::WrongLength | Form::FailsWithin, 0) => {
            Part::Start { status: 200, headers: headers(token, valid, valid.says_length().then_some(7)) }
        }
        (Form::FailsWithin, 1) if !valid.says_length() => Part::Body { data: Bytes::from_static(b"five "), more: true },
        (Form::FailsWithin, _) => Part::Failed,
        (Form::WrongLength, _) => Part::Body { data: Bytes::from_static(b"eight by"), more: false },
        (Form::Never, _) => unreachable!("it is never due"),
    }
}

fn headers(token: u32, valid: &Valid, with_length: Option<usize>) -> Headers {
    let mut headers = Headers::default();
    let mut push =
        |name: &str, value: &str| headers.push(name.as_bytes(), value.as_bytes()).expect("plain header lines");
    push("x-token", &token.to_string());
    if valid.conduct.closes {
        push("connection", "close");
    }
    if let Some(length) = with_length {
        push("content-length", &length.to_string());
    }
    headers
}

/// The bytes of one part of so many.
fn part_of(body: &[u8], part: usize, count: usize) -> &[u8] {
    let size = body.len().div_ceil(count);
    &body[(part * size).min(body.len())..((part + 1) * size).min(body.len())]
}
