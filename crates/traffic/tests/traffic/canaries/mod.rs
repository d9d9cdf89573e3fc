//! What routers make of Canaries: by the numbered scenarios, with the real rules in virtual time, and by what the reference wrote.

mod bed;
mod checks;
mod gateway;
mod istio;
mod nginx;
mod recordings;
mod services;
