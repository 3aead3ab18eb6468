//! CPU time, wall time, memory and threads of this process, and the line a child process prints about them.

use std::time::{Duration, Instant};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use serde::{Deserialize, Serialize};

use crate::plan::Failure;

/// What one child process measured about its own work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Messages published or consumed, or connections held.
    pub messages: u64,
    /// Wall time of the work, setting up and connecting excluded.
    pub seconds: f64,
    /// CPU time in user space over the same interval, all threads.
    pub cpu_user_us: u64,
    /// CPU time in the kernel over the same interval, all threads.
    pub cpu_sys_us: u64,
    /// Resident memory at the end; for idle connections, what they added to that of the first one.
    pub rss_kib: u64,
    /// Threads at the end; for idle connections, what they added to those of the first one.
    pub threads: u64,
}

impl Sample {
    /// CPU time per message in microseconds.
    pub fn cpu_us_per_message(&self) -> f64 {
        (self.cpu_user_us + self.cpu_sys_us) as f64 / self.messages as f64
    }

    /// Messages per second of wall time.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// Resident memory per connection in KiB.
    pub fn kib_per_connection(&self) -> f64 {
        self.rss_kib as f64 / self.messages as f64
    }
}

/// A running measurement.
pub struct Meter {
    wall: Instant,
    cpu: (u64, u64),
    footprint: Footprint,
}

impl Meter {
    /// Starts measuring.
    pub fn start() -> Result<Self, Failure> {
        Ok(Self { footprint: Footprint::now()?, wall: Instant::now(), cpu: cpu_us()? })
    }

    /// Ends the measurement of `messages` messages.
    pub fn stop(self, messages: u64) -> Result<Sample, Failure> {
        let seconds = self.wall.elapsed().as_secs_f64();
        let (user, sys) = cpu_us()?;
        let footprint = Footprint::now()?;
        Ok(Sample {
            messages,
            seconds,
            cpu_user_us: user - self.cpu.0,
            cpu_sys_us: sys - self.cpu.1,
            rss_kib: footprint.rss_kib,
            threads: footprint.threads,
        })
    }

    /// Ends the measurement of `connections` idle connections opened since the start.
    ///
    /// Waits a second first: what the handshakes needed for a moment is to be given back by then.
    pub async fn stop_idle(self, connections: u64) -> Result<Sample, Failure> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = self.footprint;
        let mut sample = self.stop(connections)?;
        sample.rss_kib = sample.rss_kib.saturating_sub(before.rss_kib);
        sample.threads = sample.threads.saturating_sub(before.threads);
        Ok(sample)
    }
}

#[derive(Clone, Copy)]
struct Footprint {
    rss_kib: u64,
    threads: u64,
}

impl Footprint {
    fn now() -> Result<Self, Failure> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| -> Result<u64, Failure> {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|value| value.split_ascii_whitespace().next())
                .ok_or_else(|| format!("/proc/self/status has no {name}"))?
                .parse()
                .map_err(Into::into)
        };
        Ok(Self { rss_kib: field("VmRSS:")?, threads: field("Threads:")? })
    }
}

fn cpu_us() -> Result<(u64, u64), Failure> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok((micros(usage.user_time()), micros(usage.system_time())))
}

fn micros(time: TimeVal) -> u64 {
    time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_usec().unsigned_abs()
}
