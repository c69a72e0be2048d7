//! What a real-time thread asks of Linux, and what it was granted. The only `unsafe` outside of `learn/kernel`.
//!
//! Contract: [`prepare`] and the functions beside it are called by a thread about itself, at start-up, and may allocate;
//! [`thread_cpu_ns`] and [`allocations`] are called by the pinned thread while it runs and do not. [`CountingAllocator`] is
//! for a binary (or a test) to install as its global allocator.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt;
use std::io;

use serde::Serialize;

use crate::config::Config;

/// One thing that was asked of the system, and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// The configuration does not ask for it.
    NotAsked,
    /// Granted, with the value in effect.
    Granted(String),
    /// Granted in part or not at all.
    Refused {
        /// What was asked for.
        asked: String,
        /// The system's words.
        why: String,
        /// What to do about it.
        remedy: String,
    },
}

impl Grant {
    /// Whether something that was asked for was not granted.
    pub fn is_refused(&self) -> bool {
        matches!(self, Grant::Refused { .. })
    }

    fn from(result: io::Result<()>, asked: String, remedy: impl Into<String>) -> Grant {
        match result {
            Ok(()) => Grant::Granted(asked),
            Err(why) => Grant::Refused { asked, why: why.to_string(), remedy: remedy.into() },
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::NotAsked => write!(f, "not asked for"),
            Grant::Granted(what) => write!(f, "{what}"),
            Grant::Refused { asked, why, remedy } => write!(f, "{asked} was NOT granted ({why}); {remedy}"),
        }
    }
}

/// What the pinned thread was granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grants {
    /// `cpu_affinity`.
    pub affinity: Grant,
    /// `thread_priority`.
    pub priority: Grant,
    /// `lock_memory`.
    pub memory: Grant,
    /// The CPUs on which the thread may now run.
    pub cpus: Vec<usize>,
    /// The CPUs that the kernel isolates; without one, the thread shares its CPU with whatever else runs.
    pub isolated: Vec<usize>,
    /// What speaks against `wait: spin` here, in words; empty if nothing does, or if it is not asked for.
    pub spinning: Vec<String>,
}

impl Grants {
    /// Whether everything that was asked for was granted.
    pub fn complete(&self) -> bool {
        self.refusals().next().is_none()
    }

    /// What was not granted, each with its remedy.
    pub fn refusals(&self) -> impl Iterator<Item = &Grant> {
        [&self.affinity, &self.priority, &self.memory].into_iter().filter(|grant| grant.is_refused())
    }
}

impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "affinity: {}; priority: {}; memory: {}", self.affinity, self.priority, self.memory)?;
        if self.isolated.is_empty() {
            write!(f, "; no CPU is isolated (kernel parameter isolcpus=): others may share this one")?;
        }
        Ok(())
    }
}

/// Gives back what start-up freed, asks for the calling thread what `cpu_affinity`, `thread_priority` and `lock_memory` say,
/// and faults in its stack and the program's code. Its data it has touched before: call this once it is warm.
///
/// Memory is locked for the whole process, so call it once the large allocations are made. Nothing here fails: what was
/// not granted stands in the answer.
pub fn prepare(config: &Config) -> Grants {
    // Before the thread has a priority: the allocator's lock knows none.
    give_back();
    let isolated = isolated_cpus();
    let wanted = wanted_cpus(config, &isolated);
    let affinity = if wanted.is_empty() {
        Grant::NotAsked
    } else {
        Grant::from(
            set_affinity(&wanted),
            format!("CPU {}", list(&wanted)),
            format!(
                "set cpu_affinity to CPUs that this process may use ({}), or widen its cpuset (taskset, systemd's \
                 CPUAffinity=, docker's --cpuset-cpus)",
                list(&allowed_cpus())
            ),
        )
    };
    let priority = match config.thread_priority {
        0 => Grant::NotAsked,
        priority => Grant::from(
            set_fifo(priority as i32),
            format!("SCHED_FIFO {priority}"),
            format!(
                "add `@realtime - rtprio {priority}` to /etc/security/limits.d/ and log in again as a member of that group, or \
                 give the binary CAP_SYS_NICE (setcap cap_sys_nice=ep), or docker's --ulimit rtprio={priority}"
            ),
        ),
    };
    let memory = if config.lock_memory { lock_memory() } else { Grant::NotAsked };
    if config.lock_memory {
        prefault_code();
    }
    prefault_stack();
    let cpus = allowed_cpus();
    let spinning = if config.wait == "spin" {
        let first_in_line = matches!(priority, Grant::Granted(_));
        against_spinning(&cpus, &isolated, first_in_line, throttled())
    } else {
        vec![]
    };
    Grants { affinity, priority, memory, cpus, isolated, spinning }
}

