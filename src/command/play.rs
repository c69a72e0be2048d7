//! `metagd play`: publishes a bag over DDS at its own rate, as `ros2 bag play` does.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::graph::GraphArgs;
use super::signals::Interrupt;
use crate::bag::{BagReader, Filter};
use crate::realtime::{Clock, MonotonicClock};
use crate::ros::{self, Connection, Publisher, Qos, Stop};

/// Publishes a bag over DDS at its own rate.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The bag: a folder, or one .mcap or .db3 file, compressed or not.
    bag: PathBuf,
    /// How much faster (or slower) than recorded.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = rate)]
    rate: f64,
    /// Only these topics; may be repeated.
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// Begin this many seconds into the bag.
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = offset)]
    start_offset: f64,
    /// Of a recording that was cut off, play what there is.
    #[arg(long)]
    salvage: bool,
    /// Over and over, until interrupted.
    #[arg(long = "loop")]
    repeat: bool,
    /// Wait as long as this for a subscriber of each topic before the first message.
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = offset)]
    wait: f64,
    /// Publish best effort instead of reliable.
    #[arg(long)]
    best_effort: bool,
    #[command(flatten)]
    pub(super) graph: GraphArgs,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e6 => Ok(rate),
        _ => Err("must be a number above 0".into()),
    }
}

fn offset(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e6).contains(&seconds) => Ok(seconds),
        _ => Err("must be a number of seconds from 0".into()),
    }
}

/// What was played.
#[derive(Default)]
struct Played {
    published: u64,
    refused: u64,
    worst_lag: Duration,
}

/// The node's name, where nobody gives it another.
pub(super) const NODE: &str = "metagd_player";

/// Runs `metagd play`.
///
/// # Errors
/// A bag that cannot be read, topics that it does not have, or a middleware that does not start.
pub fn run(args: &Args) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let reader = BagReader::open(&args.bag)?;
    for note in reader.notes() {
        tracing::warn!("{note}");
    }
    if let Some(missing) = args.topics.iter().find(|name| !reader.topics().iter().any(|t| t.name == **name)) {
        let there: Vec<&str> = reader.topics().iter().map(|topic| topic.name.as_str()).collect();
        bail!("{}: no topic {missing}; there are: {}", args.bag.display(), there.join(", "));
    }

    let mut connection = ros::open(&args.graph.options(NODE)?, || MonotonicClock::new().now_ns())?;
    let qos = if args.best_effort { Qos::SENSOR_DATA } else { Qos { depth: 64, ..Qos::DEFAULT } };
    let mut publishers = HashMap::new();
    for topic in reader.topics().iter().filter(|t| args.topics.is_empty() || args.topics.contains(&t.name)) {
        let publisher = connection.advertise_raw(&topic.name, &topic.type_name, qos)?;
        publishers.insert(topic.name.clone(), publisher);
    }
    let stop = Stop::new();
    let stopping = stop.clone();
    let listening =
        std::thread::Builder::new().name("ros-io".into()).spawn(move || connection.run(stopping))?;
    let until = Instant::now() + Duration::from_secs_f64(args.wait);
    for publisher in publishers.values() {
        publisher.wait_for_subscribers(1, until.saturating_duration_since(Instant::now()));
    }

    let mut played = Played::default();
    let outcome = loop {
        let once = play_once(args, &reader, &mut publishers, &interrupt, &mut played);
        if once.is_err() || !args.repeat || interrupt.raised() {
            break once;
        }
    };
    // The last messages of a reliable publisher may still have to be sent again.
    interrupt.sleep(Duration::from_millis(200));
    stop.request();
    let left = listening.join().map_err(|_| anyhow::anyhow!("the I/O thread panicked"))?;
    outcome?;
    left?;
    let lag_ms = played.worst_lag.as_secs_f64() * 1e3;
    super::print(&if args.json {
        let (published, refused) = (played.published, played.refused);
        json!({"published": published, "refused": refused, "worst_lag_ms": lag_ms}).to_string() + "\n"
    } else {
        format!(
            "{} messages published, {} refused by the middleware, at worst {lag_ms:.1} ms late\n",
            played.published, played.refused
        )
    })
}

fn play_once(
    args: &Args,
    reader: &BagReader,
    publishers: &mut HashMap<String, Publisher<[u8]>>,
    interrupt: &Interrupt,
    played: &mut Played,
) -> Result<()> {
    let filter = Filter {
        topics: args.topics.clone(),
        start_offset_ns: (args.start_offset * 1e9) as i64,
        salvage: args.salvage,
    };
    let mut begin: Option<(i64, Instant)> = None;
    for message in reader.messages(&filter)? {
        let message = message?;
        let (first_ns, began) = *begin.get_or_insert((message.log_time_ns, Instant::now()));
        let after_ns = message.log_time_ns.saturating_sub(first_ns).max(0) as f64 / args.rate;
        let due = began + Duration::from_nanos(after_ns as u64);
        let now = Instant::now();
        if due > now + Duration::from_millis(50) {
            if interrupt.sleep(due - now) {
                return Ok(());
            }
        } else if due > now {
            std::thread::sleep(due - now);
        }
        if interrupt.raised() {
            return Ok(());
        }
        let publisher = publishers.get_mut(&message.topic.name).context("a message of an unlisted topic")?;
        match publisher.publish(&message.data) {
            Ok(()) => played.published += 1,
            Err(error) => {
                played.refused += 1;
                tracing::debug!("{error}");
            }
        }
        played.worst_lag = played.worst_lag.max(Instant::now().saturating_duration_since(due));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_finite_and_not_negative() {
        assert_eq!(offset("1.5"), Ok(1.5));
        for bad in ["nan", "inf", "-1", "soon"] {
            assert!(offset(bad).is_err(), "{bad}");
        }
    }
}
