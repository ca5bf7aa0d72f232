"""The start of a prepared pod: its mounts and files, and the handing over to stage1 (contract sections 2.1, 2.4 to 2.6)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

from appc.errors import UserError
from linux.steps import reached
from poddir import layout, status
from poddir.pods import make_directories

from . import dns
from .execution import execute_program
from .output import Failure, Log, Quit
from .stage1 import read_stage1, run_arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poddir.pods import Pod

    from .context import Context
    from .stage1 import RunOptions

_GROUP = "rkt"


def run_pod(context: Context, pod: Pod, apps: Sequence[str], options: RunOptions, *, overlay: bool, group: int) -> NoReturn:
    """Become stage1's `run`. The pod is in `run`, locked by us; the lock's descriptor stays open across the exec. Raises Quit."""
    log = Log("stage0", debug=context.debug)
    try:
        log.diagnostic("Setting up stage1")
        if overlay:
            _mount_stage1(context, pod.path, group)
        reached("stage1-mounted")
        log.diagnostic(f"Wrote filesystem to {pod.path}")
        for app in apps:
            _set_up_app(context, pod.path, app, overlay=overlay, group=group)
        _write_names(pod.path, options.names)
        log.diagnostic(f"Pivoting to filesystem {pod.path}")
        os.chdir(pod.path)
        arguments, warnings = run_arguments(read_stage1(pod.path), pod.uuid, options)
        for warning in warnings:
            log.say(warning)
        reached("exec")
        os.set_inheritable(pod.descriptor, True)
        log.diagnostic(f"Execing [{' '.join(arguments)}]")
        execute_program(
            arguments,
            {
                layout.LOCK_DESCRIPTOR_VARIABLE: str(pod.descriptor),
                layout.SELINUX_CONTEXT_VARIABLE: "",
                layout.SELINUX_MOUNT_CONTEXT_VARIABLE: "",
            },
        )
    except (UserError, OSError) as error:
        log.failure(error)
        raise Quit from None


def group_of_rkt(context: Context) -> int:
    """The group that may read the exit statuses, -1 if there is none; then a line says so."""
    found = _group_id("/etc/group")
    if found is None:
        import grp  # the C library looks where nsswitch.conf says; the usual case is faster without it

        try:
            found = grp.getgrnam(_GROUP).gr_gid
        except KeyError:
            found = -1
            context.log.say(f'group "{_GROUP}" not found, will use default gid when rendering images')
    return found


def _group_id(path: str) -> int | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(_GROUP + ":"):
                    return int(line.split(":")[2])
    except (OSError, ValueError, IndexError):
        pass
    return None


def _mount_stage1(context: Context, pod: str, group: int) -> None:
    try:
        tree_id = status.stage1_tree_id(pod)
        _render(context, pod, tree_id, os.path.join(pod, layout.STAGE1), "", group)
        # `status` reads below the upper layer, so have the directory copied up.
        os.utime(os.path.join(layout.stage1_rootfs(pod), layout.STATUS))
    except (UserError, OSError) as error:
        raise Failure("error setting up stage1") from error


def _set_up_app(context: Context, pod: str, app: str, *, overlay: bool, group: int) -> None:
    try:
        if overlay:
            directory = layout.app_directory(pod, app)
            make_directories(directory)
            tree_id = status.app_tree_id(pod, app)
            _copy_file(layout.app_info_manifest(pod, app), layout.app_image_manifest(pod, app))
            _render(context, pod, tree_id, directory, app, group)
        _link_mtab(layout.app_rootfs(pod, app))
    except (UserError, OSError) as error:
        raise Failure("error setting up app image") from error


def _render(context: Context, pod: str, tree_id: str, destination: str, app: str, group: int) -> None:
    from .overlay import render_overlay

    try:
        render_overlay(layout.tree_rootfs(context.data_directory, tree_id), pod, tree_id, destination, app, group)
    except UserError as error:
        raise Failure("error rendering overlay filesystem") from error


def _copy_file(source: str, target: str) -> None:
    with open(source, "rb") as reading, open(target, "wb") as writing:
        writing.write(reading.read())
    os.chmod(target, os.stat(source).st_mode & 0o7777)


def _link_mtab(rootfs: str) -> None:
    """Programs such as mount expect /etc/mtab. An image's own stays, and an image without /etc gets none."""
    directory = os.path.join(rootfs, "etc")
    if os.path.islink(directory) or not os.path.isdir(directory):
        return
    try:
        os.symlink("../proc/self/mounts", os.path.join(directory, "mtab"))
    except FileExistsError:
        pass


def _write_names(pod: str, names: dns.Names) -> None:
    rootfs = layout.stage1_rootfs(pod)
    if "stage0" not in (names.resolv_mode, names.hosts_mode):
        return
    os.makedirs(os.path.join(rootfs, "etc"), 0o755, exist_ok=True)
    if names.resolv_mode == "stage0":
        with open(os.path.join(rootfs, layout.RESOLV_CONF), "w", encoding="utf-8") as file:
            file.write(dns.resolv_conf(names))
    if names.hosts_mode == "stage0":
        try:
            with open(os.path.join(rootfs, "etc/hosts-fallback"), encoding="utf-8") as file:
                fallback = file.read()
        except OSError:
            fallback = None
        with open(os.path.join(rootfs, layout.HOSTS), "w", encoding="utf-8") as file:
            file.write(dns.hosts_file(names, fallback))
