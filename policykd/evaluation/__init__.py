"""policykd.evaluation."""
