//! What a new client costs until its first request is answered.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::idle;
use crate::{
    Command, Control, Pace, Peer, Sample,
    measure::{self, latencies, quantile_us},
};

pub(super) async fn run<P: Peer>(
    peer: &P,
    address: &str,
    pace: Pace,
    control: &mut dyn Control,
) -> Result<Sample> {
    let begin = Instant::now() + pace.warm_up;
    while Instant::now() < begin {
        idle::ask_once(&peer.connect(address).await?).await?;
    }
    let mut times = latencies()?;
    let cpu_before = control.command(Command::Report).await?.cpu_ns + measure::cpu_ns();
    while begin.elapsed() < pace.measured {
        let started = Instant::now();
        let caller = peer.connect(address).await?;
        idle::ask_once(&caller).await?;
        times.record(started.elapsed().as_nanos().try_into()?)?;
        // Taking the client down is a cost as well, but not one that a request waits for.
        drop(caller);
    }
    let cpu_after = control.command(Command::Report).await?.cpu_ns + measure::cpu_ns();
    ensure!(!times.is_empty(), "no connection was made within {:?}", pace.measured);
    Ok(Sample::default()
        .with("p50_us", quantile_us(&times, 0.5))
        .with("p99_us", quantile_us(&times, 0.99))
        .with("cpu_us", cpu_after.saturating_sub(cpu_before) as f64 / times.len() as f64 / 1e3))
}
