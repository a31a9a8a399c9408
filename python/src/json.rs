#![expect(
    unsafe_code,
    reason = "reads the text of compact strings in place; a copy of each would cost more than the rest"
)]
//! JSON out: the bytes that `json.dumps(jsonable_encoder(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))`
//! gives, for values of exactly the built-in types. Everything else is `NotPlain`, and Python's own encoder has it.
//!
//! No Python code runs here, and nothing is raised. No pydantic models here: pydantic writes those itself.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// A value that this writer does not know; the output then holds a part of the text and is to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPlain;

/// Containers inside one another. Python's own encoder has to deal with more, and with cycles.
const DEPTH_MAX: usize = 64;

/// Appends `value`.
pub fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Result<(), NotPlain> {
    write_value(value, out, DEPTH_MAX)
}

fn write_value(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Result<(), NotPlain> {
    if let Ok(text) = value.cast_exact::<PyString>() {
        write_text(text, out)
    } else if let Ok(number) = value.cast_exact::<PyInt>() {
        write_integer(number, out)
    } else if let Ok(dict) = value.cast_exact::<PyDict>() {
        write_dict(dict, out, depth.checked_sub(1).ok_or(NotPlain)?)
    } else if let Ok(list) = value.cast_exact::<PyList>() {
        write_items(list.iter(), out, depth.checked_sub(1).ok_or(NotPlain)?)
    } else if value.is_none() {
        out.extend_from_slice(b"null");
        Ok(())
    } else if let Ok(truth) = value.cast_exact::<PyBool>() {
        out.extend_from_slice(if truth.is_true() { b"true" } else { b"false" });
        Ok(())
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        write_float(number, out)
    } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        write_items(tuple.iter(), out, depth.checked_sub(1).ok_or(NotPlain)?)
    } else {
        Err(NotPlain)
    }
}

fn write_items<'py>(
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), NotPlain> {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_value(&item, out, depth)?;
    }
    out.push(b']');
    Ok(())
}

fn write_dict(dict: &Bound<'_, PyDict>, out: &mut Vec<u8>, depth: usize) -> Result<(), NotPlain> {
    // On a free-threaded build another thread may have this dict too. Nobody changes it while its lock is held.
    with_critical_section(dict, || {
        out.push(b'{');
        let start = out.len();
        let (mut position, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: attached, `dict` is a dict, and the pointers outlive the call. Key and value are borrowed from the dict and
        // made owned before anything else happens.
        while unsafe { ffi::PyDict_Next(dict.as_ptr(), &raw mut position, &raw mut key, &raw mut value) } != 0 {
            // SAFETY: both are valid: the call above has just returned them.
            let (key, value) =
                unsafe { (Bound::from_borrowed_ptr(dict.py(), key), Bound::from_borrowed_ptr(dict.py(), value)) };
            let key = key.cast_exact::<PyString>().map_err(|_| NotPlain)?;
            let entry = out.len();
            if entry > start {
                out.push(b',');
            }
            let key_start = out.len();
            write_text(key, out)?;
            // jsonable_encoder leaves such keys out with their values: they are SQLAlchemy's own.
            if out[key_start..].starts_with(b"\"_sa") {
                out.truncate(entry);
                continue;
            }
            out.push(b':');
            write_value(&value, out, depth)?;
        }
        out.push(b'}');
        Ok(())
    })
}

fn write_integer(number: &Bound<'_, PyInt>, out: &mut Vec<u8>) -> Result<(), NotPlain> {
    let mut overflow = 0;
    // SAFETY: attached, and `number` is an int, so that no `__index__` is called and no error is set.
    let small = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &raw mut overflow) };
    if overflow != 0 {
        return Err(NotPlain);
    }
    out.extend_from_slice(itoa::Buffer::new().format(small).as_bytes());
    Ok(())
}

fn write_float(number: &Bound<'_, PyFloat>, out: &mut Vec<u8>) -> Result<(), NotPlain> {
    let value = number.value();
    if !value.is_finite() {
        return Err(NotPlain);
    }
    // `float.__repr__` itself: the shortest digits that read back the same, with Python's thresholds for an exponent.
    let text = number.repr().map_err(|_| NotPlain)?;
    out.extend_from_slice(text.to_str().map_err(|_| NotPlain)?.as_bytes());
    Ok(())
}

fn write_text(text: &Bound<'_, PyString>, out: &mut Vec<u8>) -> Result<(), NotPlain> {
    if let Some(ascii) = ascii(text) {
        write_escaped(ascii, out);
        return Ok(());
    }
    // A new bytes object and not `to_str`, which would keep the UTF-8 in the string: memory, and a write to what may be shared.
    // A lone surrogate has no UTF-8; Python's encoder raises for it.
    let utf8 = text.encode_utf8().map_err(|_| NotPlain)?;
    write_escaped(utf8.as_bytes(), out);
    Ok(())
}

/// The text of a string of ASCII alone, where it is.
fn ascii<'a>(text: &'a Bound<'_, PyString>) -> Option<&'a [u8]> {
    let object = text.as_ptr();
    // SAFETY: `object` is a str, whose header says whether it is compact ASCII; then its data is one byte for each
    // character, immutable, and lives as long as the string, which `text` keeps alive.
    unsafe {
        if ffi::PyUnicode_IS_COMPACT_ASCII(object) == 0 {
            return None;
        }
        let length = usize::try_from(ffi::PyUnicode_GET_LENGTH(object)).ok()?;
        Some(std::slice::from_raw_parts(ffi::PyUnicode_DATA(object).cast::<u8>(), length))
    }
}

/// For each byte: 0 if it stands for itself in a JSON string, else what follows the backslash (`u` with four digits).
static ESCAPE: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[0x08] = b'b';
    table[b'\t' as usize] = b't';
    table[b'\n' as usize] = b'n';
    table[0x0c] = b'f';
    table[b'\r' as usize] = b'r';
    table
};

fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| ESCAPE[byte as usize] != 0) {
        let byte = rest[at];
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', ESCAPE[byte as usize]]);
        if ESCAPE[byte as usize] == b'u' {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(&[b'0', b'0', HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]);
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}
