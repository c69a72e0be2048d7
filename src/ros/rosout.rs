//! /rosout: what the program logs, as rcl_interfaces/Log.
//!
//! Contract: a [`Rosout`] is made at the process's start, and its [`Rosout::layer`] is installed beside the one that writes
//! to standard error. Any thread that logs runs through the layer: it formats the event (which allocates), takes no lock
//! and never waits. One thread, which publishes, fetches the lines with [`Rosout::try_recv`]. The pinned thread does
//! not log at all.
//!
//! - **Bounded.** [`CAPACITY`] lines of [`MAX_TEXT`] bytes at most wait to be fetched, from the first event on. When they
//!   are that many, the newest is dropped and counted.
//! - **Named late.** Lines bear the logger's name at the time they are fetched, and none can be fetched before
//!   [`Rosout::set_logger`] was called: what was said before the node had its name is kept for it.
//! - **Throttled.** Of one place in the source, [`BURST`] lines pass at once and then one every [`EVERY`]; a place that was
//!   silent earns its burst back at the same rate. The next line that passes says how many did not: `(12 alike
//!   suppressed)`. Standard error is not throttled.
//! - **No loop.** What the middleware logs stays out, for publishing a line would make it log the next one. Whoever
//!   publishes logs its own failures to the target [`QUIET`], for the same reason.
//!
//! `tracing` knows no fatal errors, so no line is [`Log::FATAL`].

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::msg::{Log, Time};

/// Lines that wait to be fetched.
pub const CAPACITY: usize = 256;

/// The longest message with its fields, bytes; what is longer is cut.
pub const MAX_TEXT: usize = 4096;

/// Lines of one place in the source that pass at once.
pub const BURST: u32 = 5;

/// After that, one line per place in this time passes.
pub const EVERY: Duration = Duration::from_secs(5);

/// A target whose events do not go to /rosout: for the failures to publish there.
pub const QUIET: &str = "metagd::quiet";

/// Targets, with all that is below them, whose events do not go to /rosout.
const SILENT: &[&str] = &[QUIET, "rustdds", "ros2_client", "cdr_encoding"];

/// Places in the source that are throttled; a program has fewer.
const PLACES: usize = 1024;

/// How many places are looked at for a free one.
const PROBES: usize = 16;

struct Shared {
    clock: Box<dyn Fn() -> i64 + Send + Sync>,
    lines: ArrayQueue<Log>,
    dropped: AtomicU64,
    throttle: Throttle,
    logger: OnceLock<String>,
}

/// Takes in what is logged and hands it out as messages; see the module's documentation. Clones are the same one.
#[derive(Clone)]
pub struct Rosout {
    shared: Arc<Shared>,
}

impl Rosout {
    /// One whose lines are stamped by `clock`, in nanoseconds since 1970 (the system's time, as rcl stamps them).
    pub fn new(clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        let shared = Shared {
            clock: Box::new(clock),
            lines: ArrayQueue::new(CAPACITY),
            dropped: AtomicU64::new(0),
            throttle: Throttle::new(),
            logger: OnceLock::new(),
        };
        Rosout { shared: Arc::new(shared) }
    }

    /// The layer that takes in events of `level` and above.
    pub fn layer<S>(&self, level: LevelFilter) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        RosoutLayer { shared: self.shared.clone() }.with_filter(level)
    }

    /// Says which node logs, by its fully qualified name; as in rcl, `/arm/metagd` logs as `arm.metagd`. Only the first
    /// call counts.
    pub fn set_logger(&self, node: &str) {
        let _ = self.shared.logger.set(node.trim_matches('/').replace('/', "."));
    }

    /// The oldest line not yet fetched; `None` if there is none, or the logger has no name yet.
    pub fn try_recv(&self) -> Option<Log> {
        let name = self.shared.logger.get()?;
        self.shared.lines.pop().map(|line| Log { name: name.clone(), ..line })
    }

    /// Lines dropped because too many waited to be fetched.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

struct RosoutLayer {
    shared: Arc<Shared>,
}

