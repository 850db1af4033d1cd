//! How a bounded stream lies in its file: the head as written, then a ring that holds
//! the tail. Writer and readers both ask here, so neither keeps a map of the other's.
//!
//! With a limit of L bytes the head is the first L/2; what follows goes round in the
//! remaining L - L/2. Up to L bytes nothing is dropped and the file is the stream.

/// The shape of one stream's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    limit: u64,
}

/// Bytes that lie together: `len` bytes of the stream from `offset` stand at `at` in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First byte, counted in the stream as the program wrote it.
    pub offset: u64,
    /// Where that byte stands in the file.
    pub at: u64,
    /// How many.
    pub len: u64,
}

impl Layout {
    /// The shape under a limit of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { limit }
    }

    fn head(self) -> u64 {
        self.limit / 2
    }

    fn ring(self) -> u64 {
        self.limit - self.head()
    }

    /// Where the stream's next byte goes after `written` bytes, and how many fit there
    /// before the place changes; `None` where a limit of 0 keeps nothing.
    pub fn place(self, written: u64) -> Option<Segment> {
        let (head, ring) = (self.head(), self.ring());
        if ring == 0 {
            return None;
        }
        if written < self.limit {
            return Some(Segment { offset: written, at: written, len: self.limit - written });
        }
        let round = (written - head) % ring;
        Some(Segment { offset: written, at: head + round, len: ring - round })
    }

    /// What was dropped of a stream of `total` bytes: first byte and length.
    pub fn dropped(self, total: u64) -> Option<(u64, u64)> {
        (total > self.limit).then(|| (self.head(), total - self.limit))
    }

    /// The kept bytes of a stream of `total` bytes, in the stream's order.
    pub fn segments(self, total: u64) -> Vec<Segment> {
        if total <= self.limit {
            return if total == 0 { vec![] } else { vec![Segment { offset: 0, at: 0, len: total }] };
        }
        let (head, ring) = (self.head(), self.ring());
        let round = (total - head) % ring.max(1);
        let oldest = total - ring;
        let parts = [
            Segment { offset: 0, at: 0, len: head },
            Segment { offset: oldest, at: head + round, len: ring - round },
            Segment { offset: oldest + ring - round, at: head, len: round },
        ];
        parts.into_iter().filter(|segment| segment.len > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes a stream by `place`, byte by byte, into a file of `limit` bytes.
    fn write(limit: u64, total: u64) -> Vec<u64> {
        let mut file = vec![u64::MAX; limit as usize];
        for byte in 0..total {
            if let Some(place) = Layout::new(limit).place(byte) {
                file[place.at as usize] = byte;
            }
        }
        file
    }

    proptest! {
        #[test]
        fn what_is_read_is_head_and_tail_of_what_was_written(limit in 0u64..40, total in 0u64..200) {
            let file = write(limit, total);
            let read: Vec<u64> = Layout::new(limit)
                .segments(total)
                .iter()
                .flat_map(|s| (0..s.len).map(|i| (s.offset + i, file[(s.at + i) as usize])).collect::<Vec<_>>())
                .map(|(offset, byte)| { assert_eq!(offset, byte); byte })
                .collect();
            let dropped = Layout::new(limit).dropped(total);
            let expected: Vec<u64> = (0..total)
                .filter(|b| !dropped.is_some_and(|(at, len)| (at..at + len).contains(b)))
                .collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn a_place_is_as_long_as_it_says(limit in 1u64..40, written in 0u64..200) {
            let place = Layout::new(limit).place(written).expect("a limit keeps something");
            for step in 0..place.len {
                let there = Layout::new(limit).place(written + step).expect("the same");
                prop_assert_eq!(there.at, place.at + step);
            }
        }
    }
}
