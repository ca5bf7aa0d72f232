"""Names of annotations that stage0 and stage1 give a meaning to (contract sections 3 and 4.6)."""

from __future__ import annotations

# On a stage1 image: the entrypoints, as paths inside its rootfs, and the version of the interface it was written for.
STAGE1_RUN = "coreos.com/rkt/stage1/run"
STAGE1_ENTER = "coreos.com/rkt/stage1/enter"
STAGE1_STOP = "coreos.com/rkt/stage1/stop"
STAGE1_GC = "coreos.com/rkt/stage1/gc"
STAGE1_INTERFACE_VERSION = "coreos.com/rkt/stage1/interface-version"

# On a pod manifest.
POD_MUTABLE = "coreos.com/rkt/stage1/mutable"
POD_LOG_MODE = "coreos.com/rkt/experiment/logmode"
POD_LOG_DIRECTORY = "coreos.com/rkt/experiment/kubernetes-log-dir"

# On an app's entry in the pod manifest: where its standard streams go.
APP_STDIN = "coreos.com/rkt/stage2/stdin"
APP_STDOUT = "coreos.com/rkt/stage2/stdout"
APP_STDERR = "coreos.com/rkt/stage2/stderr"

# On an app's image manifest.
IMAGE_SYSTEMD_NOTIFY = "appc.io/executor/supports-systemd-notify"
IMAGE_DOCKER_REPOSITORY = "appc.io/docker/repository"

# Ours, on image manifests and app entries.
SKIM_UNIT = "skim/unit"
SKIM_LIBRARIES = "skim/libraries"
SKIM_SOURCES = "skim/sources"
SKIM_POD_NAME = "skim/pod-name"
SKIM_PATH_FROM = "skim/path-from"
SKIM_AFTER = "skim/after"
SKIM_HOST_UNIT = "skim/host-unit"
