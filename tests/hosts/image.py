"""The roots and disks that hosts boot: Debian's packages by mmdebstrap, built once, kept in the cache under a digest of what went in.

A root in the cache is never booted and never written again: hosts get copies of it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from hosts import cache, sources
from hosts.overlay import Overlay

FORMAT = 1  # of what this module makes of the same packages; a change of it builds everything anew

# What the appliance may rely on (systemd, kmod, iptables) and what it takes to boot and to log in. No Python, no dbus, no ps.
HOST_PACKAGES = ("systemd", "systemd-sysv", "kmod", "iptables", "passwd", "login", "mount")
# What only tests use: busybox-static is one file, /bin/busybox, linked to no other name, so nothing of the appliance finds it by accident.
# Tests make container images of it, and have ip, wget, nc, ps by `busybox ip`.
TEST_PACKAGES = ("busybox-static",)
VM_PACKAGES = ("linux-image-cloud-amd64", "initramfs-tools", "udev", "openssh-server")
STOCK_PACKAGES = ("docker.io", "containerd")
# What Debian installs beside a kernel with AppArmor, and beside docker.io: it loads Docker's profile for containers.
APPARMOR_PACKAGES = ("apparmor",)
# In Python, with D-Bus and polkit: on no other host of the tests.
FIREWALLD_PACKAGES = ("firewalld", "nftables")
# What people have around Docker on a host that they work on: shells and their completions, manual pages, other ways to become a user.
PEOPLE_PACKAGES = ("bash-completion", "cron", "dbus", "fish", "iproute2", "man-db", "nftables", "procps", "sudo", "zsh")
# What a host of a fleet is reached by, and what its image brings to set itself up at its first boot. The one has no Python.
SSH_PACKAGES = ("curl", "openssh-server")
CLOUD_PACKAGES = ("cloud-init", "curl", "iproute2")

_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")
_LEFT_OUT_FOR_PEOPLE = tuple(pattern for pattern in _LEFT_OUT if "/man/" not in pattern)

_EVERY_ROOT = r"""
: > "$1/etc/machine-id"
: > "$1/etc/resolv.conf"
echo host > "$1/etc/hostname"
printf '127.0.0.1\tlocalhost host\n::1\tlocalhost\n' > "$1/etc/hosts"
chroot "$1" passwd --quiet --delete root
rm -f "$1/etc/systemd/system/timers.target.wants/"*
"""
_STOCK = 'chroot "$1" systemctl disable docker.service docker.socket containerd.service\n'
_VM_BEFORE = r"""
mkdir -p "$1/etc/initramfs-tools/conf.d"
printf 'virtio_pci\nvirtio_blk\next4\n' > "$1/etc/initramfs-tools/modules"
printf 'MODULES=list\nCOMPRESS=lz4\n' > "$1/etc/initramfs-tools/conf.d/skim-test"
"""
_VM = r"""
printf '/dev/vda / ext4 defaults 0 1\n' > "$1/etc/fstab"
printf '[Match]\nName=en* eth*\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n' > "$1/etc/systemd/network/50-wired.network"
chroot "$1" systemctl enable systemd-networkd.service
chroot "$1" systemctl disable systemd-networkd-wait-online.service
for unit in getty@tty1 getty-static serial-getty@ttyS0 systemd-pstore; do  # nobody logs in there, and an emulated machine is slow
    ln -sf /dev/null "$1/etc/systemd/system/$unit.service"
