"""What the command line of `run` and `prepare` asks for, as values (contract section 4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appc.isolators import Isolator
    from appc.pod import ExposedPort, Mount, Volume


class AppRequest(NamedTuple):
    """One image and what its flags override; None, "" and () for what they do not.

    `memory`, `cpu` are appended to the image's isolators, the others replace theirs. `seccomp` is the flag's text, which rkt checks only
    when the manifest is made.
    """

    image: str
    arguments: tuple[str, ...] = ()
    name: str = ""
    exec: str = ""
    signature: str = ""
    working_directory: str = ""
    read_only_root_fs: bool = False
    mounts: tuple[Mount, ...] = ()
    user: str = ""
    group: str = ""
    supplementary_gids: tuple[int, ...] | None = None
    memory: Isolator | None = None
    cpu: Isolator | None = None
    cpu_shares: Isolator | None = None
    oom_score_adj: Isolator | None = None
    capabilities_retain: Isolator | None = None
    capabilities_remove: Isolator | None = None
    seccomp: str = ""
    annotations: Mapping[str, str] | None = None
    user_annotations: Mapping[str, str] | None = None
    user_labels: Mapping[str, str] | None = None
    environment: Mapping[str, str] | None = None
    streams: Mapping[str, str] | None = None


class PodRequest(NamedTuple):
    """A whole pod. `environment_file` and `environment` are those for all apps; `pod_manifest` a path, with which there are no apps."""

    apps: tuple[AppRequest, ...] = ()
    mounts: tuple[Mount, ...] = ()
    volumes: tuple[Volume, ...] = ()
    ports: tuple[ExposedPort, ...] = ()
    inherit_environment: bool = False
    environment_file: Mapping[str, str] = {}  # never changed; values here are not
    environment: Mapping[str, str] = {}
    pod_manifest: str = ""
    no_overlay: bool = False
    pull_policy: str = "new"
