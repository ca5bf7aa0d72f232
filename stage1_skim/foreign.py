"""Images that aci-build has not relocated, such as a distribution's root packed as it is: run with their own libraries all the same.

Their programs name a loader that is the host's here, with the host's libraries. So once for every rendered image `relocation` makes a layer
of changed files, which `views` keeps; it becomes a lower layer of each app's overlay, above the image's tree, which nobody writes. The same
stack, read-only, is at `/run/skim/i/<key>`, by which the changed files name each other. Without overlay the pod's own copy is changed in
place and bound there.

An image without a loader (static programs alone), or with aci-build's annotation, costs a look at two names and is left alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from appc.errors import UserError
from linux import inside
from poddir import annotations as names
from poddir import layout
from stage1_skim.places import PUBLIC_DIRECTORY

if TYPE_CHECKING:
    from stage1_skim.pod import Pod, PodApp


GLIBC = "/lib64/ld-linux-x86-64.so.2"
MUSL = "/lib/ld-musl-x86_64.so.1"
OURS = "/.ld"  # in a relocated root: what the walk made
LOADER_CACHE = f"{OURS}/cache"
VIEW = f"{OURS}/view"  # the path that the root's files name it by

_FIRST_PAGE = 4096


class ForeignImage(NamedTuple):
    """An app's root to relocate. `tree` is the rendered image below its overlay; "" for a root that is the pod's own copy."""

    app: str
    image: str
    root: str
    tree_id: str
    tree: str
    pod: str

    @property
    def seed(self) -> str:
        """What the key is made of: hex digits at its end."""
        return self.tree_id if self.tree else os.path.basename(self.pod)


def is_foreign(app: PodApp) -> bool:
    """Whether the image has a loader where distributions have theirs; one of aci-build's has it elsewhere."""
    return not app.image.annotation(names.SKIM_LIBRARIES) and any(os.path.isfile(inside.outside(app.root, path)) for path in (GLIBC, MUSL))


def foreign_image(pod: Pod, app: PodApp) -> ForeignImage | None:
    """None for an image that needs nothing."""
    if not is_foreign(app):
        return None
    tree_id = read_text(layout.app_tree_store_id(pod.directory, app.name))
    data = os.path.dirname(os.path.dirname(os.path.dirname(pod.directory)))
    tree = layout.tree_rootfs(data, tree_id) if tree_id else ""
    overlaid = tree and os.path.isdir(tree) and os.path.ismount(app.root)
    return ForeignImage(
        app=app.name, image=str(app.image.name), root=app.root, tree_id=tree_id, tree=tree if overlaid else "", pod=pod.directory
    )


def check_program(app: PodApp, program: str) -> str | None:
    """A warning for a program (a path in the image) that the host's loader will load; raises UserError for one that nothing can."""
    if app.image.annotation(names.SKIM_LIBRARIES):
        return None
    interpreter = _interpreter(app.root + program)
    own = os.path.isfile(inside.outside(app.root, interpreter)) if interpreter else False
    if not interpreter or interpreter.startswith(PUBLIC_DIRECTORY + "/") or (own and interpreter in (GLIBC, MUSL)):
        return None
    needs = f'app "{app.name}": {program} of image {app.image.name} needs the loader {interpreter}'
    hint = "build the image with aci-build, which takes every program's loader and libraries along"
    if own:
        raise UserError(f"{needs}, which stage1_skim cannot make use the image's libraries", hint=hint)
    if not os.path.isfile(interpreter):
        raise UserError(f"{needs}, which neither the image nor the host has", hint=hint)
    return f"{needs}, which the image lacks: it runs with the host's loader and the host's libraries"


def _interpreter(path: str) -> str:
    """PT_INTERP. Linkers put it into the first page, where static programs have nothing of the kind: those need no closer look."""
    with open(path, "rb", buffering=0) as file:
        start = file.read(_FIRST_PAGE)
        if not start.startswith(b"\x7fELF") or b".so" not in start:
            return ""
        from stage1_skim.elf import read_elf

        elf = read_elf(file.fileno())
    return os.fsdecode(elf.interpreter.value) if elf and elf.interpreter else ""


def read_text(path: str) -> str:
    """What a file of ours says; nothing where something else is in its place, as an image may have it."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except OSError:
        return ""
