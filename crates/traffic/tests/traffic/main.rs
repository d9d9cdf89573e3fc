//! What routers make of a split, by the numbered scenarios and by what the reference wrote.
//!
//! Where a scenario needs a whole controller, its number is with that; what concerns the objects alone is here.

mod canaries;
mod gateway;
mod istio;
mod nginx;
mod recordings;
mod rig;