/// What speaks against spinning on `cpus`; `first_in_line`: under SCHED_FIFO; `throttled`: of how many µs such threads may
/// have how many.
fn against_spinning(
    cpus: &[usize],
    isolated: &[usize],
    first_in_line: bool,
    throttled: Option<(i64, i64)>,
) -> Vec<String> {
    let mut notes = vec![];
    if !cpus.iter().all(|cpu| isolated.contains(cpu)) {
        let others = if first_in_line { "stands still" } else { "takes turns with it" };
        notes.push(format!(
            "wait: spin keeps CPU {} busy, which the kernel has not isolated: whatever else is bound to it {others}; isolate \
             it (isolcpus=), or choose wait: hybrid",
            list(cpus)
        ));
    }
    if let Some((runtime, period)) = throttled.filter(|_| first_in_line) {
        notes.push(format!(
            "wait: spin needs its CPU always, but the kernel may take it from a SCHED_FIFO thread for {} of every {period} µs: \
             sysctl -w kernel.sched_rt_runtime_us=-1, or choose wait: hybrid",
            period - runtime
        ));
    }
    notes
}

/// The kernel's limit for real-time threads, µs of how many; `None` if there is none.
fn throttled() -> Option<(i64, i64)> {
    let read = |name| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/sched_rt_{name}_us")).ok()?;
        text.trim().parse::<i64>().ok()
    };
    read("runtime").zip(read("period")).filter(|(runtime, period)| (0..*period).contains(runtime))
}

/// `cpu_affinity`, or else the first isolated CPU that is allowed, or else the last one allowed.
fn wanted_cpus(config: &Config, isolated: &[usize]) -> Vec<usize> {
    if !config.cpu_affinity.is_empty() {
        return config.cpu_affinity.iter().map(|&cpu| cpu as usize).collect();
    }
    let allowed = allowed_cpus();
    let isolated = isolated.iter().copied().find(|cpu| allowed.contains(cpu));
    isolated.or_else(|| allowed.last().copied()).into_iter().collect()
}

/// The CPUs on which the calling thread may run, ascending.
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: cpu_set_t is plain bits, for which all zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable and of the size that is passed along; 0 names the calling thread.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
        return vec![];
    }
    // SAFETY: the index stays below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Confines the calling thread to these CPUs.
///
/// # Errors
/// The system's, or `InvalidInput` for a CPU beyond what the kernel's call can name.
pub fn set_affinity(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: cpu_set_t is plain bits, for which all zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus {
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no CPU {cpu}")));
        }
        // SAFETY: the index is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: `set` is of the size that is passed along; 0 names the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) })
}

/// Puts the calling thread under SCHED_FIFO; 0 puts it back under SCHED_OTHER.
///
/// # Errors
/// The system's: EPERM without CAP_SYS_NICE or a sufficient RLIMIT_RTPRIO.
pub fn set_fifo(priority: i32) -> io::Result<()> {
    let policy = if priority > 0 { libc::SCHED_FIFO } else { libc::SCHED_OTHER };
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: `param` is a valid sched_param; 0 names the calling thread.
    check(unsafe { libc::sched_setscheduler(0, policy, &param) })
}

