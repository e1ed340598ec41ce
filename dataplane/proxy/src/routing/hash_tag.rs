//! The part of a key that decides where it goes.

/// What stands between the first `tag[0]` and the first `tag[1]` after it; the whole key where there is no such part or it
/// is empty. As in twemproxy there is no second try: `{}{a}` has no tag.
pub fn hash_tag(key: &[u8], tag: [u8; 2]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == tag[0]) else {
        return key;
    };
    let inside = &key[open + 1..];
    match inside.iter().position(|&byte| byte == tag[1]) {
        None | Some(0) => key,
        Some(close) => &inside[..close],
    }
}

#[cfg(test)]
mod tests {
    use super::hash_tag;

    #[test]
    fn the_first_non_empty_tag_counts() {
        let cases: [(&[u8], &[u8]); 9] = [
            (b"{tag}x", b"tag"),
            (b"x{tag}", b"tag"),
            (b"{a}{b}", b"a"),
            (b"{}x", b"{}x"),
            (b"{}{a}", b"{}{a}"),
            (b"}{", b"}{"),
            (b"}{a}", b"a"),
            (b"{open", b"{open"),
            (b"", b""),
        ];
        for (key, inside) in cases {
            assert_eq!(hash_tag(key, *b"{}"), inside);
        }
    }

    #[test]
    fn both_ends_may_be_the_same_byte() {
        assert_eq!(hash_tag(b"a$tag$2", *b"$$"), b"tag");
        assert_eq!(hash_tag(b"$$1", *b"$$"), b"$$1");
    }
}