impl<S: Subscriber> Layer<S> for RosoutLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let origin = Origin::of(event);
        if is_silent(&origin.target) {
            return;
        }
        let now_ns = (self.shared.clock)();
        let Some(suppressed) = self.shared.throttle.pass(origin.place(event.metadata()), now_ns) else {
            return;
        };
        let mut text = Text::default();
        event.record(&mut text);
        let mut msg = text.text;
        if suppressed > 0 {
            let _ = write!(msg, " ({suppressed} alike suppressed)");
        }
        let line = Log {
            stamp: Time::from_ns(now_ns),
            level: level(event.metadata().level()),
            name: String::new(),
            msg,
            file: origin.file,
            function: origin.module,
            line: origin.line,
        };
        if self.shared.lines.push(line).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn level(level: &Level) -> u8 {
    match *level {
        Level::ERROR => Log::ERROR,
        Level::WARN => Log::WARN,
        Level::INFO => Log::INFO,
        Level::DEBUG | Level::TRACE => Log::DEBUG,
    }
}

fn is_silent(target: &str) -> bool {
    SILENT.iter().any(|silent| {
        target.strip_prefix(silent).is_some_and(|below| below.is_empty() || below.starts_with("::"))
    })
}

/// Where an event comes from. What went through the `log` crate (as the middleware's does) carries it in fields of its own,
/// while the event itself claims to come from `log`.
#[derive(Default)]
struct Origin {
    target: String,
    module: String,
    file: String,
    line: u32,
    bridged: bool,
}

impl Origin {
    fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let own = |text: Option<&str>| text.unwrap_or_default().to_string();
        let mut origin = Origin {
            target: metadata.target().to_string(),
            module: own(metadata.module_path()),
            file: own(metadata.file()),
            line: metadata.line().unwrap_or_default(),
            bridged: metadata.target() == "log",
        };
        if origin.bridged {
            event.record(&mut origin);
        }
        origin
    }

    /// A number that two places in the source do not share, never 0.
    fn place(&self, metadata: &'static Metadata<'static>) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        std::ptr::from_ref(metadata).hash(&mut hasher);
        if self.bridged {
            (&self.target, &self.file, self.line).hash(&mut hasher);
        }
        hasher.finish().max(1)
    }
}

impl Visit for Origin {
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "log.target" => self.target = value.to_string(),
            "log.module_path" => self.module = value.to_string(),
            "log.file" => self.file = value.to_string(),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "log.line" {
            self.line = value.try_into().unwrap_or_default();
        }
    }
}

/// The message and after it the fields as `name=value`, which is the order in which `tracing` gives them. Ends with an
/// ellipsis where it would become longer than [`MAX_TEXT`].
#[derive(Default)]
struct Text {
    text: String,
    cut: bool,
}

impl Text {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let separator = if self.text.is_empty() { "" } else { " " };
        // An error says that there is no more room.
        let _ = match field.name() {
            "message" => self.write_fmt(value),
            name if name.starts_with("log.") => Ok(()),
            name => write!(self, "{separator}{}={value}", name.trim_start_matches("r#")),
        };
    }
}

impl Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        const ELLIPSIS: &str = "...";
        if self.cut {
            return Err(fmt::Error);
        }
        let mut room = MAX_TEXT - ELLIPSIS.len() - self.text.len();
        if more.len() > room {
            while !more.is_char_boundary(room) {
                room -= 1;
            }
            self.text.push_str(&more[..room]);
            self.text.push_str(ELLIPSIS);
            self.cut = true;
            return Err(fmt::Error);
        }
        self.text.push_str(more);
        Ok(())
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, format_args!("{value}"));
    }
}

/// One place in the source.
#[derive(Default)]
struct Place {
    /// Which one; 0 while free.
    id: AtomicU64,
    /// When its burst will be earned back in full, ns: every line that passes puts it off by [`EVERY`].
    full_ns: AtomicI64,
    /// Lines that did not pass since the last that did.
    suppressed: AtomicU64,
}

/// Who may pass, without a lock: a table in which places are found by their number and never leave.
struct Throttle {
    places: Box<[Place]>,
}

impl Throttle {
    fn new() -> Self {
        Throttle { places: (0..PLACES).map(|_| Place::default()).collect() }
    }

