"""policykd.agents."""
