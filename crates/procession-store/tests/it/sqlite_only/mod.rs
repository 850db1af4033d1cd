//! What is particular to the SQLite backend: its file, its disk, its checks, its pace.

mod backup;
mod checks;
mod crash;
mod damage;
mod files;
mod fsync;
mod full;
mod pace;
mod place;
mod reopen;
mod salvage;
mod space;
