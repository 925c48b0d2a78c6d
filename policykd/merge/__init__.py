"""policykd.merge."""
