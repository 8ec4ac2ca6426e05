//! What an `Outbound` says before the hellos, and what waits in it.
