"""What the frozen program `skim` starts with: the package's own front door, which imports its siblings relative to itself."""

from leave import leave

from engine.__main__ import run

leave(run())
