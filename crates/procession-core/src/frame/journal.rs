//! Entries of the keeper's journal as bytes: `u32` length, `u32` CRC-32 of what follows,
//! `u8` kind, body. Does no I/O; the keeper appends what [`Entry::encode`] gives and reads
//! a whole file back by [`read`].

use bytes::Bytes;

use super::codec::BadFrame;
use super::fields::{Reader, Writer};
use super::values::Value;
use crate::id::AttemptKey;
use crate::record::ExitRecord;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An attempt ended so.
    Record(Box<ExitRecord>),
    /// The server has committed the record of this attempt.
    Ack(AttemptKey),
}

const HEADER: usize = 8;

impl Entry {
    /// Appends the entry with its length and checksum.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; HEADER]);
        let mut w = Writer::new(out);
        match self {
            Entry::Record(record) => {
                w.u8(1);
                record.write(&mut w);
            }
            Entry::Ack(key) => {
                w.u8(2);
                key.write(&mut w);
            }
        }
        let body = &out[at + HEADER..];
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let crc = crc32fast::hash(body);
        out[at..at + 4].copy_from_slice(&length.to_le_bytes());
        out[at + 4..at + HEADER].copy_from_slice(&crc.to_le_bytes());
    }

    fn decode(body: Bytes) -> Result<Option<Self>, BadFrame> {
        let r = &mut Reader::new(body);
        Ok(match r.u8()? {
            1 => Some(Entry::Record(Box::new(ExitRecord::read(r)?))),
            2 => Some(Entry::Ack(AttemptKey::read(r)?)),
            _ => None,
        })
    }
}

/// The whole entries at the front of `bytes`, and how many bytes they take: behind that
/// stands a torn entry or nothing. Entries of a kind that is not known are left out.
pub fn read(mut bytes: Bytes) -> (Vec<Entry>, usize) {
    let all = bytes.len();
    let mut entries = vec![];
    while let Some(body) = whole_entry(&bytes) {
        let Ok(entry) = Entry::decode(body.clone()) else { break };
        entries.extend(entry);
        bytes = bytes.slice(HEADER + body.len()..);
    }
    (entries, all - bytes.len())
}

fn whole_entry(bytes: &Bytes) -> Option<Bytes> {
    let header: &[u8; HEADER] = bytes.first_chunk()?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let crc = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let whole = length > 0 && bytes.len() - HEADER >= length;
    let body = whole.then(|| bytes.slice(HEADER..HEADER + length))?;
    (crc32fast::hash(&body) == crc).then_some(body)
}
