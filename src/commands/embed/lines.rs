//! Reads the lines of any input in bounded memory.

use std::io::{self, BufRead, Read as _};

/// The next line without its terminator (`\n` or `\r\n`), or the reason to reject it if it is longer than `max_bytes`
/// or not UTF-8. `None` at the end of the input.
pub(super) fn read_line(input: &mut impl BufRead, max_bytes: u64) -> io::Result<Option<Result<String, String>>> {
    let mut line = Vec::new();
    // The longest valid line and its terminator.
    let read = input.by_ref().take(max_bytes.saturating_add(2)).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    let ended = line.last() == Some(&b'\n');
    if ended {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    if line.len() as u64 > max_bytes {
        if !ended {
            input.skip_until(b'\n')?;
        }
        return Ok(Some(Err(format!("has more than {max_bytes} bytes, which is more than the server accepts"))));
    }
    let text = String::from_utf8(line).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("is not UTF-8 (after {at} bytes)")
    });
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines; for invalid ones, the beginning of the message.
    fn read(mut input: &[u8], max_bytes: u64) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input, max_bytes).expect("memory can be read") {
            lines.push(line.unwrap_or_else(|wrong| wrong.split(',').next().expect("a part").to_owned()));
        }
        lines
    }

    #[test]
    fn a_line_ends_with_its_terminator_or_the_input() {
        assert_eq!(read(b"a\nb\r\n\nc", 10), ["a", "b", "", "c"]);
        assert_eq!(read(b"a\n", 10), ["a"]);
        assert_eq!(read(b"", 10), [""; 0]);
        assert_eq!(read(b"a\rb\r\n", 10), ["a\rb"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped() {
        let wrong = "has more than 4 bytes";
        assert_eq!(read(b"1234\n12345\n1234\r\n", 4), ["1234", wrong, "1234"]);
        assert_eq!(read(b"12345\r\n123456789\nok\n1234567", 4), [wrong, wrong, "ok", wrong]);
        assert_eq!(read(b"123456", u64::MAX), ["123456"]);
    }

    #[test]
    fn a_line_that_is_not_utf8_is_reported_with_the_position() {
        assert_eq!(read(b"ok\nab\xff\nok", 10), ["ok", "is not UTF-8 (after 2 bytes)", "ok"]);
    }
}