done
"""


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """What a root is made of. `before` and `after` are shell text, run with the root as $1: after the essential packages and at the end."""

    name: str
    suite: str
    packages: tuple[str, ...]
    before: str = ""
    after: str = _EVERY_ROOT
    left_out: tuple[str, ...] = _LEFT_OUT

    @property
    def key(self) -> str:
        """Name and 16 hex digits over all that goes in; versions of packages are as the mirror had them on the day."""
        text = json.dumps([FORMAT, self.suite, self.packages, self.left_out, self.before, self.after])
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


DEBIAN12 = Flavour(name="debian12", suite="bookworm", packages=HOST_PACKAGES + TEST_PACKAGES)
DEBIAN12_STOCK = Flavour(
    name="debian12-stock", suite="bookworm", packages=HOST_PACKAGES + TEST_PACKAGES + STOCK_PACKAGES, after=_EVERY_ROOT + _STOCK
)
DEBIAN13_STOCK = Flavour(
    name="debian13-stock",
    suite="trixie",
    packages=(*HOST_PACKAGES, *TEST_PACKAGES, *STOCK_PACKAGES, "docker-cli"),
    after=_EVERY_ROOT + _STOCK,
)
DEBIAN12_VM = Flavour(
    name="debian12-vm", suite="bookworm", packages=HOST_PACKAGES + TEST_PACKAGES + VM_PACKAGES, before=_VM_BEFORE, after=_EVERY_ROOT + _VM
)
DEBIAN12_VM_STOCK = Flavour(
    name="debian12-vm-stock",
    suite="bookworm",
    packages=HOST_PACKAGES + TEST_PACKAGES + VM_PACKAGES + STOCK_PACKAGES,
    before=_VM_BEFORE,
    after=_EVERY_ROOT + _VM + _STOCK,
)
DEBIAN12_FIREWALLD = Flavour(name="debian12-firewalld", suite="bookworm", packages=HOST_PACKAGES + TEST_PACKAGES + FIREWALLD_PACKAGES)
DEBIAN12_FIREWALLD_STOCK = Flavour(
    name="debian12-firewalld-stock",
    suite="bookworm",
    packages=HOST_PACKAGES + TEST_PACKAGES + FIREWALLD_PACKAGES + STOCK_PACKAGES,
    after=_EVERY_ROOT + _STOCK,
)
DEBIAN12_VM_APPARMOR = Flavour(
    name="debian12-vm-apparmor",
    suite="bookworm",
    packages=HOST_PACKAGES + TEST_PACKAGES + VM_PACKAGES + APPARMOR_PACKAGES,
    before=_VM_BEFORE,
    after=_EVERY_ROOT + _VM,
)
DEBIAN12_VM_APPARMOR_STOCK = Flavour(
    name="debian12-vm-apparmor-stock",
    suite="bookworm",
    packages=HOST_PACKAGES + TEST_PACKAGES + VM_PACKAGES + APPARMOR_PACKAGES + STOCK_PACKAGES,
    before=_VM_BEFORE,
    after=_EVERY_ROOT + _VM + _STOCK,
)
DEBIAN12_PEOPLE = Flavour(
    name="debian12-people", suite="bookworm", packages=HOST_PACKAGES + TEST_PACKAGES + PEOPLE_PACKAGES, left_out=_LEFT_OUT_FOR_PEOPLE
)
DEBIAN12_PEOPLE_STOCK = Flavour(
    name="debian12-people-stock",
    suite="bookworm",
    packages=HOST_PACKAGES + TEST_PACKAGES + PEOPLE_PACKAGES + STOCK_PACKAGES,
    after=_EVERY_ROOT + _STOCK,
    left_out=_LEFT_OUT_FOR_PEOPLE,
)
DEBIAN12_SSH = Flavour(name="debian12-ssh", suite="bookworm", packages=HOST_PACKAGES + TEST_PACKAGES + SSH_PACKAGES)
DEBIAN12_CLOUD = Flavour(name="debian12-cloud", suite="bookworm", packages=HOST_PACKAGES + TEST_PACKAGES + CLOUD_PACKAGES)
_ALL = (
    DEBIAN12,
    DEBIAN12_STOCK,
    DEBIAN12_PEOPLE,
    DEBIAN12_PEOPLE_STOCK,
    DEBIAN12_SSH,
    DEBIAN12_CLOUD,
    DEBIAN13_STOCK,
    DEBIAN12_VM,
    DEBIAN12_VM_STOCK,
    DEBIAN12_VM_APPARMOR,
    DEBIAN12_VM_APPARMOR_STOCK,
    DEBIAN12_FIREWALLD,
    DEBIAN12_FIREWALLD_STOCK,
)
FLAVOURS = {flavour.name: flavour for flavour in _ALL}


class BuildError(Exception):
    """A root that could not be built: what mmdebstrap said last, and where all of it is."""


def root(flavour: Flavour, *, progress: cache.Progress = cache.to_stderr) -> Path:
    """The cached root of `flavour`, built first if need be (half a minute). Read only by agreement. Raises BuildError."""
    roots = cache.directory() / "roots"
    roots.mkdir(exist_ok=True)
    wanted = roots / flavour.key
    if wanted.is_dir():
        return wanted
    with cache.locked(roots / f"{flavour.key}.lock", waiting=lambda: progress(f"{flavour.name}: another run is building it, waiting")):
        if not wanted.is_dir():
            building = roots / f"{flavour.key}.building"
            remove_tree(building)  # of a build that was killed: we hold its lock
            _build(flavour, building, log=roots / f"{flavour.key}.log", progress=progress)
            building.rename(wanted)
    return wanted


def _build(flavour: Flavour, target: Path, *, log: Path, progress: cache.Progress) -> None:
    """mmdebstrap into `target`, in a mount and a process namespace of its own: killed, it leaves neither mount nor process."""
    began = time.monotonic()
    progress(f"{flavour.name}: building the root from Debian's packages, once, into {cache.directory()}")
    argv = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "mmdebstrap",
        "--mode=root",
        "--variant=essential",
        "--format=directory",
    ]
    argv += [f"--include={','.join(flavour.packages)}", "--dpkgopt=force-unsafe-io"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in flavour.left_out] + ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    argv += [f"--aptopt={option}" for option in sources.apt_options()]
    if flavour.before:
        argv += [f"--essential-hook={flavour.before}"]
    argv += [f"--customize-hook={flavour.after}", flavour.suite, os.fspath(target), *sources.lines(flavour.suite)]
    said: list[str] = []
    with (
        log.open("w") as file,
        subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=die_with_parent
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            said.append(line.rstrip())
            if match := re.match(r"I: ((?:running apt-get|downloading|extracting|installing|cleaning).*)", line):
                progress(f"{flavour.name}: {match[1].rstrip('.')} ({time.monotonic() - began:.0f} s)")
    if process.returncode != 0:
        remove_tree(target)
        raise BuildError(f"mmdebstrap failed with status {process.returncode} (all it said: {log}):\n" + "\n".join(said[-15:]))
    progress(f"{flavour.name}: built in {time.monotonic() - began:.0f} s")


def own_root(flavour: Flavour, folder: Path, *, progress: cache.Progress = cache.to_stderr) -> Overlay:
    """A root of one's own at `folder`/root: a copy, but for /usr, an overlay over the cached one, to be mounted wherever the root is used.

    So /etc, /opt and /var are on a real file system, as Docker's and rkt's own overlays need it, and what is big is not copied:
    140 MB take from 0.4 s to 4 s, by the state of the disk, the 15 MB without /usr a tenth of that.
    """
    source = root(flavour, progress=progress)
    target = folder / "root"
    target.mkdir()
    rest = [os.fspath(path) for path in sorted(source.iterdir()) if path.name != "usr"]
    subprocess.run(["cp", "-a", "--reflink=auto", "--", *rest, os.fspath(target)], check=True, preexec_fn=die_with_parent)
    usr = Overlay(lower=source / "usr", upper=folder / "usr", work=folder / "usr-work", target=target / "usr")
    usr.make_directories()
    return usr


@dataclass(frozen=True, kw_only=True)
class Disk:
    """What a virtual machine boots: a raw ext4 image without partitions, and the kernel and initial RAM disk from the same root."""

    image: Path
    kernel: Path
    initrd: Path


def disk(flavour: Flavour, *, progress: cache.Progress = cache.to_stderr) -> Disk:
    """The cached disk of a VM flavour, with the cache's ssh key in it; never booted itself, only by way of a qcow2 overlay."""
    disks = cache.directory() / "disks"
    disks.mkdir(exist_ok=True)
    key = ssh_key().with_suffix(".pub")
    wanted = disks / f"{flavour.key}-{hashlib.sha256(key.read_bytes()).hexdigest()[:8]}"
    with cache.locked(disks / f"{wanted.name}.lock"):
        if not wanted.is_dir():
            building = disks / f"{wanted.name}.building"
            remove_tree(building)
            building.mkdir()
            progress(f"{flavour.name}: making the disk")
            whole = whole_root(flavour, building, progress=progress)
            with whole.mounted() as tree:
                make_disk(tree, building)
            for path in whole[1:]:
                remove_tree(path)
            building.rename(wanted)
    return Disk(image=wanted / "disk.raw", kernel=wanted / "vmlinuz", initrd=wanted / "initrd.img")


