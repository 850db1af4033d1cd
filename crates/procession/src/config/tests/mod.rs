//! Whole configs, from their text to tasks or complaints.