/// Locks the process's present and future memory, page by page as it is touched (MCL_ONFAULT): what nobody uses, most of
/// every thread's stack before all, takes no memory. What must not fault later is to be touched beforehand.
///
/// Where RLIMIT_MEMLOCK is finite, only the present memory is locked: with MCL_FUTURE, a later allocation beyond the limit
/// would fail, which is worse than a page fault.
pub fn lock_memory() -> Grant {
    let remedy = "add `@realtime - memlock unlimited` to /etc/security/limits.d/ and log in again as a member of that group, or \
                  give the binary CAP_IPC_LOCK, or docker's --ulimit memlock=-1";
    let (flags, asked) = if may_lock_everything() {
        (libc::MCL_CURRENT | libc::MCL_FUTURE, "all memory locked, present and future")
    } else {
        (libc::MCL_CURRENT, "present memory locked (RLIMIT_MEMLOCK is finite)")
    };
    // SAFETY: mlockall takes flags only and changes no memory's contents.
    let locked = check(unsafe { libc::mlockall(flags | libc::MCL_ONFAULT) });
    Grant::from(locked, asked.to_string(), remedy)
}

/// Lets all threads allocate from one heap: with one for every few threads, each keeps what it has freed. Call it before they
/// are started; only glibc's allocator is asked. The pinned thread, which allocates nothing, waits for none of them.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets a parameter of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives back to the system the pages that were freed since the start, which the allocator keeps for later: locked, they
/// would stay for good. Only glibc's is asked.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim touches no memory that is in use, and takes its locks itself.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Undoes [`lock_memory`].
pub fn unlock_memory() {
    // SAFETY: munlockall takes nothing and changes no memory's contents.
    unsafe { libc::munlockall() };
}

/// Whether no limit stands in the way of locking whatever will be allocated (an unlimited RLIMIT_MEMLOCK, raised to its
/// hard limit first, or CAP_IPC_LOCK).
fn may_lock_everything() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a writable rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } == 0 && limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid rlimit; raising the soft limit to the hard one needs no privilege.
        unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) };
    }
    limit.rlim_cur == libc::RLIM_INFINITY || has_capability(14)
}

/// Whether capability number `bit` is effective (14: CAP_IPC_LOCK, 23: CAP_SYS_NICE).
fn has_capability(bit: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set >> bit & 1 == 1)
}

/// The stack that [`prefault_stack`] touches, bytes; the pinned thread's own stack is larger.
const PREFAULTED: usize = 512 * 1024;

/// Touches the stack that the thread will use, so that no page of it is missing later.
#[inline(never)]
pub fn prefault_stack() {
    let mut stack = [0u8; PREFAULTED];
    for byte in stack.iter_mut().step_by(1024) {
        *byte = std::hint::black_box(1);
    }
    std::hint::black_box(&stack);
}

/// Reads in the code of the program and its libraries, all of it: what a rare path needs is then there. Where the kernel
/// (before 5.14) knows no such request, what has not run yet is read in when it does.
fn prefault_code() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for range in maps.lines().filter_map(parse_code) {
        let (start, length) = (std::ptr::with_exposed_provenance_mut(range.start), range.len());
        // SAFETY: populating for reading changes neither contents nor mappings; a range that is none any more is an error.
        unsafe { libc::madvise(start, length, libc::MADV_POPULATE_READ) };
    }
}

/// The addresses of one line of proc_pid_maps(5), if a file's code or constants stand there.
fn parse_code(line: &str) -> Option<std::ops::Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let code = matches!(fields.next()?, "r-xp" | "r--p") && fields.nth(3)?.starts_with('/');
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    code.then_some(address(start)?..address(end)?).filter(|range| !range.is_empty())
}

/// The CPUs that the kernel keeps for threads that ask for them (`isolcpus=`).
pub fn isolated_cpus() -> Vec<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/isolated").unwrap_or_default();
    parse_cpu_list(&text)
}

