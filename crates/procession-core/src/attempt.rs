//! One running attempt as a machine.
