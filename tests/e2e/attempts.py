"""What a hostile function tries, from inside its container. Served by test_isolation; each attempt is a function here.

An attempt returns what it got hold of, as text; "" or an OSError means that it was refused or saw nothing.
"""

# mypy: ignore-errors
# It is a user's program, and it lies about types where that is the attempt.

import contextlib
import ctypes
import errno
import glob
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

import zygo

app = zygo.App("attempts")
libc = ctypes.CDLL(None, use_errno=True)


def call(number, *arguments):
    """A raw system call; its result. Raises OSError."""
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def mount(source, target, kind, flags=0):
    if libc.mount(source, target, kind, ctypes.c_ulong(flags), None) < 0:
        raise OSError(ctypes.get_errno(), "mount")
    return "mounted"


def read(path):
    with open(path, errors="replace") as file:
        return file.read(1000)


def write(path, text="1"):
    with open(path, "w") as file:
        file.write(text)
    return f"wrote to {path}"


def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as sock:
        sock.settimeout(3)
        sock.connect(address)
        return "connected"


def in_child(code):
    """Run `code` in a forked child; what it returns, as text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, str(code()).encode())
        except OSError as error:
            os.write(writer, b"" if error.errno else b"?")
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader) as file:
        return file.read()


# -- files -------------------------------------------------------------------------------------------------------------


def read_host_file(path):
    return read(path)


def list_host_directory(path):
    return " ".join(os.listdir(path))


def read_shadow():
    return read("/etc/shadow")


def read_other_revisions():
    found = [p for p in glob.glob("/.zygo/revisions/*") + glob.glob("/.zygo/old/*") + glob.glob("/.zygo/newroot/*")]
    return " ".join(found)


def read_through_proc_root():
    return " ".join(p for p in glob.glob("/proc/*/root/home/*") + glob.glob("/proc/*/cwd/home/*"))


def inherited_files():
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{fd}")
            if target.startswith("/") and not target.startswith(("/proc/", "/dev/null")):
                found.append(target)
    return " ".join(found)


def write_to_host_directories():
    wrote = []
    for path in ("/usr/bin/zygo-was-here", "/usr/lib/zygo-was-here", "/etc/zygo-was-here", "/zygo-was-here"):
        with contextlib.suppress(OSError):
            wrote.append(write(path))
    return " ".join(wrote)


def write_to_interpreter():
    with contextlib.suppress(OSError):
        return write(os.path.join(os.path.dirname(os.__file__), "zygo_was_here.py"))
    return ""


def make_device():
    os.mknod("/tmp/disk", 0o600 | 0o060000, os.makedev(254, 0))
    return "made"


def open_devices():
    opened = []
    for name in ("mem", "kmsg", "port", "vda", "sda", "fuse", "kvm", "net/tun", "vsock", "loop-control"):
        with contextlib.suppress(OSError):
            os.close(os.open(f"/dev/{name}", os.O_RDWR))
            opened.append(name)
    return " ".join(opened)


def open_by_handle():
    return call(304, 0, 0, 0)


# -- processes ---------------------------------------------------------------------------------------------------------


def see_other_processes():
    mine = {1, os.getpid()}
    return " ".join(n for n in os.listdir("/proc") if n.isdigit() and int(n) not in mine)


def signal_host_process(pid):
    os.kill(int(pid), 0)
    return "it is there"


def signal_everyone():
    os.kill(-1, signal.SIGKILL)
    return ""  # whoever can be reached is one's own


def trace_process():
    return call(101, 16, 1, 0, 0)


def read_memory_of_process():
    return call(310, 1, 0, 0, 0, 0, 0)


def steal_descriptor():
    return (
        call(438, os.pidfd_open(1), 0, 0) if os.getpid() != 1 else in_child(lambda: call(438, os.pidfd_open(1), 1, 0))
    )


def raise_priority():
    os.nice(-10)
    return "raised"


def escape_oom():
    return write("/proc/self/oom_score_adj", "-1000")


# -- mounts and namespaces ---


def mount_tmpfs():
    return mount(b"none", b"/mnt", b"tmpfs") if os.path.isdir("/mnt") else mount(b"none", b"/tmp", b"tmpfs")


def mount_proc():
    return mount(b"proc", b"/proc", b"proc")


def mount_sysfs():
    return mount(b"sysfs", b"/tmp", b"sysfs")


def remount_usr_writable():
    return mount(None, b"/usr", None, 0x20 | 0x1000)


def unmount_proc():
    if libc.umount2(b"/proc", 2) < 0:
        raise OSError(ctypes.get_errno(), "umount")
    return "unmounted"


def unmount_root():
    if libc.umount2(b"/root", 2) < 0:
        raise OSError(ctypes.get_errno(), "umount")
    return "unmounted"


def pivot_root():
    return call(155, ctypes.c_char_p(b"/tmp"), ctypes.c_char_p(b"/tmp"))


def change_root():
    os.chroot("/tmp")
    return "changed"


def new_mount_api():
    done = []
    for number, arguments in (
        (428, (-100, ctypes.c_char_p(b"/"), 1)),
        (430, (ctypes.c_char_p(b"tmpfs"), 0)),
        (433, (-100, ctypes.c_char_p(b"/"), 0)),
        (442, (-100, ctypes.c_char_p(b"/usr"), 0, 0, 0)),
    ):
        with contextlib.suppress(OSError):
            done.append(str(call(number, *arguments)))
    return " ".join(done)


def unshare_namespaces():
    got = []
    for flag in (0x10000000, 0x00020000, 0x20000000, 0x40000000, 0x08000000, 0x04000000, 0x02000000, 0x80):
        if in_child(lambda flag=flag: call(272, flag)):
            got.append(hex(flag))
    return " ".join(got)


def clone_namespaces():
    def clone():
        pid = call(56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        return "cloned"

    return in_child(clone)


def clone3_namespaces():
    def clone():
        arguments = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, signal.SIGCHLD)
        if call(435, ctypes.cast(arguments, ctypes.c_void_p), 88) == 0:
            os._exit(0)
        return "cloned"

    return in_child(clone)


def enter_namespaces():
    entered = []
    for kind in os.listdir("/proc/1/ns"):
        with contextlib.suppress(OSError):
            fd = os.open(f"/proc/1/ns/{kind}", os.O_RDONLY)
            call(308, fd, 0)
            entered.append(kind)
    return " ".join(entered)


# -- privileges --------------------------------------------------------------------------------------------------------


def hold_capabilities():
    status = dict(line.split(":\t") for line in read_all("/proc/self/status").splitlines() if ":\t" in line)
    held = {k: v for k, v in status.items() if k.startswith("Cap") and int(v, 16)}
    wrong = [] if status["NoNewPrivs"] == "1" and status["Seccomp"] == "2" else ["no filter"]
    return " ".join([*map(str, held.items()), *wrong])


def read_all(path):
    with open(path) as file:
        return file.read()


def raise_capabilities():
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(0xFFFFFFFF, 0xFFFFFFFF, 0, 0x1FF, 0x1FF, 0)
    if libc.capset(header, data) < 0:
        raise OSError(ctypes.get_errno(), "capset")
    return "raised"


def ambient_capability():
    if libc.prctl(47, 2, 21, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl")
    return "raised"


def gain_by_executing():
    done = subprocess.run(["/bin/grep", "CapEff", "/proc/self/status"], capture_output=True, text=True, check=True)
    return "" if done.stdout.split()[1] == "0" * 16 else done.stdout


def become_another_user():
    got = []
    for uid in (1, 33, 1000, 65534):
        if in_child(lambda uid=uid: os.setresuid(uid, uid, uid) or "became"):
            got.append(str(uid))
    return " ".join(got)


def add_groups():
    os.setgroups([0, 4, 6, 27])
    return "added"


def map_users():
    return write("/proc/self/uid_map", "0 0 4294967295")


def give_file_away():
    write("/tmp/mine")
    os.chown("/tmp/mine", 33, 33)
    return "given"


# -- the kernel --------------------------------------------------------------------------------------------------------


def write_proc_sys():
    wrote = []
    for name in (
        "kernel/core_pattern",
        "kernel/hostname",
        "kernel/modprobe",
        "vm/overcommit_memory",
        "fs/suid_dumpable",
    ):
        with contextlib.suppress(OSError):
            wrote.append(write(f"/proc/sys/{name}", read_all(f"/proc/sys/{name}")))
    return " ".join(wrote)


def press_sysrq():
    return write("/proc/sysrq-trigger", "h")


def write_sys():
    wrote = []
    for path in (
        "/sys/kernel/uevent_helper",
        "/sys/power/state",
        "/sys/fs/cgroup/memory/tasks",
        "/sys/fs/cgroup/cgroup.procs",
    ):
        with contextlib.suppress(OSError):
            wrote.append(write(path, ""))
    return " ".join(wrote)


def forbidden_calls():
    """Every system call that a container has no business with must fail for want of permission, not of arguments."""
    numbers = {
        "add_key": 248, "request_key": 249, "keyctl": 250, "bpf": 321, "io_uring_setup": 425, "perf_event_open": 298,
        "userfaultfd": 323, "kexec_load": 246, "init_module": 175, "finit_module": 313, "delete_module": 176,
        "reboot": 169, "swapon": 167, "swapoff": 168, "settimeofday": 164, "clock_settime": 227, "clock_adjtime": 305,
        "acct": 163, "quotactl": 179, "iopl": 172, "ioperm": 173, "syslog": 103, "sethostname": 170, "vhangup": 153,
        "name_to_handle_at": 303, "open_by_handle_at": 304, "move_mount": 429, "fsconfig": 431, "fsmount": 432,
        "kcmp": 312, "process_vm_writev": 311, "ptrace": 101, "lookup_dcookie": 212, "pidfd_getfd": 438,
    }  # fmt: skip
    allowed = []
    for name, number in numbers.items():
        try:
            call(number, 0, 0, 0, 0, 0)
            allowed.append(name)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS):
                allowed.append(f"{name}:{errno.errorcode.get(error.errno)}")
    return " ".join(allowed)


def other_architecture():
    """getpid of i386 through int 0x80: calls under other numbers would go round the filter."""
    code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"

    def run():
        memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        memory.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
        return "" if result in (-errno.EPERM, -errno.ENOSYS) else f"{result}"

    return in_child(run)


# -- the network -------------------------------------------------------------------------------------------------------


def raw_socket():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return "opened"


def packet_socket():
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    return "opened"


def hypervisor_socket():
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    return "opened"


def host_loopback(port):
    return connect(socket.AF_INET, ("127.0.0.1", int(port)))


def host_loopback_through_gateway(port):
    return connect(socket.AF_INET, ("10.0.2.2", int(port)))


def host_abstract_socket(name):
    return connect(socket.AF_UNIX, "\0" + name)


def control_socket(path):
    return connect(socket.AF_UNIX, path)


def change_network():
    request = struct.pack("16sH14s", b"lo", 0, b"")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        import fcntl

        fcntl.ioctl(sock, 0x8914, request)
    return "changed"


# -- the server, through what it gave us ---


def flood_control_socket():
    """Send the server what it does not expect, on every descriptor that takes messages."""
    sent = 0
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            sock = socket.socket(fileno=os.dup(fd))
            if sock.type == socket.SOCK_SEQPACKET:
                sock.setblocking(False)
                for number in range(20_000):
                    with contextlib.suppress(BlockingIOError):
                        sock.send(b'{"type":"noise","n":%d}' % number)
                        sent += 1
            sock.close()
    print(f"sent {sent} messages", flush=True)
    return ""


def lie_on_control_socket():
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            sock = socket.socket(fileno=os.dup(fd))
            if sock.type == socket.SOCK_SEQPACKET:
                for text in (b'{"type":"exited","id":"c-1","status":0}', b"[[[", b"\xff" * 1000, b'{"type":"ready"}'):
                    with contextlib.suppress(OSError):
                        sock.send(text)
            sock.close()
    return ""


def flood_output():
    for _ in range(200):
        os.write(1, b"x" * 100_000)
    os.write(1, b"\n\xff\x00\x1b]0;title\x07\n" * 1000)
    return ""


def environment_of_the_server():
    found = [name for name in os.environ if name.startswith("HOST_SECRET")]
    for path in glob.glob("/proc/*/environ"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            found += [path] if b"HOST_SECRET" in file.read() else []
    return " ".join(found)


# -- what one container may do to the machine ---


def fork_bomb():
    """How many threads it got (they count as processes do, and cost less to try); they end again."""
    threading.stack_size(65536)
    done, threads = threading.Event(), []
    try:
        while len(threads) < 20_000:
            thread = threading.Thread(target=done.wait)
            thread.start()
            threads.append(thread)
    except RuntimeError:
        pass
    done.set()
    return str(len(threads))


# -- the doors ---------------------------------------------------------------------------------------------------------


@app.function(scaledown_window=2)
@zygo.fastapi_endpoint(method="POST")
def attempt(name: str, argument: str = ""):
    function = globals()[name]
    try:
        return {"got": str(function(argument) if argument else function())}
    except OSError as error:
        return {"got": "", "refused": f"{type(error).__name__}: {error}"}


state = {"token": ""}
lock = threading.Lock()


def leave_traces(token: str):
    """Write wherever it can be written; where it was."""
    state["token"] = os.environ["TOKEN"] = token
    places = ["/tmp", "/root", "/dev/shm", "/run", "/var/tmp", "/home", os.path.dirname(__file__)]
    places += [p for p in sys.path if "site-packages" in p] + [os.path.dirname(zygo.__file__)]
    done = []
    for place in places:
        with contextlib.suppress(OSError):
            write(f"{place}/trace-{token}", token)
            done.append(place)
    with contextlib.suppress(OSError), open(__file__, "a") as file:
        file.write(f"# {token}\n")
    return done


def find_traces(token: str):
    found = [state["token"]] if state["token"] else []
    found += [os.environ["TOKEN"]] if "TOKEN" in os.environ else []
    for place in ["/tmp", "/root", "/dev/shm", "/run", "/var/tmp", "/home", *sys.path]:
        found += glob.glob(f"{place}/trace-*")
    if token in read_all(__file__):
        found.append(__file__)
    return found


@app.function(scaledown_window=60)
@zygo.fastapi_endpoint(method="POST")
def one(token: str):
    return {"id": os.environ["ZYGO_CONTAINER_ID"], "wrote": leave_traces(token), "sees": find_traces(token)}


@app.function(scaledown_window=60)
@zygo.fastapi_endpoint()
def other(token: str):
    return {"id": os.environ["ZYGO_CONTAINER_ID"], "sees": find_traces(token)}
