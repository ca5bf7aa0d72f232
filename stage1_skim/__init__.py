"""The stage1 image's entrypoints: run, enter, stop, gc. The apps are services of the host's systemd, without chroot or namespaces."""
