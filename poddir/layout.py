"""Names and paths of the data directory and of a pod directory (contract sections 1.1 and 1.3).

Functions that take `pod` want the pod's directory: an absolute path, or "" where the working directory is the pod, as in every stage1
entrypoint.
"""

from __future__ import annotations

from os.path import join

DEFAULT_DATA_DIRECTORY = "/var/lib/rkt"

# Modes of what stage0 makes in a pod directory.
DIRECTORY_MODE = 0o750
FILE_MODE = 0o640

# What every tree store ID begins with.
TREE_ID_PREFIX = "deps-"

# Files at the top of a pod directory.
POD_MANIFEST = "pod"
POD_LOCK = "pod.lck"
POD_CREATED = "pod-created"
STAGE1_TREE_STORE_ID = "stage1TreeStoreID"
OVERLAY_PREPARED = "overlay-prepared"
PRIVATE_USERS_PREPARED = "private-users-prepared"
PID = "pid"
PPID = "ppid"
NETWORKS = "net-info.json"
SHARED_VOLUMES = "sharedVolumes"
STAGE1 = "stage1"
APPS_INFO = "appsinfo"
OVERLAY = "overlay"

# Inside the stage1 rootfs.
STAGE2 = "opt/stage2"
STATUS = "rkt/status"
ENVIRONMENT = "rkt/env"
SUPERVISOR_STATUS = "rkt/supervisor-status"
SUPERVISOR_READY = "ready"
RESOLV_CONF = "etc/rkt-resolv.conf"
HOSTS = "etc/rkt-hosts"

# Environment of stage1's `run` (contract section 2.6).
LOCK_DESCRIPTOR_VARIABLE = "RKT_LOCK_FD"
SELINUX_CONTEXT_VARIABLE = "RKT_SELINUX_CONTEXT"
SELINUX_MOUNT_CONTEXT_VARIABLE = "RKT_SELINUX_MOUNT_CONTEXT"


def pod_manifest(pod: str) -> str:
    """The pod manifest."""
    return join(pod, POD_MANIFEST)


def stage1_manifest(pod: str) -> str:
    """The stage1's image manifest, which names the entrypoints."""
    return join(pod, STAGE1, "manifest")


def stage1_rootfs(pod: str) -> str:
    """`$S1`, the root of stage1's files: an overlay mount or a full copy."""
    return join(pod, STAGE1, "rootfs")


def app_directory(pod: str, app: str) -> str:
    """`$S1/opt/stage2/<app>`: the app's manifest and rootfs."""
    return join(pod, STAGE1, "rootfs", STAGE2, app)


def app_rootfs(pod: str, app: str) -> str:
    """`$APPROOT`, the app's file system."""
    return join(app_directory(pod, app), "rootfs")


def app_image_manifest(pod: str, app: str) -> str:
    """The app's image manifest as stage1 reads it."""
    return join(app_directory(pod, app), "manifest")


def app_info(pod: str, app: str) -> str:
    """`appsinfo/<app>`: what stage0 keeps of an app's image."""
    return join(pod, APPS_INFO, app)


def app_info_manifest(pod: str, app: str) -> str:
    """The app's image manifest as stage0 keeps it."""
    return join(pod, APPS_INFO, app, "manifest")


def app_tree_store_id(pod: str, app: str) -> str:
    """The file naming the app's rendered image; absent where the pod was prepared by copying."""
    return join(pod, APPS_INFO, app, "treeStoreID")


def app_status(pod: str, app: str) -> str:
    """The file that stage1 writes an ended app's exit status to, as stage1 sees it (through the mount)."""
    return join(pod, STAGE1, "rootfs", STATUS, app)


def app_environment(pod: str, app: str) -> str:
    """The file of `KEY=value` lines that `enter` reads."""
    return join(pod, STAGE1, "rootfs", ENVIRONMENT, app)


def supervisor_status(pod: str) -> str:
    """The link whose target `ready` says that the pod is up."""
    return join(pod, STAGE1, "rootfs", SUPERVISOR_STATUS)


def shared_volume(pod: str, volume: str) -> str:
    """What backs the volume of kind `empty` of that name."""
    return join(pod, SHARED_VOLUMES, volume)


def overlay_directory(pod: str, tree_id: str) -> str:
    """What holds `upper` and `work` of the overlays over one rendered image."""
    return join(pod, OVERLAY, tree_id)


def overlay_upper(pod: str, tree_id: str, app: str = "") -> str:
    """The upper layer: of stage1 itself, or of one app (two apps of one image have one each)."""
    return join(pod, OVERLAY, tree_id, "upper", app) if app else join(pod, OVERLAY, tree_id, "upper")


def overlay_work(pod: str, tree_id: str, app: str = "") -> str:
    """The overlay's work directory, beside its upper layer."""
    return join(pod, OVERLAY, tree_id, "work", app) if app else join(pod, OVERLAY, tree_id, "work")


def pods_directory(data_directory: str, state_directory: str) -> str:
    """`pods/<embryo|prepare|…>` of a data directory."""
    return join(data_directory, "pods", state_directory)


def store_directory(data_directory: str) -> str:
    """`cas`, the image store."""
    return join(data_directory, "cas")


def roots_directory(data_directory: str) -> str:
    """`cas/roots`: each file lists, one on a line, the keys of images that `image gc` keeps for the one it is named after (not in rkt)."""
    return join(data_directory, "cas", "roots")


def tree_rootfs(data_directory: str, tree_id: str) -> str:
    """The rootfs of a rendered image in the tree store."""
    return join(data_directory, "cas", "tree", tree_id, "rootfs")


def locks_directory(data_directory: str) -> str:
    """`locks`, where prepareLock is."""
    return join(data_directory, "locks")
