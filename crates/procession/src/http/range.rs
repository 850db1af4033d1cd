//! `Range` headers: which part of so many bytes a client asks for, and the headers that say
//! which part it gets. Used by everything that is served by range.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::problem::{Answer, Failure};

/// The part of `len` bytes that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its first byte.
    pub first: u64,
    /// How many.
    pub count: u64,
    len: u64,
    status: StatusCode,
}

impl Part {
    /// What the request's headers ask for of `len` bytes; 416 where there is none of it.
    pub fn asked(headers: &HeaderMap, len: u64) -> Answer<Self> {
        match range(headers, len) {
            Range::Whole => Ok(Self { first: 0, count: len, len, status: StatusCode::OK }),
            Range::Part { first, count } => {
                Ok(Self { first, count, len, status: StatusCode::PARTIAL_CONTENT })
            }
            Range::Outside => Err(outside(len)),
        }
    }

    /// Says which part `response` is.
    pub fn describe(self, mut response: Response) -> Response {
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.count));
        if self.status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {}-{}/{}", self.first, self.first + self.count - 1, self.len);
            headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(range).expect("digits"));
        }
        response
    }
}

/// 416 for a range beyond `len` bytes.
fn outside(len: u64) -> Failure {
    let value = HeaderValue::try_from(format!("bytes */{len}")).expect("digits");
    Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", format!("there are {len} bytes"))
        .with_header(header::CONTENT_RANGE, value)
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    Part { first: u64, count: u64 },
    Outside,
}

/// One range of bytes; several, or other units, are answered with the whole (RFC 9110).
fn range(headers: &HeaderMap, len: u64) -> Range {
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last)) = asked.and_then(|text| text.strip_prefix("bytes=")?.split_once('-')) else {
        return Range::Whole;
    };
    let (first, end) = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if last >= first => (first, last.saturating_add(1).min(len)),
        (Ok(first), Err(_)) if last.trim().is_empty() => (first, len),
        (Err(_), Ok(suffix)) if first.trim().is_empty() => (len.saturating_sub(suffix), len),
        _ => return Range::Whole,
    };
    if first >= end { Range::Outside } else { Range::Part { first, count: end - first } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let asks = |text: &'static str| {
            let headers = [(header::RANGE, HeaderValue::from_static(text))].into_iter().collect();
            range(&headers, 100)
        };
        assert_eq!(range(&HeaderMap::new(), 100), Range::Whole);
        for (text, first, count) in [
            ("bytes=0-9", 0, 10),
            ("bytes=90-", 90, 10),
            ("bytes=-5", 95, 5),
            ("bytes=50-999", 50, 50),
            ("bytes=-500", 0, 100),
        ] {
            assert_eq!(asks(text), Range::Part { first, count }, "{text}");
        }
        for text in ["bytes=100-", "bytes=200-300", "bytes=-0"] {
            assert_eq!(asks(text), Range::Outside, "{text}");
        }
        for text in ["bytes=0-1,5-6", "lines=1-2", "bytes=9-3", "bytes=x-y"] {
            assert_eq!(asks(text), Range::Whole, "{text}");
        }
    }
}
