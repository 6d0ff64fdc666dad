"""The outside world, a folder for each kind of neighbour; each implements ports of `core`."""
