"""Builds App Container Images from a distribution's packages, a release tarball or a directory, as a recipe says."""
