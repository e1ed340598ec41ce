//! The words of a command line.

use std::ops::Range;

use crate::scan::token_end;

use super::MEMCACHED_KEY_BYTES_MAX;

/// A command line and how far its words were taken.
#[derive(Clone)]
pub(super) struct Line<'a> {
    /// The line without its end.
    pub(super) content: &'a [u8],
    /// Its bytes with its end.
    pub(super) bytes: usize,
    at: usize,
}

impl<'a> Line<'a> {
    /// The line that the LF at `line_end` ends. A CR before it belongs to the line's end, but memcached does without.
    #[inline]
    pub(super) fn new(buf: &'a [u8], line_end: usize) -> Self {
        let content = &buf[..line_end];
        Self {
            content: content.strip_suffix(b"\r").unwrap_or(content),
            bytes: line_end + 1,
            at: 0,
        }
    }

    /// The next word; an empty range at the end of the line.
    ///
    /// It ends before a control character as well; the word after it is then empty though the line is not at its end, which
    /// [`Line::is_at_end`] tells.
    #[inline]
    pub(super) fn next_token(&mut self) -> Range<usize> {
        while self.content.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        let start = self.at;
        self.at = token_end(self.content, start);
        start..self.at
    }

    /// Up to `N` words, and how many of them there are. `None` when there are more, or a control character.
    #[inline]
    pub(super) fn tokens<const N: usize>(&mut self) -> Option<([Range<usize>; N], usize)> {
        let mut tokens = [const { 0..0 }; N];
        let mut count = 0;
        for slot in &mut tokens {
            let token: Range<usize> = self.next_token();
            *slot = token.clone();
            if token.is_empty() {
                break;
            }
            count += 1;
        }
        if count == N && !self.next_token().is_empty() {
            return None;
        }
        self.is_at_end().then_some((tokens, count))
    }

    /// Where the name of the command ends.
    pub(super) fn name_end(&self) -> usize {
        let blanks = self
            .content
            .iter()
            .take_while(|&&byte| byte == b' ')
            .count();
        token_end(self.content, blanks)
    }

    /// Whether a control character stands in the line.
    pub(super) fn has_control(&self) -> bool {
        self.content.iter().any(u8::is_ascii_control)
    }

    /// Whether all of the line was taken.
    #[inline]
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.content.len()
    }

    /// Whether the bytes of `token` are `noreply`.
    #[inline]
    pub(super) fn is_noreply(&self, token: &Range<usize>) -> bool {
        &self.content[token.clone()] == b"noreply"
    }
}

/// Whether a word can be a key.
#[inline]
pub(super) fn is_key(token: &Range<usize>) -> bool {
    (1..=MEMCACHED_KEY_BYTES_MAX).contains(&token.len())
}
