"""What the frozen program `stage1` starts with: the package's own front door, which imports its siblings relative to itself."""

from leave import leave

from stage1_skim.__main__ import main

leave(main())