    /// Whether a line of this place passes now; if so, how many alike did not before it.
    fn pass(&self, id: u64, now_ns: i64) -> Option<u64> {
        // Where the table is full, the capacity bounds what passes.
        let Some(place) = self.place(id) else { return Some(0) };
        const EVERY_NS: i64 = EVERY.as_nanos() as i64;
        const BURST_NS: i64 = BURST as i64 * EVERY_NS;
        let passed = place.full_ns.fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_ns| {
            let owed_ns = full_ns.saturating_sub(now_ns);
            // More than a whole burst is never owed: then the clock was set back.
            let owed_ns = if owed_ns > BURST_NS { 0 } else { owed_ns.max(0) };
            (owed_ns <= BURST_NS - EVERY_NS).then(|| now_ns.saturating_add(owed_ns + EVERY_NS))
        });
        if passed.is_ok() {
            return Some(place.suppressed.swap(0, Ordering::AcqRel));
        }
        place.suppressed.fetch_add(1, Ordering::AcqRel);
        None
    }

    fn place(&self, id: u64) -> Option<&Place> {
        (0..PROBES).map(|probe| &self.places[(id as usize).wrapping_add(probe) % PLACES]).find(|place| {
            let taken = place.id.compare_exchange(0, id, Ordering::AcqRel, Ordering::Acquire);
            taken.map_or_else(|owner| owner == id, |_| true)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use proptest::prelude::*;
    use tracing::{debug, error, info, trace, warn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const START_NS: i64 = 1_700_000_000_000_000_000;

    /// A [`Rosout`] that knows its node, the fake clock it stamps by, and what `said` logs into it.
    fn hearing(said: impl FnOnce(&AtomicI64)) -> Rosout {
        let (rosout, now_ns) = new();
        rosout.set_logger("/arm/metagd");
        let layer = rosout.layer(LevelFilter::DEBUG);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || said(&now_ns));
        rosout
    }

    fn new() -> (Rosout, Arc<AtomicI64>) {
        let now_ns = Arc::new(AtomicI64::new(START_NS));
        let clock = now_ns.clone();
        (Rosout::new(move || clock.load(Ordering::Relaxed)), now_ns)
    }

    fn lines(rosout: &Rosout) -> Vec<Log> {
        std::iter::from_fn(|| rosout.try_recv()).collect()
    }

    fn texts(rosout: &Rosout) -> Vec<String> {
        lines(rosout).into_iter().map(|line| line.msg).collect()
    }

    #[test]
    fn an_event_becomes_a_line() {
        let line = line!() + 1;
        let rosout = hearing(|_| warn!(joint = "a1", torque = 3.5, kept = true, "{} torques refused", 2));
        assert_eq!(
            lines(&rosout),
            [Log {
                stamp: Time::from_ns(START_NS),
                level: 30,
                name: "arm.metagd".into(),
                msg: "2 torques refused joint=\"a1\" torque=3.5 kept=true".into(),
                file: file!().into(),
                function: module_path!().into(),
                line,
            }]
        );
    }

    #[test]
    fn levels_are_those_of_ros_and_what_lies_below_the_asked_one_stays_out() {
        let rosout = hearing(|_| {
            trace!("t");
            debug!("d");
            info!("i");
            warn!("w");
            error!(error = %"it broke");
        });
        let heard: Vec<_> = lines(&rosout).into_iter().map(|line| (line.level, line.msg)).collect();
        let expected = [(10, "d"), (20, "i"), (30, "w"), (40, "error=it broke")];
        assert_eq!(heard, expected.map(|(level, text)| (level, text.to_string())));
    }

    #[test]
    fn the_middlewares_own_events_stay_out_however_they_come() {
        let rosout = hearing(|_| {
            error!(target: "rustdds::dds::writer", "no");
            error!(target: "ros2_client", "no");
            error!(target: "cdr_encoding::de", "no");
            error!(target: QUIET, "no");
            // As they come through the `log` crate.
            error!(target: "log", { log.target = "rustdds::rtps", log.line = 7u64 }, "no");
            error!(target: "rustdds_like", "yes");
            error!(
                target: "log",
                { log.target = "mcap::read", log.module_path = "mcap::read", log.file = "read.rs", log.line = 7u64 }, "yes"
            );
        });
        let heard = lines(&rosout);
        assert_eq!(heard.iter().map(|line| line.msg.as_str()).collect::<Vec<_>>(), ["yes", "yes"]);
        let bridged = &heard[1];
        assert_eq!((&*bridged.function, &*bridged.file, bridged.line), ("mcap::read", "read.rs", 7));
    }

    #[test]
    fn what_was_said_before_the_node_had_a_name_is_kept_for_it() {
        let (rosout, _) = new();
        let layer = rosout.layer(LevelFilter::INFO);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || info!("early"));
        assert_eq!(rosout.try_recv(), None);
        rosout.set_logger("/metagd");
        let line = rosout.try_recv().unwrap();
        assert_eq!((&*line.name, &*line.msg), ("metagd", "early"));
    }

    #[test]
    fn one_place_passes_in_a_burst_and_then_once_per_period() {
        let rosout = hearing(|now_ns| {
            for tenth in 0..200 {
                now_ns.store(START_NS + tenth * 100_000_000, Ordering::Relaxed);
                warn!("again");
                if tenth == 0 {
                    warn!("another place");
                }
            }
        });
        let heard = texts(&rosout);
        assert_eq!(heard[..6], ["again", "another place", "again", "again", "again", "again"]);
        assert_eq!(heard[6], "again (45 alike suppressed)", "at 5 s");
        assert_eq!(heard[7], "again (49 alike suppressed)", "at 10 s");
        assert_eq!(heard.len(), 9, "{heard:?}");
    }

    #[test]
    fn places_that_the_log_crate_bridges_are_throttled_apart() {
        let rosout = hearing(|_| {
            for line in 0..20_u64 {
                info!(target: "log", { log.target = "mcap", log.file = "a.rs", log.line = line % 2 }, "x");
            }
        });
        assert_eq!(lines(&rosout).len(), 2 * BURST as usize);
    }

    #[test]
    fn silence_earns_the_burst_back_and_a_clock_set_back_silences_nobody() {
        let throttle = Throttle::new();
        let passed = |at_ns: i64| (0..100).filter(|_| throttle.pass(7, at_ns).is_some()).count();
        assert_eq!(passed(START_NS), BURST as usize);
        assert_eq!(passed(START_NS + 1), 0);
        assert_eq!(passed(START_NS + 2 * EVERY.as_nanos() as i64), 2);
        assert_eq!(passed(START_NS + 3_600_000_000_000), BURST as usize);
        assert_eq!(passed(START_NS - 3_600_000_000_000), BURST as usize);
    }

    #[test]
    fn a_full_table_of_places_lets_pass() {
        let throttle = Throttle::new();
        for id in 1..=2 * PLACES as u64 {
            assert_eq!(throttle.pass(id, START_NS), Some(0));
        }
    }

    #[test]
    fn when_nobody_fetches_the_newest_lines_are_dropped_and_counted() {
        let rosout = hearing(|now_ns| {
            for seconds in 0..CAPACITY as i64 + 10 {
                now_ns.store(START_NS + seconds * EVERY.as_nanos() as i64, Ordering::Relaxed);
                info!(seconds, "tick");
            }
        });
        assert_eq!(rosout.dropped(), 10);
        let heard = texts(&rosout);
        assert_eq!((heard.len(), &*heard[0]), (CAPACITY, "tick seconds=0"));
    }

    #[test]
    fn threads_that_log_at_once_lose_and_invent_no_line() {
        let (rosout, _) = new();
        rosout.set_logger("metagd");
        let barrier = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let layer = rosout.layer(LevelFilter::INFO);
                    let subscriber = tracing_subscriber::registry().with(layer);
                    tracing::subscriber::with_default(subscriber, || {
                        barrier.wait();
                        (0..1000).for_each(|_| info!("together"));
                    });
                });
            }
        });
        let place = rosout.shared.throttle.places.iter().find(|place| place.id.load(Ordering::Relaxed) != 0);
        let suppressed = place.unwrap().suppressed.load(Ordering::Relaxed);
        let heard = texts(&rosout);
        assert_eq!(heard.len(), BURST as usize);
        let told: u64 = heard
            .iter()
            .filter_map(|text| text.split_once('(')?.1.split(' ').next()?.parse::<u64>().ok())
            .sum();
        assert_eq!(heard.len() as u64 + suppressed + told, 4000);
    }

    proptest! {
        #[test]
        fn no_text_is_too_long_or_cut_within_a_character(text in "(a|é|😀){0,3000}", value in "(a|é|😀){0,3000}") {
            let rosout = hearing(|_| info!(value, "{text}"));
            let line = rosout.try_recv().unwrap();
            prop_assert!(line.msg.len() <= MAX_TEXT);
            let whole = format!("{text} value={value:?}");
            match line.msg.strip_suffix("...") {
                None => prop_assert_eq!(line.msg, whole.trim_start()),
                Some(begun) => prop_assert!(whole.len() > MAX_TEXT - 3 && whole.trim_start().starts_with(begun)),
            }
        }
    }
}
