# SPDX-License-Identifier: Apache-2.0
"""Run a command under another Debian kernel, in a virtual machine that sees this machine's files.

The kernel's package is unpacked into a cache and never installed: /boot and
/lib/modules stay untouched. The guest's root is the host's, read-only, under an
overlay in the guest's memory, so whatever the command writes vanishes with the guest.
Output and exit code come back over virtio ports. ``init`` is the guest's side.

``python -m tests.vm.module`` fetches the kernels, which the tests can't: they have no
network but their own.

Needs Debian's qemu-system-x86, busybox-static and kmod. KVM is used where it works.
"""

import contextlib
import lzma
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.vm import ticks

KERNELS = {"linux-image-amd64": "6.1", "linux-image-6.12-amd64": "6.12"}
"""Packages, and the kernel that each stands for in Debian 12."""

CACHE = Path(__file__).parents[2] / ".cache/kernels"

# Before these the guest can't see the host's files. Debian builds nearly all of them as modules.
MODULES = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay")
P9_OPTIONS = "trans=virtio,version=9p2000.L,access=any,msize=512000"
# tsc: under emulation the kernel falls back to the HPET, a trap to QEMU for every reading of
# the clock. no_timer_check: a timer that waits for the host's processor is not broken. panic: with
# QEMU's -no-reboot, a panic ends the machine at once. fstab: for systemd, as the host's disks are
# not there.
KERNEL_OPTIONS = (
    "console=ttyS0 loglevel=4 panic=-1 mitigations=off tsc=reliable no_timer_check nokaslr fstab=no"
)
SYSTEMD = "/lib/systemd/systemd"
NO_ANSWER = 125
"""The exit code when the machine ended, or was ended for being late, without one."""


class KernelUnavailableError(Exception):
    """There is no such kernel for this machine; the message says why."""


def kernel(package: str) -> Path:
    """Where the kernel that ``package`` (a linux-image meta-package) stands for is unpacked.

    Raises:
        KernelUnavailableError: it is for other processors, or apt knows no such package.
    """
    if platform.machine() != "x86_64":
        raise KernelUnavailableError(f"{package} is for x86-64, this is {platform.machine()}")
    depends = subprocess.run(
        ["apt-cache", "depends", package], stdout=subprocess.PIPE, text=True, check=False
    ).stdout
    concrete = next(
        (word for word in depends.split() if word.startswith("linux-image-") and word != package),
        None,
    )
    if concrete is None:
        raise KernelUnavailableError(f"this distribution's packages have no {package}")
    return CACHE / concrete.removeprefix("linux-image-")


def fetch(root: Path) -> None:
    """Download and unpack a kernel where `kernel` says it is; nothing to do if it is there."""
    version = root.name
    if root.exists():
        return
    with unpacked([f"linux-image-{version}"], root) as new:
        subprocess.run(["depmod", "-b", str(new), version], check=True)
        image = (new / f"boot/vmlinuz-{version}").read_bytes()
        # 6.1 is packed with xz, four of an emulated boot's nine seconds; zstd, in 6.12, is quick.
        xz = image.find(b"\xfd7zXZ\0")
        plain = lzma.LZMADecompressor().decompress(image[xz:]) if xz >= 0 else image
        (new / "kernel").write_bytes(plain)


