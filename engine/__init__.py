"""Setting up, showing and taking off the engine: the images that together are this host's Docker. The command `skim`."""