/// `0-2,5` as the kernel writes it; what is malformed is left out.
fn parse_cpu_list(text: &str) -> Vec<usize> {
    let mut cpus = vec![];
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cpus.extend(first..=last.min(libc::CPU_SETSIZE as usize));
        }
    }
    cpus
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// The CPU time that the calling thread has used, ns. A system call (CLOCK_THREAD_CPUTIME_ID is not in the vDSO): the
/// pinned thread makes it twice per batch.
pub fn thread_cpu_ns() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a writable timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The kernel's number of the calling thread, for [`page_faults`].
pub fn tid() -> i32 {
    // SAFETY: gettid takes nothing and always succeeds.
    unsafe { libc::gettid() }
}

/// Page faults of one thread since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PageFaults {
    /// Served without the disk.
    pub minor: u64,
    /// Served from the disk.
    pub major: u64,
}

/// The page faults of a thread of this process, read by another thread (housekeeping); `None` once it has ended.
pub fn page_faults(tid: i32) -> Option<PageFaults> {
    parse_page_faults(&std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).ok()?)
}

/// Fields 10 (minflt) and 12 (majflt) of proc_pid_stat(5); the name in parentheses may itself hold spaces and parentheses.
fn parse_page_faults(stat: &str) -> Option<PageFaults> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(7);
    let minor = fields.next()?.parse().ok()?;
    let major = fields.nth(1)?.parse().ok()?;
    Some(PageFaults { minor, major })
}

/// The memory of this process that is resident, bytes; `None` if the kernel does not tell.
pub fn resident_bytes() -> Option<u64> {
    let pages = parse_resident_pages(&std::fs::read_to_string("/proc/self/statm").ok()?)?;
    // SAFETY: sysconf takes a number and changes nothing.
    let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.checked_mul(u64::try_from(page_size).ok()?)
}

/// Field 2 (resident) of proc_pid_statm(5), pages.
fn parse_resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What a thread has asked of the allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Allocations {
    /// Allocations and reallocations.
    pub allocated: u64,
    /// Frees.
    pub freed: u64,
}

impl Allocations {
    /// What was counted since `earlier`.
    pub fn since(self, earlier: Allocations) -> Allocations {
        Allocations {
            allocated: self.allocated.wrapping_sub(earlier.allocated),
            freed: self.freed.wrapping_sub(earlier.freed),
        }
    }
}

thread_local! {
    // Const-initialised and without a destructor: reading it neither allocates nor registers anything.
    static COUNTED: Cell<Allocations> = const { Cell::new(Allocations { allocated: 0, freed: 0 }) };
}

/// The system's allocator, which counts per thread. Install it with `#[global_allocator]` and every run can prove that
/// the pinned thread allocates nothing.
pub struct CountingAllocator;

impl CountingAllocator {
    /// Whether it is this program's global allocator.
    pub fn is_installed() -> bool {
        let before = allocations();
        drop(std::hint::black_box(Box::new(0u8)));
        allocations() != before
    }

    fn count(allocated: u64, freed: u64) {
        // A thread that is being torn down has no counter any more: nothing is counted there.
        let _ = COUNTED.try_with(|counted| {
            let Allocations { allocated: a, freed: f } = counted.get();
            counted.set(Allocations { allocated: a + allocated, freed: f + freed });
        });
    }
}

// SAFETY: every call is handed on to `System` unchanged; counting touches a thread-local cell only.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CountingAllocator::count(1, 0);
        // SAFETY: the caller's contract is System's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        CountingAllocator::count(1, 0);
        // SAFETY: the caller's contract is System's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        CountingAllocator::count(0, 1);
        // SAFETY: the caller's contract is System's.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        CountingAllocator::count(1, 0);
        // SAFETY: the caller's contract is System's.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// What the calling thread has asked of the allocator, if [`CountingAllocator`] is installed; else zeros.
