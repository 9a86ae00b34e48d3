//! The sandbox: limits on memory, processor time and files, and a list of the allowed system calls. Another call ends the
//! process. Reads are possible only from standard input, writes only to standard output and error, so other descriptors,
//! had the process inherited any, are useless.
//!
//! Must be complete before the first byte of a document is read.

use std::collections::BTreeMap;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};
use weft_wire::limits::{
    CONVERSION_CPU_SECONDS, CONVERSION_MEMORY_BYTES, RENDER_CPU_SECONDS, RENDER_LIFE_CPU_SECONDS, RENDER_MEMORY_BYTES,
};

/// Lower than the server's priority: a busy worker must not delay its requests.
const NICE: i32 = 10;

/// Why the sandbox can't be set up. The worker then must not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    /// A limit can't be set.
    #[error("the limit on {what} can't be set: {source}")]
    Limit { what: &'static str, source: io::Error },
    /// The filter of system calls can't be made or installed.
    #[error("the system calls can't be restricted: {0}")]
    SystemCalls(String),
}

/// Sets the limits on resources. Must be called before the first thread is started.
pub(crate) fn limit_resources() -> Result<(), SandboxError> {
    // A failure only means that the worker has the server's priority.
    let _ = rustix::process::nice(NICE);
    let limits = [
        ("memory", Resource::As, RENDER_MEMORY_BYTES),
        ("processor time", Resource::Cpu, RENDER_LIFE_CPU_SECONDS),
        // A memory image would contain the text of a document.
        ("memory images", Resource::Core, 0),
        ("file sizes", Resource::Fsize, 0),
        ("files", Resource::Nofile, 3),
    ];
    set_limits(limits)
}

fn set_limits<const N: usize>(limits: [(&'static str, Resource, u64); N]) -> Result<(), SandboxError> {
    limits.into_iter().try_for_each(|(what, resource, most)| {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit).map_err(|error| SandboxError::Limit {
            what,
            source: error.into(),
        })
    })
}

/// Allows the processor time of one more request, counted from what the process has used. At the limit the system ends the
/// process.
pub(crate) fn allow_time(used_seconds: u64) -> Result<(), SandboxError> {
    let maximum = getrlimit(Resource::Cpu).maximum;
    let wanted = used_seconds.saturating_add(1 + RENDER_CPU_SECONDS);
    let current = Some(maximum.map_or(wanted, |most| wanted.min(most)));
    setrlimit(Resource::Cpu, Rlimit { current, maximum }).map_err(|error| SandboxError::Limit {
        what: "processor time",
        source: error.into(),
    })
}

/// Restricts the system calls of all threads. Cannot be undone.
pub(crate) fn restrict_system_calls() -> Result<(), SandboxError> {
    let broken = |error: String| SandboxError::SystemCalls(error);
    let arch = std::env::consts::ARCH
        .try_into()
        .map_err(|error: seccompiler::BackendError| broken(error.to_string()))?;
    let rules = rules().map_err(|error| broken(error.to_string()))?;
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)
        .map_err(|error| broken(error.to_string()))?;
    let program: BpfProgram = filter
        .try_into()
        .map_err(|error: seccompiler::BackendError| broken(error.to_string()))?;
    apply_filter_all_threads(&program).map_err(|error| broken(error.to_string()))
}

/// Limits a process that becomes pandoc: no file can be written, and no connection made. It may read its own files.
pub(crate) fn limit_converter() -> Result<(), SandboxError> {
    let _ = rustix::process::nice(NICE);
    let limits = [
        ("memory", Resource::As, CONVERSION_MEMORY_BYTES),
        ("processor time", Resource::Cpu, CONVERSION_CPU_SECONDS),
        ("memory images", Resource::Core, 0),
        ("file sizes", Resource::Fsize, 0),
        ("files", Resource::Nofile, 64),
    ];
    set_limits(limits)?;
    let broken = |error: String| SandboxError::SystemCalls(error);
    let arch = std::env::consts::ARCH
        .try_into()
        .map_err(|error: seccompiler::BackendError| broken(error.to_string()))?;
    let rules: Rules = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    let denied = SeccompAction::Errno(libc::EACCES.unsigned_abs());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).map_err(|error| broken(error.to_string()))?;
    let program: BpfProgram = filter
        .try_into()
        .map_err(|error: seccompiler::BackendError| broken(error.to_string()))?;
    apply_filter_all_threads(&program).map_err(|error| broken(error.to_string()))
}

/// Calls that reach the network or another process.
const DENIED: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_io_uring_setup,
    libc::SYS_kill,
];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls that are allowed whatever their arguments: memory, time, and the end of the process. None of them reaches a file,
/// the network or another process.
const ALLOWED: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

fn rules() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let equal = |argument, value| SeccompCondition::new(argument, Width::Dword, Op::Eq, value);
    let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
    let not_executable = || SeccompCondition::new(2, Width::Dword, Op::MaskedEq(executable), 0);
    // Only memory without a file, and none that can be executed.
    let no_file = u64::from(u32::MAX);
    rules.insert(
        libc::SYS_mmap,
        vec![SeccompRule::new(vec![not_executable()?, equal(4, no_file)?])?],
    );
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![not_executable()?])?]);
    rules.insert(libc::SYS_read, vec![SeccompRule::new(vec![equal(0, 0)?])?]);
    rules.insert(
        libc::SYS_write,
        vec![
            SeccompRule::new(vec![equal(0, 1)?])?,
            SeccompRule::new(vec![equal(0, 2)?])?,
        ],
    );
    // An abort, and the processor time of a request, concern this process only.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![equal(0, own)?])?]);
    let processor_time = u64::from(libc::RLIMIT_CPU);
    rules.insert(
        libc::SYS_prlimit64,
        vec![SeccompRule::new(vec![equal(0, 0)?, equal(1, processor_time)?])?],
    );
    Ok(rules)
}
