//! Values of properties, as libcutils reads them.

/// The words for true and false; there are no others, and no other spelling of them.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "0" | "n" | "no" | "false" | "off" => Some(false),
        "1" | "y" | "yes" | "true" | "on" => Some(true),
        _ => None,
    }
}

/// A number as strtoimax(3) with base 0 reads it, and what follows it: 0x starts a hexadecimal
/// number, 0 an octal one. None if there is no number or it does not fit into `bits` bits.
#[must_use]
pub fn integer(text: &str, bits: u8) -> Option<(i64, &str)> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit()));
    let (radix, digits) = match hexadecimal {
        Some(rest) => (16, rest),
        None if digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let (number, rest) = digits.split_at(end);
    let magnitude = i128::from(u64::from_str_radix(number, radix).ok()?);
    let value = i64::try_from(if negative { -magnitude } else { magnitude }).ok()?;
    if bits == 32 && i32::try_from(value).is_err() {
        return None;
    }
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_words_are_true_or_false() {
        assert_eq!(["1", "y", "yes", "true", "on"].map(boolean), [Some(true); 5]);
        assert_eq!(["0", "n", "no", "false", "off"].map(boolean), [Some(false); 5]);
        assert_eq!(["", "TRUE", " 1", "2", "1 "].map(boolean), [None; 5]);
    }

    #[test]
    fn numbers_have_the_bases_of_c() {
        assert_eq!(integer("100", 32), Some((100, "")));
        assert_eq!(integer("0x1F", 32), Some((31, "")));
        assert_eq!(integer("010", 32), Some((8, "")));
        assert_eq!(integer(" -5", 32), Some((-5, "")));
        assert_eq!(integer("+7", 32), Some((7, "")));
        assert_eq!(integer("0", 32), Some((0, "")));
        assert_eq!(integer("0x", 32), Some((0, "x")));
        assert_eq!(integer("09", 32), Some((0, "9")));
        assert_eq!(integer("12ms", 32), Some((12, "ms")));
    }

    #[test]
    fn what_is_no_number_or_does_not_fit_is_none() {
        for text in ["", " ", "x", "-", "- 1", "99999999999999999999", "é"] {
            assert_eq!(integer(text, 64), None, "{text}");
        }
        assert_eq!(integer("2147483648", 32), None);
        assert_eq!(integer("2147483648", 64), Some((2_147_483_648, "")));
        assert_eq!(integer("-9223372036854775808", 64), Some((i64::MIN, "")));
    }
}
