//! The signature of a callback, as Standard Webhooks 1.0 (standardwebhooks.com) has it: a
//! receiver that holds the same secret knows who sent it, and that nothing was changed.
//!
//! Reading the secret's file and sending are the program's; nothing here shows a key.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Names the delivery: the same each time one is tried, so that a receiver knows it again.
pub const ID: &str = "webhook-id";

/// When this try was signed, in seconds since the Unix epoch; an old one may be refused.
pub const TIMESTAMP: &str = "webhook-timestamp";

/// The signatures, one for each key.
pub const SIGNATURE: &str = "webhook-signature";

/// Keys in one file: while one follows another there are two.
const MOST_KEYS: usize = 8;

/// Before the Base64 form of a key.
const PREFIX: &str = "whsec_";

/// People copy keys with and without the `=` at their end.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What callbacks are signed with: at least one key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<Vec<u8>>);

/// The text holds no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// Nothing but white space.
    #[error("it is empty")]
    Empty,
    /// Behind `whsec_` stands no Base64.
    #[error("what stands behind `whsec_` in line {0} is no Base64")]
    Base64(usize),
    /// Every callback would carry a signature for each.
    #[error("it holds more than {MOST_KEYS} keys, one on each line")]
    TooMany,
}

impl Secret {
    /// Reads the text of a file: one key on each line, `whsec_` and its Base64, or the very
    /// bytes of the line without the white space around them.
    pub fn parse(text: &[u8]) -> Result<Self, BadSecret> {
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).enumerate();
        let keys: Vec<Vec<u8>> = lines
            .filter(|(_, line)| !line.is_empty())
            .map(|(n, line)| key(n + 1, line))
            .collect::<Result<_, _>>()?;
        match keys.len() {
            0 => Err(BadSecret::Empty),
            1..=MOST_KEYS => Ok(Self(keys)),
            _ => Err(BadSecret::TooMany),
        }
    }

    /// The value of [`SIGNATURE`]: a signature for each key, so that a receiver may hold the
    /// old or the new one while keys are exchanged.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signed = |key: &Vec<u8>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
        };
        self.0.iter().map(signed).collect::<Vec<_>>().join(" ")
    }
}

fn key(line: usize, text: &[u8]) -> Result<Vec<u8>, BadSecret> {
    match text.strip_prefix(PREFIX.as_bytes()) {
        None => Ok(text.to_owned()),
        Some(encoded) => {
            let key = LENIENT.decode(encoded).ok().filter(|key| !key.is_empty());
            key.ok_or(BadSecret::Base64(line))
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} keys)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNED: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn signed(secret: &str) -> String {
        Secret::parse(secret.as_bytes()).expect("a secret").sign(ID, 1_614_265_330, BODY)
    }

    #[test]
    fn the_published_example() {
        assert_eq!(signed(KEY), SIGNED);
        assert_eq!(signed(&format!("\n  {KEY}\r\n\n")), SIGNED, "white space around it is none of it");
    }

    #[test]
    fn without_the_prefix_the_bytes_themselves_are_the_key() {
        // printf '%s' "$ID.1614265330.$BODY" | openssl dgst -sha256 -hmac 'a plain secret' -binary | base64
        assert_eq!(signed("a plain secret\n"), "v1,ENqrYZJfEdejvH41MpDAd0s4SZwl35B0bx0LOnREaDY=");
    }

    #[test]
    fn each_key_of_a_rotation_signs() {
        let both = signed(&format!("a plain secret\n{KEY}\n"));
        assert_eq!(both, format!("{} {SIGNED}", signed("a plain secret")));
    }

    #[test]
    fn padding_may_be_missing() {
        assert_eq!(signed("whsec_YQ=="), signed("a"));
        assert_eq!(signed("whsec_YQ"), signed("a"));
    }

    #[test]
    fn what_is_no_secret() {
        let many = "k\n".repeat(MOST_KEYS + 1);
        for (text, expected) in [
            ("", BadSecret::Empty),
            (" \n\t\r\n", BadSecret::Empty),
            ("k\n\nwhsec_", BadSecret::Base64(3)),
            ("whsec_no base64", BadSecret::Base64(1)),
            (&many, BadSecret::TooMany),
        ] {
            assert_eq!(Secret::parse(text.as_bytes()), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let secret = Secret::parse(KEY.as_bytes()).expect("a secret");
        assert_eq!(format!("{secret:?}"), "Secret(1 keys)");
    }
}
