"""Two results of one patient -> what changed: numbers, maps, classes, a page."""
