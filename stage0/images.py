"""The images of a pod: found by what the user wrote, taken into the store if they are files, rendered (contract sections 2.2, 2.3, 7.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appc.app import Label
from appc.errors import UserError

from .image_reference import HASH, PATH, kind_of_reference, parse_image_name
from .output import Failure, Log
from .store import ImageNotFound, Store
from .tree_store import TreeStore

if TYPE_CHECKING:
    from appc.image import ImageManifest

    from .context import Context
    from .request import PodRequest

_MACHINES = {"x86_64": "amd64", "aarch64": "aarch64", "i686": "i386", "i586": "i386", "ppc64le": "ppc64le", "armv7l": "armv7l"}


class Images:
    """The image store and the tree store of a data directory, for making a pod."""

    def __init__(self, context: Context) -> None:
        self.store = Store(context.data_directory)
        self.trees = TreeStore(self.store)
        self._unsigned = "image" in context.insecure
        self._log = Log("image", debug=context.debug)

    def find(self, reference: str, *, trusted: bool = False) -> str:
        """The key of an image: in the store by ID or name, or of a file, which is taken into the store each time. Raises UserError.

        `trusted`: a file that needs no signature.
        """
        kind, text = kind_of_reference(reference)
        if kind == HASH:
            key = self.store.resolve_key(text)
        elif kind == PATH:
            return self._import(text, verified=trusted or self._unsigned)
        else:
            key = self._find_by_name(text)
        self._log.diagnostic(f"using image from local store for image name {reference}", "image")
        self.store.mark_used(key)
        return key

    def find_all(self, request: PodRequest) -> list[str]:
        """The keys of a request's images, in its order. Raises UserError."""
        for app in request.apps:
            if app.signature and not self._unsigned:
                raise UserError("--signature is not supported: signatures are not checked yet", hint="use --insecure-options=image")
        return [self.find(app.image) for app in request.apps]

    def stored(self, reference: str) -> str | None:
        """The key of an image that is in the store already; None if it is not."""
        kind, text = kind_of_reference(reference)
        try:
            return None if kind == PATH else self.store.resolve_key(text) if kind == HASH else self._find_by_name(text)
        except ImageNotFound:
            return None

    def manifest(self, key: str) -> ImageManifest:
        """Raises UserError."""
        return self.store.manifest(key)

    def manifest_text(self, key: str) -> str:
        """The manifest's canonical JSON. Raises UserError."""
        return self.store.manifest_text(key)

    def render(self, key: str) -> str:
        """Render an image with its dependencies into the tree store, unless it is there; the tree's ID. Raises Failure."""
        try:
            return self.trees.render(key)
        except (UserError, OSError) as error:
            raise Failure("error rendering tree image") from error

    def tree_rootfs(self, tree_id: str) -> str:
        """Where a rendered image's files are."""
        return self.trees.rootfs(tree_id)

    def extract(self, key: str, directory: str) -> None:
        """Put an image with its dependencies into `directory`, as `manifest` and `rootfs`, without the tree store. Raises Failure."""
        from .rendering import layers, render_into

        try:
            render_into(self.store, layers(self.store, key), directory)
        except (UserError, OSError) as error:
            raise Failure("error rendering ACI") from error

    def _import(self, path: str, *, verified: bool) -> str:
        from .image_import import import_image

        self._log.diagnostic(f"using image from file {path}", "image")
        return import_image(self.store, path, verified=verified)

    def _find_by_name(self, text: str) -> str:
        name, labels = parse_image_name(text)
        given = {label.name for label in labels}
        defaults = [Label(name=label, value=value) for label, value in _host_labels() if label not in given]
        try:
            return self.store.find(name, [*labels, *defaults])
        except ImageNotFound as error:
            hint = "only images of the store and of files can be used: fetch the image's file first"
            raise ImageNotFound(error.message, hint=hint) from None


def open_images(context: Context) -> Images:
    """The images of the context's data directory; touches nothing."""
    return Images(context)


def _host_labels() -> tuple[tuple[str, str], ...]:
    import os

    machine = os.uname().machine
    return ("os", "linux"), ("arch", _MACHINES.get(machine, machine))