pub fn allocations() -> Allocations {
    COUNTED.try_with(Cell::get).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_cpu_list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(parse_cpu_list("\n"), Vec::<usize>::new());
        assert_eq!(parse_cpu_list("3,x-7,4-"), [3]);
    }

    #[test]
    fn page_faults_are_found_behind_any_thread_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 123 9 45 8 0 0 0 0";
        assert_eq!(parse_page_faults(stat), Some(PageFaults { minor: 123, major: 45 }));
        assert_eq!(parse_page_faults("7 (x) S 1"), None);
        assert!(page_faults(tid()).is_some());
        assert_eq!(page_faults(-1), None);
    }

    #[test]
    fn code_is_found_among_the_mappings() {
        let code = "7f0010-7f0030 r-xp 00001000 fe:00 1234    /a path/with blanks";
        assert_eq!(parse_code(code), Some(0x7f0010..0x7f0030));
        for other in [
            "7f0010-7f0030 rw-p 00001000 fe:00 1234    /usr/lib/x",
            "7f0010-7f0030 r-xp 00000000 00:00 0       [vdso]",
            "7f0010-7f0030 r-xp 00000000 00:00 0",
            "7f0030-7f0010 r-xp 00001000 fe:00 1234    /usr/lib/x",
            "nonsense",
        ] {
            assert_eq!(parse_code(other), None, "{other}");
        }
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let here = code_is_found_among_the_mappings as fn() as usize;
        assert!(maps.lines().filter_map(parse_code).any(|range| range.contains(&here)));
    }

    #[test]
    fn resident_memory_is_the_second_number() {
        assert_eq!(parse_resident_pages("5000 1234 900 10 0 400 0\n"), Some(1234));
        assert_eq!(parse_resident_pages("5000"), None);
        let bytes = resident_bytes().unwrap();
        assert!((1 << 20..1 << 40).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_thread_can_be_confined_to_a_cpu_that_it_may_use_and_no_other() {
        std::thread::spawn(|| {
            let cpu = *allowed_cpus().last().unwrap();
            set_affinity(&[cpu]).unwrap();
            assert_eq!(allowed_cpus(), [cpu]);
            assert!(set_affinity(&[1023]).is_err());
            assert!(set_affinity(&[9999]).is_err());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_refusal_says_what_was_asked_why_not_and_what_to_do() {
        let config =
            Config { cpu_affinity: vec![1023], thread_priority: 0, lock_memory: false, ..Config::default() };
        let grants = std::thread::spawn(move || prepare(&config)).join().unwrap();
        assert!(!grants.complete());
        assert_eq!((&grants.priority, &grants.memory), (&Grant::NotAsked, &Grant::NotAsked));
        let text = grants.to_string();
        assert!(text.contains("CPU 1023 was NOT granted") && text.contains("cpu_affinity"), "{text}");
    }

    #[test]
    fn spinning_wants_a_cpu_of_its_own_and_all_of_it() {
        let notes =
            |first_in_line, throttled| against_spinning(&[1, 3], &[3], first_in_line, throttled).join("\n");
        assert_eq!(against_spinning(&[3], &[2, 3], true, None), Vec::<String>::new());
        assert!(notes(true, None).contains("CPU 1, 3 busy"), "{}", notes(true, None));
        assert!(notes(true, None).contains("stands still") && notes(false, None).contains("takes turns"));
        let throttled = Some((950_000, 1_000_000));
        assert!(
            notes(true, throttled).contains("for 50000 of every 1000000 µs"),
            "{}",
            notes(true, throttled)
        );
        assert!(!notes(false, throttled).contains("1000000"), "only real-time threads are throttled");
    }

    #[test]
    fn cpu_time_advances_with_work() {
        let before = thread_cpu_ns();
        let mut x = 1u64;
        while thread_cpu_ns() == before {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(thread_cpu_ns() > before);
    }

    #[test]
    fn without_the_counting_allocator_nothing_is_counted_and_that_is_known() {
        assert!(!CountingAllocator::is_installed());
        assert_eq!(allocations(), Allocations::default());
    }
}
