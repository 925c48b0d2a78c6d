"""policykd.report."""
