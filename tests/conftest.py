"""What all tests share."""

from __future__ import annotations

import pytest

# Assertions there explain themselves as those in test modules do.
pytest.register_assert_rewrite("docker_behaviour")
