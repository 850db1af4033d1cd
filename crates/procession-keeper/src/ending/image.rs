//! How far the end has come, as the next program of the keeper gets it.

use procession_core::frame::image;

use super::{Asked, Ending};

/// Their places are their numbers.
const ASKED: [Asked; 4] = [Asked::No, Asked::Drain, Asked::Now, Asked::Forced];

impl Ending {
    pub(crate) fn to_image(&self) -> image::Ending {
        image::Ending {
            asked: (0u8..).zip(ASKED).find(|(_, asked)| *asked == self.asked).map_or(0, |(times, _)| times),
            status: self.status,
            goodbye: self.goodbye,
            alone_until: self.alone_until,
            attempts_ended: self.attempts_ended,
            wish: self.wish,
        }
    }

    pub(crate) fn from_image(image: image::Ending) -> Self {
        Self {
            asked: ASKED.get(usize::from(image.asked)).copied().unwrap_or(Asked::Forced),
            status: image.status,
            goodbye: image.goodbye,
            alone_until: image.alone_until,
            attempts_ended: image.attempts_ended,
            wish: image.wish,
        }
    }
}