@contextlib.contextmanager
def unpacked(packages: Sequence[str], place: Path) -> Iterator[Path]:
    """Download packages and unpack them, for the body to finish; then they are at ``place``.

    Renamed when complete: an interrupted download leaves nothing that looks like one.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        directory, new = Path(name), Path(name) / "root"
        # The user _apt may not enter a temporary directory of ours.
        apt_get = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"]
        subprocess.run([*apt_get, "download", *packages], cwd=directory, check=True)
        for package in directory.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(new)], check=True)
        yield new
        new.rename(place)


def run_in_vm(
    root: Path,
    command: Sequence[str],
    timeout: float,
    *,
    counted: bool = False,
    systemd: bool = False,
) -> tuple[int, str]:
    """Boot the kernel unpacked in ``root``, run ``command``; answer its exit code and output.

    Args:
        root: see `kernel`.
        command: what to run, from this directory.
        timeout: in seconds, booting included.
        counted: the machine has one processor, and its clock counts the instructions of that,
            one a nanosecond: what is timed there is how many it took.
        systemd: it is the first process, and the command one of its services.

    Raises:
        FileNotFoundError: a program is missing.
    """
    for program in ("qemu-system-x86_64", "busybox", "depmod"):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            raise FileNotFoundError(f"{program} is missing: scripts/install test")
    with tempfile.TemporaryDirectory() as name:
        initramfs, log, answer = (Path(name, part) for part in ("initramfs", "log", "answer"))
        emulated = counted or not _kvm_works()
        _write_initramfs(initramfs, root, command, SYSTEMD if systemd else "", emulated=emulated)
        process = subprocess.Popen(
            _qemu(root, initramfs, log, answer, counted=counted, emulated=emulated),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            said = process.communicate()[0].decode(errors="replace")
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        if status := answer.read_text() if answer.exists() else "":
            return int(status), said
        kernel_said = log.read_text(errors="replace")[-3000:] if log.exists() else ""
        return NO_ANSWER, f"{said}\n(no answer from the machine; its kernel said)\n{kernel_said}"


def _qemu(
    root: Path, initramfs: Path, log: Path, answer: Path, *, counted: bool, emulated: bool
) -> list[str]:
    # setpriv: the machine ends with us even if we are killed. nice: it keeps a processor busy, and
    # tests that run beside it are to have what they need: nine tenths, where there are two.
    qemu = ["nice", "-n", "10", "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]
    qemu += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "q35"]
    qemu += ["-m", "2G", "-smp", "1" if counted else "2"]
    options = KERNEL_OPTIONS
    if counted:
        qemu += ["-accel", "tcg,thread=single", "-cpu", "Nehalem", "-icount", "shift=0,sleep=off"]
    elif not emulated:
        qemu += ["-accel", "kvm", "-cpu", "host"]
    else:
        # With a thread per processor it is little faster, and a kernel that patches its own code
        # while another processor runs it was seen to crash.
        # A plain processor: AVX is emulated far more slowly than what programs do without it.
        qemu += ["-accel", "tcg,thread=single", "-cpu", "Nehalem"]
        options += f" tsc_early_khz={ticks.kilohertz()}"
    qemu += ["-kernel", str(root / "kernel"), "-initrd", str(initramfs)]
    qemu += ["-append", options, "-serial", f"file:{log}", "-device", "virtio-serial-pci"]
    for number, path in enumerate(("/proc/self/fd/1", answer), 1):
        qemu += ["-chardev", f"file,id=port{number},path={path}"]
        qemu += ["-device", f"virtserialport,chardev=port{number},nr={number}"]
    qemu += ["-fsdev", "local,id=root,path=/,security_model=none,multidevs=remap,readonly=on"]
    return [*qemu, "-device", "virtio-9p-pci,fsdev=root,mount_tag=hostroot"]


def _needed_modules(root: Path) -> Iterator[Path]:
    """MODULES and what they depend on, in the order to load them in; built-in ones left out."""
    show = ["modprobe", "-d", str(root), "-S", root.name, "-C", "/var/empty"]
    lines = subprocess.run(
        [*show, "--show-depends", "-a", *MODULES], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()
    return (Path(at) for at in dict.fromkeys(line.split()[1] for line in lines if "insmod" in line))


def _write_initramfs(
    image: Path, root: Path, command: Sequence[str], systemd: str, *, emulated: bool
) -> None:
    settings = {
        "path": f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin",
        "directory": str(Path.cwd()),
        "modules": str(root / "lib/modules" / root.name),
        "options": P9_OPTIONS,
        "systemd": systemd,
        "emulated": "yes" if emulated else "",
    }
    tree = image.with_suffix(".d")
    for directory in ("bin", "modules", "vm"):
        (tree / directory).mkdir(parents=True)
    lines = (f"{key}={shlex.quote(value)}\n" for key, value in settings.items())
    (tree / "vm/settings").write_text("".join(lines))
    (tree / "vm/command").write_text(f"exec {shlex.join(command)}\n")
    shutil.copy2("/bin/busybox", tree / "bin")
    shutil.copy(Path(__file__).with_name("init"), tree / "init")
    (tree / "init").chmod(0o755)
    for number, module in enumerate(_needed_modules(root)):
        # Busybox's insmod can't unpack.
        content = module.read_bytes()
        if module.suffix == ".xz":
            content = lzma.decompress(content)
        (tree / f"modules/{number:02}.ko").write_bytes(content)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with image.open("wb") as file:
        cpio = ["busybox", "cpio", "-o", "-H", "newc"]
        subprocess.run(cpio, cwd=tree, input=names.encode(), stdout=file, check=True)


def _kvm_works() -> bool:
    """Some virtual machines have a /dev/kvm that opens, then hangs: ask the processor too."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and ("vmx" in flags or "svm" in flags)
