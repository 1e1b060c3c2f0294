//! What the operating system says of this process. Linux only; elsewhere the series stay at 0.

use std::fs;

/// Clock ticks per second in `/proc/self/stat`: fixed at 100 in the kernel's interface with programs (man 5 proc).
const TICKS_PER_SECOND: f64 = 100.0;
/// Where control groups put the memory limit: version 2, then version 1.
const LIMIT_FILES: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// Version 1 writes a huge number where version 2 writes `max`; beyond this there is no limit.
const NO_LIMIT: u64 = 1 << 60;

/// Resident memory in bytes.
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Processor time used, in seconds.
pub fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name may hold spaces; the fields after it do not. utime and stime are the 12th and 13th of them.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: f64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

/// Open file descriptors.
pub fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// The container's memory limit in bytes; 0 = none.
pub fn memory_limit_bytes() -> u64 {
    let text = LIMIT_FILES.iter().find_map(|file| fs::read_to_string(file).ok());
    let limit = text.and_then(|text| text.trim().parse::<u64>().ok());
    limit.filter(|bytes| *bytes < NO_LIMIT).unwrap_or(0)
}