def whole_root(flavour: Flavour, folder: Path, *, progress: cache.Progress = cache.to_stderr) -> Overlay:
    """A root of one's own below `folder`, all of it an overlay over the cached one: to make a disk of."""
    whole = Overlay(lower=root(flavour, progress=progress), upper=folder / "upper", work=folder / "work", target=folder / "root")
    whole.make_directories()
    return whole


def make_disk(tree: Path, folder: Path, *, size: str = "6G") -> Disk:
    """Make `folder`/disk.raw (sparse) of the root `tree`, which gets the cache's ssh key, and put kernel and initrd beside it."""
    keys = tree / "root/.ssh"
    keys.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(ssh_key().with_suffix(".pub"), keys / "authorized_keys")
    made = Disk(image=folder / "disk.raw", kernel=folder / "vmlinuz", initrd=folder / "initrd.img")
    for link, file in (("vmlinuz", made.kernel), ("initrd.img", made.initrd)):
        shutil.copy(tree / os.readlink(tree / link).lstrip("/"), file)
    _make_filesystem(tree, made.image, size)
    return made


def make_usr_disk(tree: Path, folder: Path) -> None:
    """Make `folder`/usr.raw, mounted read only at boot, of the root's /usr, which `make_disk` then finds empty: while `tree` is mounted."""
    _make_filesystem(tree / "usr", folder / "usr.raw", "2G")
    with (tree / "etc/fstab").open("a") as table:
        table.write("/dev/vdb /usr ext4 ro,nodev 0 0\n")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", os.fspath(tree / "usr")], check=True)


def _make_filesystem(tree: Path, image: Path, size: str) -> None:
    options = ["-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0", "-d", os.fspath(tree)]
    subprocess.run(["mke2fs", *options, os.fspath(image), size], check=True, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent)


def ssh_key() -> Path:
    """The private key that opens every virtual machine of this cache; made the first time."""
    key = cache.directory() / "ssh/id_ed25519"
    with cache.locked(cache.directory() / "ssh.lock"):
        if not key.exists():
            remove_tree(key.parent)
            key.parent.mkdir(mode=0o700)
            fresh = key.with_name("new")
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "skim-test-host", "-f", os.fspath(fresh)],
                check=True,
                stdin=subprocess.DEVNULL,
            )
            fresh.with_suffix(".pub").rename(key.with_suffix(".pub"))
            fresh.rename(key)
    return key


def remove_tree(path: Path) -> None:
    """rm -rf, which may meet a file system's worth of files; nothing there is fine."""
    subprocess.run(["rm", "-rf", "--one-file-system", "--", os.fspath(path)], check=True)


_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """In a child, before exec: be killed when the parent dies, however it dies (PR_SET_PDEATHSIG, prctl(2))."""
    _libc.prctl(1, signal.SIGKILL, 0, 0, 0)
