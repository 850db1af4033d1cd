//! Fields of a body: little-endian numbers, length-prefixed bytes, blocks.
//!
//! A block is a length and the fields of a nested value, so that the value may grow
//! inside a list. A reader at the end of its body or block reads defaults (the sender is
//! older); what it leaves unread is skipped (the sender is newer).

use bytes::Bytes;

use super::codec::BadFrame;

/// Appends fields to a frame under construction.
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.u32(value.cast_unsigned());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.u64(value.cast_unsigned());
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.u8(value.into());
    }

    /// Without a length: the size is part of the format.
    pub(super) fn fixed(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.out.extend_from_slice(value);
    }

    /// A length or a number of elements. Nothing near 4 GiB is ever framed: `MAX_FRAME`.
    pub(super) fn count(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }

    /// A nested value.
    pub(super) fn block(&mut self, fill: impl FnOnce(&mut Writer<'_>)) {
        let at = self.out.len();
        self.u32(0);
        fill(&mut Writer { out: self.out });
        let length = u32::try_from(self.out.len() - at - 4).unwrap_or(u32::MAX);
        self.out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    pub(super) fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Writer<'_>, &T)) {
        self.count(items.len());
        for item in items {
            each(self, item);
        }
    }

    /// `None` as an absent block: one zero byte.
    pub(super) fn option<T>(&mut self, value: Option<&T>, fill: impl FnOnce(&mut Writer<'_>, &T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            self.block(|block| fill(block, value));
        }
    }
}

/// Takes fields off the front of a body.
pub(super) struct Reader {
    left: Bytes,
}

impl Reader {
    pub(super) fn new(body: Bytes) -> Self {
        Self { left: body }
    }

    /// The next `size` bytes; `None` at the end of the body, an error inside a field.
    fn take(&mut self, size: usize) -> Result<Option<Bytes>, BadFrame> {
        match self.left.len() {
            0 => Ok(None),
            have if have < size => Err(BadFrame::Body),
            _ => Ok(Some(self.left.split_to(size))),
        }
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], BadFrame> {
        let mut value = [0; N];
        if let Some(bytes) = self.take(N)? {
            value.copy_from_slice(&bytes);
        }
        Ok(value)
    }

    pub(super) fn u8(&mut self) -> Result<u8, BadFrame> {
        self.fixed().map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, BadFrame> {
        self.fixed().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, BadFrame> {
        self.fixed().map(u64::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, BadFrame> {
        self.fixed().map(i32::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, BadFrame> {
        self.fixed().map(i64::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, BadFrame> {
        Ok(self.u8()? != 0)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, BadFrame> {
        let size = self.u32()? as usize;
        if size == 0 {
            return Ok(Bytes::new());
        }
        self.take(size)?.ok_or(BadFrame::Body)
    }

    pub(super) fn block(&mut self) -> Result<Reader, BadFrame> {
        self.bytes().map(Reader::new)
    }

    pub(super) fn list<T>(
        &mut self,
        mut each: impl FnMut(&mut Reader) -> Result<T, BadFrame>,
    ) -> Result<Vec<T>, BadFrame> {
        let count = self.u32()? as usize;
        // An element takes at least one byte: a count beyond that is a lie, and believing
        // it would reserve memory for it.
        if count > self.left.len() {
            return Err(BadFrame::Body);
        }
        (0..count).map(|_| each(self)).collect()
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Result<T, BadFrame>,
    ) -> Result<Option<T>, BadFrame> {
        if self.flag()? { self.block().and_then(|mut block| read(&mut block)).map(Some) } else { Ok(None) }
    }
}
