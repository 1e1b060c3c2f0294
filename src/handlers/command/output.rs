//! What a child writes: drained to its end, kept within limits.

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use crate::domain::clean;

/// Kept of the beginning and of the end of each stream (spec 5, `command`).
pub(super) const KEPT_BYTES: usize = 32 * 1024;
/// The longest last line that is judged: as much as is read of an HTTP answer.
pub(super) const MAX_LINE_BYTES: usize = 1024 * 1024;
/// Read at once: what a pipe of Linux holds.
const READ_BYTES: usize = 64 * 1024;

/// The first and the last part of a stream of any length.
#[derive(Debug, Default)]
pub(super) struct Stream {
    head: Vec<u8>,
    /// What came after the head: its last `limit` bytes, and up to as many before them.
    tail: Vec<u8>,
    limit: usize,
    total: u64,
}

/// A last line of which only a part is known.
#[derive(Debug, PartialEq)]
pub(super) struct TooLong {
    /// It may have been a JSON object.
    pub ends_an_object: bool,
}

impl Stream {
    /// Knows a last line of up to this many bytes.
    pub fn with_line_of(limit: usize) -> Self {
        Self { limit: limit.max(KEPT_BYTES), ..Self::default() }
    }

    /// Reads to the end, or until nobody waits any more. An error ends a stream as its end does.
    pub async fn drain(mut self, mut pipe: impl AsyncRead + Unpin, give_up: CancellationToken) -> Self {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = tokio::select! {
                read = pipe.read(&mut buffer) => read,
                () = give_up.cancelled() => return self,
            };
            match read {
                Ok(length @ 1..) => self.push(&buffer[..length]),
                _ => return self,
            }
        }
    }

    pub fn push(&mut self, chunk: &[u8]) {
        self.total += chunk.len() as u64;
        let (first, rest) = chunk.split_at(chunk.len().min(KEPT_BYTES - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend_from_slice(&rest[rest.len().saturating_sub(self.limit)..]);
        // Only when as much goes as stays: each byte is moved once.
        if 2 * self.limit <= self.tail.len() {
            self.tail.drain(..self.tail.len() - self.limit);
        }
    }

    /// The last line that is not blank, or an empty one.
    pub fn last_line(&self) -> Result<Vec<u8>, TooLong> {
        let is_whole = self.total == (self.head.len() + self.tail.len()) as u64;
        let known = if is_whole { [&self.head[..], &self.tail[..]].concat() } else { self.tail.clone() };
        let written = known.trim_ascii_end();
        let line = written.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let begins_here = is_whole || line.len() < written.len();
        if begins_here && line.len() <= self.limit {
            Ok(line.to_vec())
        } else {
            Err(TooLong { ends_an_object: line.ends_with(b"}") })
        }
    }

    /// Both ends as text, and between them how much was left out; whole lines where there are lines.
    pub fn text(&self) -> String {
        let both = [&self.head[..], &self.tail[..]].concat();
        if both.len() as u64 == self.total && both.len() <= 2 * KEPT_BYTES {
            return String::from_utf8_lossy(&both).into_owned();
        }
        let is_newline = |byte: &u8| *byte == b'\n';
        // A part of a line says little, and a part of a secret would not be recognised as one.
        let head = self.head.iter().rposition(is_newline).map_or(&self.head[..], |at| &self.head[..at]);
        let tail = &self.tail[self.tail.len().saturating_sub(KEPT_BYTES)..];
        let tail = tail.iter().position(is_newline).map_or(tail, |at| &tail[at + 1..]);
        let left_out = self.total - (head.len() + tail.len()) as u64;
        let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
        format!("{head}\n[... {left_out} bytes left out ...]\n{tail}")
    }
}

/// The text itself when it takes at most this many bytes inside a JSON text, else its beginning and its end.
pub(super) fn fitted(text: &str, room: usize) -> String {
    if written_bytes(text) <= room {
        return text.to_owned();
    }
    const MARK: &str = "\n[...]\n";
    let half = room.saturating_sub(written_bytes(MARK)) / 2;
    let fits = |left: &mut usize, c: char| {
        *left = left.checked_sub(clean::written_bytes(c))?;
        Some(c)
    };
    let head: String = text.chars().scan(half, fits).collect();
    let tail: Vec<char> = text.chars().rev().scan(half, fits).collect();
    let tail: String = tail.into_iter().rev().collect();
    format!("{head}{MARK}{tail}")
}

/// Bytes of a text inside a JSON text.
pub(super) fn written_bytes(text: &str) -> usize {
    text.chars().map(clean::written_bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(limit: usize, chunks: &[&[u8]]) -> Stream {
        let mut stream = Stream::with_line_of(limit);
        chunks.iter().for_each(|chunk| stream.push(chunk));
        stream
    }

    #[test]
    fn the_last_line_is_found_however_it_comes() {
        for (chunks, line) in [
            (&[&b""[..]][..], &b""[..]),
            (&[b"one"], b"one"),
            (&[b"one\n"], b"one"),
            (&[b"one\ntwo\r\n\n  \n"], b"two"),
            (&[b"one\nt", b"w", b"o\n"], b"two"),
            (&[b"\n\n"], b""),
        ] {
            assert_eq!(stream(0, chunks).last_line().as_deref(), Ok(line), "{chunks:?}");
        }
        let noise = vec![b'x'; 3 * KEPT_BYTES];
        assert_eq!(stream(0, &[&noise, b"\n{}\n"]).last_line().as_deref(), Ok(&b"{}"[..]));
        assert_eq!(stream(0, &[&noise, b"\n{", &noise, b"}"]).last_line(), Err(TooLong { ends_an_object: true }));
        assert_eq!(stream(0, &[&noise, &noise]).last_line(), Err(TooLong { ends_an_object: false }));
        let long = stream(MAX_LINE_BYTES, &[&noise, b"\n{", &noise, b"}"]).last_line().expect("within the limit");
        assert_eq!(long.len(), noise.len() + 2);
    }

    #[test]
    fn both_ends_of_a_long_stream_are_kept_in_whole_lines() {
        let mut stream = Stream::with_line_of(MAX_LINE_BYTES);
        (0..1_000_000).for_each(|number| stream.push(format!("line {number}\n").as_bytes()));

        let text = stream.text();

        assert!(text.starts_with("line 0\nline 1\n"));
        assert!(text.ends_with("\nline 999998\nline 999999\n"));
        assert!(text.len() < 2 * KEPT_BYTES + 100, "{}", text.len());
        let (before, after) = text.split_once("\n[... ").expect("a gap");
        let (left_out, after) = after.split_once(" bytes left out ...]\n").expect("a gap");
        let lines = |text: &str| text.lines().all(|line| line.starts_with("line ") && 6 <= line.len());
        assert!(lines(before) && lines(after));
        assert_eq!(left_out.parse(), Ok(stream.total - (before.len() + after.len()) as u64));
        assert!(stream.head.len() + stream.tail.len() <= KEPT_BYTES + 2 * MAX_LINE_BYTES);
    }

    #[test]
    fn a_stream_that_fits_is_kept_as_it_is() {
        let exactly = vec![b'x'; 2 * KEPT_BYTES];

        assert_eq!(stream(0, &[&exactly]).text().len(), exactly.len());
        assert_eq!(stream(0, &[b"a\xffb\0c"]).text(), "a\u{fffd}b\0c");
        assert!(stream(0, &[&exactly, b"x"]).text().contains("[... 1 bytes left out ...]"));
    }

    #[test]
    fn a_text_is_fitted_from_both_ends() {
        assert_eq!(fitted("short", 5), "short");
        for text in ["a".repeat(1_000), "\u{1}é\"".repeat(300)] {
            let kept = fitted(&text, 200);

            assert!((150..=200).contains(&written_bytes(&kept)), "{}", written_bytes(&kept));
            assert!(kept.contains("[...]"));
        }
    }
}
