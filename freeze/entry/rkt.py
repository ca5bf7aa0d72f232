"""What the frozen program `rkt` starts with: the package's own front door, which imports its siblings relative to itself."""

from leave import leave

from stage0.__main__ import main

leave(main())
