"""policykd.cli."""
