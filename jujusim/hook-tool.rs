//! A hook tool: sends its call to the unit agent's socket and prints the answer.
//!
//! A hook starts about twenty of these. A program with the C library takes 1 ms to start, ten times
//! as long as the rest of the call, so this one has no library. `build.rs` compiles it;
//! `src/wire.rs` is the other side.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::ffi::CStr;

// At the start of a program the stack holds the number of arguments, the arguments, a null, and the
// environment.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start: mov rdi, rsp", "call {main}", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start: mov x0, sp", "bl {main}", main = sym main);

#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const SOCKET: usize = 41;
    pub const CONNECT: usize = 42;
    pub const SEND: usize = 44;
    pub const SHUTDOWN: usize = 48;
    pub const EXIT: usize = 231;
    pub const GETCWD: usize = 79;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const SOCKET: usize = 198;
    pub const CONNECT: usize = 203;
    pub const SEND: usize = 206;
    pub const SHUTDOWN: usize = 210;
    pub const EXIT: usize = 94;
    pub const GETCWD: usize = 17;
}

#[cfg(target_arch = "x86_64")]
fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: the callers pass memory that is valid for the call.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") 0, in("r9") 0, lateout("rcx") _, lateout("r11") _);
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: the callers pass memory that is valid for the call.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c,
            in("x3") d, in("x4") 0, in("x5") 0);
    }
    result
}

// What compiled Rust expects of a C library. Volatile, because the compiler would replace the loops
// by calls of these functions.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    // SAFETY: the text ends with a zero.
    (0..).take_while(|at| unsafe { text.add(*at).read_volatile() } != 0).count()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    // SAFETY: both have this length.
    let differ = |at| unsafe { one.add(at).read_volatile() != other.add(at).read_volatile() };
    (0..length).any(differ).into()
}

#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    exit(101)
}

fn exit(code: usize) -> ! {
    loop {
        call(number::EXIT, code, 0, 0, 0);
    }
}

/// Writes everything. Ignores errors: the reader may have closed its end.
fn write(to: usize, text: &[u8]) {
    all(text, |rest| call(number::WRITE, to, rest.as_ptr() as usize, rest.len(), 0));
}

/// As [`write`], but a closed socket does not kill the process.
fn send(to: usize, text: &[u8]) {
    const NO_SIGNAL: usize = 0x4000;
    all(text, |rest| call(number::SEND, to, rest.as_ptr() as usize, rest.len(), NO_SIGNAL));
}

fn all(mut text: &[u8], write: impl Fn(&[u8]) -> isize) {
    while !text.is_empty()
        && let count @ 1.. = write(text)
    {
        text = text.get(count as usize..).unwrap_or_default();
    }
}

/// Reads until the buffer is full or the input ends.
fn read(from: usize, buffer: &mut [u8]) -> usize {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..) {
        match call(number::READ, from, rest.as_mut_ptr() as usize, rest.len(), 0) {
            count @ 1.. => length += count as usize,
            _ => break,
        }
    }
    length
}

fn fail(words: &[&[u8]]) -> ! {
    write(2, b"ERROR ");
    for word in words {
        write(2, word);
    }
    write(2, b"\n");
    exit(1)
}

/// Strings up to a null pointer.
struct Strings(*const *const u8);

impl Iterator for Strings {
    type Item = &'static CStr;

    fn next(&mut self) -> Option<&'static CStr> {
        // SAFETY: the kernel ends the pointers to its strings with a null, where this stays.
        unsafe {
            let string = *self.0;
            (!string.is_null()).then(|| {
                self.0 = self.0.add(1);
                CStr::from_ptr(string.cast())
            })
        }
    }
}

fn variable(environment: *const *const u8, name: &[u8]) -> &'static CStr {
    Strings(environment)
        .find_map(|line| {
            let value = line.to_bytes_with_nul().strip_prefix(name)?.strip_prefix(b"=")?;
            CStr::from_bytes_with_nul(value).ok()
        })
        .unwrap_or_else(|| fail(&[name, b" not set"]))
}

fn connect(path: &CStr) -> usize {
    const UNIX: u16 = 1;
    const STREAM: usize = 1;
    #[repr(C)]
    struct Address {
        family: u16,
        path: [u8; 108],
    }
    static mut ADDRESS: Address = Address { family: UNIX, path: [0; 108] };
    // SAFETY: there is one thread.
    let address = unsafe { &mut *(&raw mut ADDRESS) };
    for (to, from) in address.path.iter_mut().zip(path.to_bytes_with_nul()) {
        // SAFETY: a reference is valid. Volatile, because a copy would need the C library.
        unsafe { core::ptr::write_volatile(to, *from) };
    }
    let socket = call(number::SOCKET, UNIX.into(), STREAM, 0, 0) as usize;
    let error = call(
        number::CONNECT,
        socket,
        (&raw const *address) as usize,
        core::mem::size_of::<Address>(),
        0,
    );
    if error != 0 {
        let reason: &[u8] = match error {
            -2 => b"no such file or directory",
            -111 => b"connection refused",
            _ => b"not possible",
        };
        fail(&[b"dial unix ", path.to_bytes(), b": connect: ", reason]);
    }
    socket
}

extern "C" fn main(stack: *const usize) -> ! {
    /// As long as a path in Linux.
    static mut DIRECTORY: [u8; 4096] = [0; 4096];
    /// Takes memory only where it is written. Standard input may have this length.
    static mut BUFFER: [u8; 1 << 26] = [0; 1 << 26];
    // SAFETY: the kernel's layout, see `_start`; there is one thread.
    let (arguments, environment, directory, buffer) = unsafe {
        let count = *stack;
        let arguments = stack.add(1).cast::<*const u8>();
        (arguments, arguments.add(count + 1), &mut *(&raw mut DIRECTORY), &mut *(&raw mut BUFFER))
    };
    let context = variable(environment, b"JUJU_CONTEXT_ID");
    let path = variable(environment, b"JUJU_AGENT_SOCKET_ADDRESS");
    let length = call(number::GETCWD, directory.as_mut_ptr() as usize, directory.len(), 0, 0).max(0)
        as usize;
    let directory = directory.get(..length).unwrap_or_default();

    let mut stdin = None;
    loop {
        let socket = connect(path);
        let count = Strings(arguments).count() as u32;
        send(socket, &count.to_le_bytes());
        send(socket, context.to_bytes_with_nul());
        send(socket, directory);
        for argument in Strings(arguments) {
            send(socket, argument.to_bytes_with_nul());
        }
        if let Some(length) = stdin {
            send(socket, b"<");
            send(socket, buffer.get(..length).unwrap_or_default());
        }
        const WRITING: usize = 1;
        call(number::SHUTDOWN, socket, WRITING, 0, 0);

        let mut head = [0; 5];
        if read(socket, &mut head) < head.len() {
            fail(&[b"connection is shut down"]);
        }
        let [code, length @ ..] = head;
        const WANTS_STDIN: u8 = 255;
        if code == WANTS_STDIN {
            let length = read(0, buffer);
            if length == buffer.len() {
                fail(&[b"jujusim does not model standard input of 64 MiB"]);
            }
            stdin = Some(length);
            continue;
        }
        let mut rest = u32::from_le_bytes(length) as usize;
        loop {
            let length = read(socket, buffer);
            let text = buffer.get(..length).unwrap_or_default();
            let (stdout, stderr) = text.split_at_checked(rest).unwrap_or((text, b""));
            write(1, stdout);
            write(2, stderr);
            rest -= stdout.len();
            if length < buffer.len() {
                exit(code.into());
            }
        }
    }
}
