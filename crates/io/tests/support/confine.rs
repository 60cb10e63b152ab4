//! Children that are confined as containers and ordinary users are: the same test binary again, under a seccomp filter or a small memory-lock limit.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Says to the child what it is.
pub(crate) const ROLE: &str = "SQUALL_IO_TEST_ROLE";

/// This test binary again, to run only the test `name`, with its output uncaptured.
pub(crate) fn child(name: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

/// Makes the child fail in system call `number` with `errno`, as a container's seccomp profile does.
pub(crate) fn forbid(command: &mut Command, number: libc::c_long, errno: i32) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // The architecture is not looked at: the child is this very binary, which makes native calls only.
    let program = [
        // Load the number of the call, which is the first field of `seccomp_data`.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        // If it is the forbidden one go on, otherwise skip one.
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: number as u32,
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: `prctl` with these options demands integers, and for the second a pointer to a filter program that is valid during the call:
        // `program` lives to the end of this block and points to the array that this closure owns, which the kernel only reads.
        let results = unsafe {
            [
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0),
            ]
        };
        if results == [0, 0] { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: `pre_exec` demands a closure that does only what is allowed between fork and exec: it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(install) };
}

/// Becomes a user whose locked memory is limited to `bytes`. `false`: this machine does not let us.
pub(crate) fn limit_locked_memory(bytes: u64) -> bool {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: `setrlimit` demands a pointer to a limit, valid during the call; `geteuid` and `setuid` take no pointers. The child does nothing
    // else that depends on its user.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) == 0 && (libc::geteuid() != 0 || libc::setuid(65_534) == 0) }
}
